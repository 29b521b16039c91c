"""Annotations of millions of pictures, read once into a memory-mapped Arrow file and then shared by all processes.

The file lies beside the JSON, as ``.NAME.json.arrow``, or in a cache folder.  It is written atomically, and anew when
the JSON changes.  Processes map the same pages; no process holds the list.

Columns: name, caption: string; wm_score: double, null if unknown; skipped: int32; lines: list of {text, language:
string; valid: bool; color: int32, 0xRRGGBB, -1 if unknown; polygon: list of 2 doubles (x, y)}.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import mmap
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.data.anyword import AnnotatedImage, Annotation, read_entry, root_of
from anytext_lib.data.anyword_stream import AnyWordStream
from anytext_lib.data.pictures import locate
from anytext_lib.errors import AnyTextError, MissingFileError, OptionError
from anytext_lib.files import UnwritableError, atomic_path, file_hash, print_report

CACHE = "ANYTEXT_CACHE"  # environment variable: the folder for indices that cannot lie beside their JSON
RELEASE_EVERY = 32  # items read between two hand-backs of mapped pages
VERSION = 2
ROWS = 16384  # entries of a batch
STAMP = b"anyword"


class StaleIndexError(AnyTextError, ValueError):
    """A file is no index, or one that this version cannot read; the message says why."""


@dataclass(frozen=True)
class IndexStamp:
    """Origin and size of an index, stored in it.

    Attributes:
        entries: number of entries. ``rows``: entries of every batch but the last. ``lines``: lines of text in all.
        data_root: folder of the pictures, as the JSON says it. ``size`` (bytes), ``mtime_ns``, ``sha256``: of the JSON.
        source: where the JSON lies: its name if the index lies beside it (they move together), else its whole path;
            '' if there is none.
    """

    entries: int
    rows: int
    lines: int
    data_root: str
    size: int
    mtime_ns: int
    sha256: str
    source: str = ""
    version: int = VERSION

    def json_path(self, index: Path) -> Path | None:
        """The JSON that the file ``index`` was built from; None if it was built from none."""
        return index.parent / self.source if self.source else None

    def root(self, index: Path) -> Path:
        """The folder of the pictures."""
        return root_of(self.json_path(index) or index, self.data_root)


class AnyWordIndex(Sequence[AnnotatedImage]):
    """A read-only list of annotated pictures in a memory-mapped file.

    ``index[i]`` equals ``read_anyword(json)[i]`` in every field; ``index[a:b]`` and ``index.sample(percent, seed)``
    are views on the same file.  Pickling keeps the name of the file and the choice of rows only: a worker maps the file
    again.  Pages that have been read are handed back every few items, so that the resident memory of a process does
    not grow with the file (the operating system keeps them in its cache, once for all processes).

    Args:
        path: the Arrow file. ``root``: the folder of the pictures, by default as the index says it.
        rows: a choice of entries, default all.

    Raises:
        MissingFileError: there is no such file. StaleIndexError: it is not an index, or one of another version.
    """

    def __init__(self, path: str | os.PathLike, root: str | os.PathLike | None = None,
                 rows: range | np.ndarray | None = None):
        self.path = Path(path)
        self.stamp, self._reader, self._map = _open(self.path)
        self.root = self.stamp.root(self.path) if root is None else Path(root)
        self.rows = range(self.stamp.entries) if rows is None else rows
        self._batches: dict[int, Any] = {}
        self._read = 0

    @classmethod
    def open(cls, json_path: str | os.PathLike, cache: str | os.PathLike | None = None, rebuild: bool = False,
             report: Callable[[str], None] = print_report) -> AnyWordIndex:
        """The index of an annotation file, built if there is none, or if the file has changed since.

        A file of the size and time of the last building counts as unchanged; if only the time differs its SHA-256
        decides.  Build before starting several processes (``anytext data index``), or each builds its own.

        Args:
            cache: folder for the index; by default beside the JSON, or in ``cache_folder()`` if that cannot be
                written. ``rebuild``: build in any case. ``report``: called with messages on what happens and why.

        Raises:
            MissingFileError: no such JSON. AnyWordError: it is malformed (nothing is written then).
            UnwritableError: no folder for the index can be written, or the disk is full.
        """
        source = Path(json_path)
        if not source.is_file():
            raise MissingFileError(f"no annotation file {source}: give the path of a JSON file in the AnyWord form")
        reason = "as asked"
        for place in _places(source, cache):
            if rebuild or not place.is_file():
                continue
            reason = _why_stale(place, source)
            if not reason:
                return cls(place, root_of(source, read_stamp(place).data_root))
            report(f"the index {place} is out of date ({reason}); building it anew")
        target = _writable(_places(source, cache))
        stamp = build_index(source, target, report)
        return cls(target, root_of(source, stamp.data_root))

    @classmethod
    def load(cls, path: str | os.PathLike) -> AnyWordIndex:
        """The index in an Arrow file, which is up to date with its JSON if that is still where it was.

        Raises:
            MissingFileError: there is no such file. StaleIndexError: not an index, or the JSON has changed since.
        """
        made = cls(path)
        source = made.stamp.json_path(made.path)
        if source is not None and source.is_file() and (reason := _why_stale(made.path, source)):
            raise StaleIndexError(f"the index {path} is out of date ({reason}): build it again with `anytext data "
                                  f"index {source}`, or name the JSON, which does so")
        return made

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return AnyWordIndex(self.path, self.root, self.rows[i])
        batch, row = divmod(int(self.rows[i]), self.stamp.rows)
        if batch not in self._batches:
            self._batches[batch] = self._reader.get_batch(batch)
        item = _image(self._batches[batch].slice(row, 1).to_pylist()[0], self.root)
        self._read += 1
        if self._read % RELEASE_EVERY == 0:
            self._release()
        return item

    def sample(self, percent: float, seed: int = 0) -> AnyWordIndex:
        """A view on round(len * percent) entries drawn with ``seed``, in the order of the file.

        ``percent`` is a share in (0, 1], as upstream's option of this name.  A smaller share is a part of a larger one
        with the same seed.
        """
        if not 0 < percent <= 1:
            raise OptionError(f"percent is a share above 0 and at most 1, got {percent}")
        if percent == 1:
            return self
        kept = np.random.default_rng(seed).permutation(len(self))[: round(len(self) * percent)]
        return AnyWordIndex(self.path, self.root, np.asarray(self.rows, np.uint32)[np.sort(kept)])

    def name(self, i: int) -> str:
        """``img_name`` of entry ``i`` without reading the rest of it."""
        batch, row = divmod(int(self.rows[i]), self.stamp.rows)
        return self._reader.get_batch(batch).column("name")[row].as_py()

    def wm_scores(self) -> np.ndarray:
        """(len,) float64: the watermark score of every entry, NaN where there is none, without reading the rest."""
        batches = (self._reader.get_batch(k) for k in range(self._reader.num_record_batches))
        scores = np.concatenate([batch.column("wm_score").to_numpy(zero_copy_only=False) for batch in batches])
        return scores[np.asarray(self.rows, np.int64)]

    def _release(self) -> None:
        if hasattr(self._map, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def __reduce__(self):
        return AnyWordIndex, (self.path, self.root, self.rows)

    def __repr__(self) -> str:
        return f"AnyWordIndex({len(self)} of {self.stamp.entries} entries, {self.path})"


def build_index(json_path: str | os.PathLike, target: str | os.PathLike,
                report: Callable[[str], None] = lambda message: None) -> IndexStamp:
    """Read ``json_path`` as a stream and write its index to ``target``, atomically.

    Raises:
        AnyWordError: the JSON is malformed, truncated, or changed while it was read; ``target`` is left as it was.
    """
    source = Path(json_path)
    before, start, told = source.stat(), time.monotonic(), time.monotonic()
    stream = AnyWordStream(source)

    def entries() -> Iterable[AnnotatedImage]:
        nonlocal told
        for number, row in stream:
            yield read_entry(row, source, number, Path())
            if number % ROWS == 0 and time.monotonic() - told > 10:
                told = time.monotonic()
                report(f"index of {source.name}: {number} entries after {told - start:.0f} s")

    def stamp(count: int, lines: int) -> IndexStamp:
        after = source.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise StaleIndexError(f"{source} was changed while its index was built; build it again")
        beside = source.resolve().parent == Path(target).resolve().parent
        return IndexStamp(count, ROWS, lines, stream.data_root, before.st_size, before.st_mtime_ns, stream.sha256,
                          source.name if beside else str(source.resolve()))

    made = write_index(entries(), target, stamp)
    report(f"wrote {target}: {made.entries} entries, {Path(target).stat().st_size / 1e6:.1f} MB, "
           f"in {time.monotonic() - start:.1f} s")
    return made


def write_index(images: Iterable[AnnotatedImage], target: str | os.PathLike,
                stamp: Callable[[int, int], IndexStamp] | None = None) -> IndexStamp:
    """Write ``images`` as an index, atomically; ``stamp`` is called with the numbers of entries and lines at the end.

    Returns the stamp; without ``stamp`` it names no JSON, for data that never were in one.
    """
    import pyarrow as pa

    count, lines, schema, images = 0, 0, _schema(), iter(images)
    with atomic_path(target) as temporary, pa.OSFile(str(temporary), "wb") as sink:
        with pa.ipc.new_file(sink, schema) as writer:
            while rows := [_row(image) for image in itertools.islice(images, ROWS)]:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, schema))
                count, lines = count + len(rows), lines + sum(len(row["lines"]) for row in rows)
            made = stamp(count, lines) if stamp else IndexStamp(count, ROWS, lines, ".", 0, 0, "")
            # the stamp is known at the end only, and goes with a last, empty batch
            note = {STAMP: json.dumps(asdict(made))}
            writer.write_batch(pa.RecordBatch.from_pylist([], schema), custom_metadata=pa.KeyValueMetadata(note))
    return made


def read_stamp(path: str | os.PathLike) -> IndexStamp:
    """The stamp of an index.

    Raises:
        MissingFileError: no such file. StaleIndexError: not an index, damaged, or of another version.
    """
    import pyarrow as pa

    if not Path(path).is_file():
        raise MissingFileError(f"there is no index {path}: build it with `anytext data index` and the JSON")
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            _, note = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
            found = json.loads(note[STAMP])
            known = reader.schema.equals(_schema())
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        raise StaleIndexError(f"{path} is damaged or no index ({error}): build it again with `anytext data index` and "
                              "the JSON") from error
    if found.get("version") != VERSION or not known:
        raise StaleIndexError(f"{path} was written by another version of the library: build it again with `anytext "
                              "data index` and the JSON")
    return IndexStamp(**found)


def cache_folder() -> Path:
    """Folder for indices that cannot lie beside their JSON: $ANYTEXT_CACHE, else ``anytext`` in the user's cache."""
    if os.environ.get(CACHE):
        return Path(os.environ[CACHE])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anytext"


