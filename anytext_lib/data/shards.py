"""Pictures and annotations in tar files (webdataset): written, and streamed to ranks and loader workers.

A shard holds for every sample ``KEY.jpg`` (the picture's bytes as they were; any format) and ``KEY.json`` (its entry in
the AnyWord form); KEY is the number of the sample in the set.  shards.json lists the shards; it is written last.
"""

from __future__ import annotations

import json
import os
import tarfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from anytext_lib.data.anyword import AnnotatedImage, _read_entry, _Where
from anytext_lib.data.batch import Sample
from anytext_lib.data.dataset import _ITEM, BadImageWarning
from anytext_lib.data.pictures import decode_picture
from anytext_lib.data.sample import SampleConfig, build_sample
from anytext_lib.data.sampling import distributed_rank
from anytext_lib.data.shard_writer import LIST, ShardError, write_shards

__all__ = ["ShardError", "SampleMaker", "ShardSample", "ShardStream", "write_shards"]


class ShardSample(NamedTuple):
    """What a shard says of one sample.

    Attributes:
        place: number in the set of the sample whose turn it is. ``index``: of the one that is here; another one only
            if the picture of that cannot be read. ``skipped``: why, a text for each picture that could not.
        record, image: the entry, and the picture (H, W, 3) uint8, RGB.
    """

    place: int
    index: int
    record: AnnotatedImage
    image: np.ndarray
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class SampleMaker:
    """Makes of shards the very samples that ``AnyWordDataset`` makes of the same entries, seed and epoch."""

    config: SampleConfig
    seed: int = 0

    def __call__(self, item: ShardSample, epoch: int) -> Sample:
        rng = np.random.default_rng([self.seed, epoch, item.place, _ITEM])
        sample = build_sample(item.image, item.record, self.config, rng)
        return replace(sample, index=item.index, skipped=item.skipped)


class ShardStream(IterableDataset):
    """The samples of a folder of shards, read in sequence: no index and no random access.

    The epoch is a list of samples: the shards in an order drawn from seed and epoch, each in its own order.  Rank r
    of R has the r-th of R equal parts (at most R - 1 samples at the end are left out), and its loader workers share
    that part in the same way; every sample is read by exactly one worker.  Within its part a worker mixes the samples
    in a buffer, drawn from seed, epoch and part.  What is in a sample depends on its number, seed and epoch only, if
    ``make`` sees to it; so it does not depend on ranks and workers.  An epoch begins anew after an interruption; to
    resume in the middle of one use an index with ``EpochSampler``.

    Args:
        folder: what ``write_shards`` wrote. ``seed``: of the run. ``shuffle``: False keeps shards and samples in order.
        buffer: samples (not decoded) that a worker mixes; 0 does not mix.
        make: ``make(item: ShardSample, epoch)``, called in the worker, as a ``SampleMaker``; by default the ShardSample
            itself is yielded.
        rank, world: this process of how many; by default as torch.distributed says, if it runs.

    In the place of a picture that cannot be decoded comes a neighbour, so that all ranks go on in step; a
    BadImageWarning says so, and ``skipped`` carries the report to whoever trains.

    Raises:
        ShardError: no list of shards, or (while reading) a shard that is damaged or does not hold what is listed.
    """

    def __init__(self, folder: str | os.PathLike, seed: int = 0, shuffle: bool = True, buffer: int = 256,
                 make: Callable[[ShardSample, int], Any] | None = None,
                 rank: int | None = None, world: int | None = None):
        self.folder, self.seed, self.shuffle, self.buffer, self.make = Path(folder), seed, shuffle, buffer, make
        self.shards = _read_list(self.folder)
        self.count = sum(n for _, n in self.shards)
        if rank is None or world is None:
            rank, world = distributed_rank()
        if not 0 <= rank < world:
            raise ValueError(f"rank counts from 0 to world - 1, got rank {rank} of {world}")
        self.rank, self.world = rank, world
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that persist

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next pass."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Number of samples of this rank in an epoch."""
        return self.count // self.world

    def __iter__(self) -> Iterator[Any]:
        epoch, info = int(self._epoch), get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        first = self.rank * len(self)
        begin, end = (first + len(self) * part // workers for part in (worker, worker + 1))
        rng = np.random.default_rng([self.seed, epoch, begin])
        samples = self._part(begin, end, epoch)
        if self.shuffle and self.buffer:
            samples = _mixed(samples, self.buffer, rng)
        for item in _substituted(map(_decode, samples)):
            yield self.make(item, epoch) if self.make else item

    def _part(self, begin: int, end: int, epoch: int) -> Iterator[dict]:
        """The undecoded samples at places begin..end-1 of the epoch's list."""
        order = range(len(self.shards))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.shards))
        at = 0
        for k in order:
            name, count = self.shards[k]
            if at < end and at + count > begin:
                yield from _read_shard(self.folder / name, count, max(begin - at, 0), min(end - at, count))
            at += count


