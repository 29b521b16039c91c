"""Write pictures with their annotations into tar files (webdataset)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from anytext_lib.data.anyword import AnnotatedImage
from anytext_lib.data.atomic import atomic_path

LIST = "shards.json"


class ShardError(ValueError):
    """Shards are missing, damaged or in the way; the message says which, and what to do."""


class WrittenShards(NamedTuple):
    """What ``write_shards`` did: the tar files, the number of samples in them, and the pictures that were missing."""

    paths: list[Path]
    samples: int
    missing: list[Path]


def write_shards(records: Iterable[AnnotatedImage], folder: str | os.PathLike, per_shard: int = 1000,
                 force: bool = False, skip_missing: bool = False, name: str = "shard",
                 report: Callable[[str], None] = lambda message: None) -> WrittenShards:
    """Write ``records`` with their pictures into tar files of ``per_shard`` samples, each atomically.

    Equal input gives equal bytes.  Pictures are copied as they are, not decoded.

    Args:
        folder: made if need be. ``force``: replace shards that are there. ``skip_missing``: leave samples without a
            picture out (their numbers stay unused) instead of stopping. ``report``: is told of every shard.

    Raises:
        ShardError: there are shards already. FileNotFoundError: a picture is missing. ValueError: per_shard below 1.
    """
    out = Path(folder)
    if per_shard < 1:
        raise ValueError(f"a shard holds at least one sample, got per_shard = {per_shard}")
    _clear(out, force)
    shards, missing, held = [], [], []
    for index, record in enumerate(records):
        if not record.path.is_file():
            if not skip_missing:
                raise FileNotFoundError(f"entry {index} ({record.name!r}): there is no picture {record.path}; restore "
                                        "it, or leave such entries out with skip_missing (--skip-missing)")
            missing.append(record.path)
            continue
        held.append((index, record))
        if len(held) == per_shard:
            shards.append(_write(out / f"{name}-{len(shards):06d}.tar", held, report))
            held = []
    if held:
        shards.append(_write(out / f"{name}-{len(shards):06d}.tar", held, report))
    listing = {"samples": sum(n for _, n in shards), "shards": [{"file": p.name, "count": n} for p, n in shards]}
    with atomic_path(out / LIST) as temporary:
        temporary.write_text(json.dumps(listing, indent=1) + "\n", encoding="utf-8", newline="\n")
    return WrittenShards([path for path, _ in shards], listing["samples"], missing)


def entry_row(record: AnnotatedImage) -> dict:
    """A record as an entry of data_list, coordinates exact."""
    lines = [{"polygon": line.polygon.tolist(), "text": line.text, "language": line.language, "valid": line.valid,
              **({"color": list(line.color)} if line.color else {})} for line in record.annotations]
    score = {} if record.wm_score is None else {"wm_score": record.wm_score}
    return {"img_name": record.name, "caption": record.caption, **score, "annotations": lines}


def _clear(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ShardError(f"{out} is a file: give a folder for the shards")
    if (out / LIST).exists() and not force:
        raise ShardError(f"there are shards in {out} already: give another folder, or replace them with force "
                         "(--force)")
    if (out / LIST).exists():
        old = json.loads((out / LIST).read_text(encoding="utf-8"))["shards"]
        (out / LIST).unlink()  # first, so that an interruption leaves no list of what is gone
        for row in old:
            (out / Path(row["file"]).name).unlink(missing_ok=True)
    out.mkdir(parents=True, exist_ok=True)


def _write(path: Path, held: list[tuple[int, AnnotatedImage]], report: Callable[[str], None]) -> tuple[Path, int]:
    from webdataset import TarWriter

    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file, TarWriter(file, encoder=False, mtime=0, user="", group="") as tar:
            for index, record in held:
                suffix = record.path.suffix.lower().lstrip(".") or "jpg"
                row = json.dumps(entry_row(record), ensure_ascii=False).encode()
                tar.write({"__key__": f"{index:09d}", suffix: record.path.read_bytes(), "json": row})
    report(f"wrote {path}: {len(held)} samples, {path.stat().st_size / 1e6:.1f} MB")
    return path, len(held)