def _places(source: Path, cache: str | os.PathLike | None) -> list[Path]:
    """Paths at which the index of ``source`` may lie, the preferred one first."""
    digest = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:12]
    stored = f"{source.stem}-{digest}.arrow"
    if cache is not None:
        return [Path(cache) / stored]
    return [source.parent / f".{source.name}.arrow", cache_folder() / stored]


def _writable(places: list[Path]) -> Path:
    """The first place whose folder can be written."""
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            probe = place.with_name(f"{place.name}.{os.getpid()}.probe")
            probe.touch()
            probe.unlink()
            return place
        except OSError:
            continue
    raise UnwritableError(f"the index can be written neither to {' nor to '.join(str(p.parent) for p in places)}: give "
                          f"a folder with `cache` (--cache), or set {CACHE}")


def _why_stale(place: Path, source: Path) -> str:
    """Why the index at ``place`` does not fit ``source``; '' if it does."""
    try:
        stamp = read_stamp(place)
    except StaleIndexError as error:
        return str(error)
    state = source.stat()
    if state.st_size != stamp.size:
        return f"{source.name} has {state.st_size} bytes, it had {stamp.size}"
    if state.st_mtime_ns != stamp.mtime_ns and file_hash(source) != stamp.sha256:
        return f"{source.name} was changed after the index was built"
    return ""