def _decode(raw: dict) -> tuple[int, AnnotatedImage, np.ndarray | None, str]:
    """(number, entry, picture or None, why there is none) of a sample as webdataset gives it."""
    shard, index = Path(raw["__url__"]), int(raw["__key__"])
    try:
        record = _read_entry(json.loads(raw["json"]), _Where(shard, f"sample {index}"), shard)
    except (KeyError, ValueError) as error:
        raise ShardError(f"{shard}: sample {index} has no entry that can be read ({error}): write the shards "
                         "again") from error
    suffix = next((name for name in raw if not name.startswith("__") and name != "json"), None)
    image, problem = decode_picture(raw[suffix]) if suffix else (None, "there is none")
    return index, record, image, problem and f"{shard}: sample {index} ({record.name}): {problem}"


def _substituted(decoded: Iterable[tuple]) -> Iterator[ShardSample]:
    """As many samples as are given; the next one, at the end the last one, stands in for what cannot be decoded."""
    bad: list[tuple[int, str]] = []
    good = None
    for index, record, image, problem in decoded:
        if image is None:
            warnings.warn(f"{problem}; another picture is taken in its place", BadImageWarning, stacklevel=2)
            bad.append((index, problem))
            continue
        good = index, record, image
        yield from (ShardSample(place, *good, (why,)) for place, why in bad)
        bad = []
        yield ShardSample(index, *good)
    if bad and good is None:
        raise ShardError(f"none of {len(bad)} pictures can be decoded; the first: {bad[0][1]}")
    yield from (ShardSample(place, *good, (why,)) for place, why in bad)


def _read_list(folder: Path) -> list[tuple[str, int]]:
    path = folder / LIST
    if not path.is_file():
        raise ShardError(f"no {LIST} in {folder}: write the shards with `anytext data shards`; an interrupted writing "
                         "leaves none")
    try:
        rows = [(str(row["file"]), int(row["count"])) for row in json.loads(path.read_text(encoding="utf-8"))["shards"]]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise ShardError(f"{path} is malformed ({error!r}): write the shards again") from error
    if gone := [name for name, _ in rows if not (folder / name).is_file()]:
        raise ShardError(f"{len(gone)} of {len(rows)} shards are missing in {folder}, {gone[0]} among them: restore "
                         "them, or write the shards again")
    return rows


def _read_shard(path: Path, count: int, begin: int, end: int) -> Iterator[dict]:
    """Samples begin..end-1 of a shard of ``count``, as webdataset gives them."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    seen = 0
    try:
        with open(path, "rb") as file:
            for raw in group_by_keys(tar_file_expander([{"url": str(path), "stream": file}])):
                if begin <= seen < end:
                    yield raw
                seen += 1
                if seen == end:
                    return
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ShardError(f"the shard {path} is damaged ({error.args[0]}): restore it or write it again") from error
    raise ShardError(f"the shard {path} holds {seen} samples, {count} are listed: restore it or write it again")


def _mixed(samples: Iterable[dict], size: int, rng: np.random.Generator) -> Iterator[dict]:
    """The samples in an order drawn by ``rng``, holding ``size`` of them."""
    held: list[dict] = []
    for sample in samples:
        if len(held) < size:
            held.append(sample)
            continue
        slot = int(rng.integers(size))
        yield held[slot]
        held[slot] = sample
    for slot in rng.permutation(len(held)):
        yield held[slot]