def _open(path: Path) -> tuple[IndexStamp, Any, mmap.mmap]:
    """Stamp, Arrow reader and mapping of the file; no entry is read."""
    import pyarrow as pa

    stamp = read_stamp(path)
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return stamp, pa.ipc.open_file(pa.py_buffer(mapped)), mapped


def _schema():
    """The Arrow schema of the file."""
    import pyarrow as pa

    line = pa.struct([("text", pa.string()), ("language", pa.string()), ("valid", pa.bool_()), ("color", pa.int32()),
                      ("polygon", pa.list_(pa.list_(pa.float64(), 2)))])
    return pa.schema([("name", pa.string()), ("caption", pa.string()), ("wm_score", pa.float64()),
                      ("skipped", pa.int32()), ("lines", pa.list_(line))])


def _row(image: AnnotatedImage) -> dict:
    """A picture as a row of the file."""
    lines = [{"text": line.text, "language": line.language, "valid": line.valid, "polygon": line.polygon.tolist(),
              "color": -1 if line.color is None else line.color[0] << 16 | line.color[1] << 8 | line.color[2]}
             for line in image.annotations]
    return {"name": image.name, "caption": image.caption, "wm_score": image.wm_score, "skipped": image.skipped,
            "lines": lines}


def _image(row: dict, root: Path) -> AnnotatedImage:
    """The picture of a row."""
    lines = []
    for line in row["lines"]:
        color = line["color"]
        rgb = None if color < 0 else (color >> 16, color >> 8 & 255, color & 255)
        lines.append(Annotation(np.array(line["polygon"], np.float64), line["text"], line["language"], line["valid"],
                                rgb))
    return AnnotatedImage(locate(root, row["name"]), row["name"], row["caption"], lines, row["wm_score"],
                          row["skipped"])
