"""Annotations of millions of pictures, read once into a memory-mapped Arrow file and then shared by all processes.

The file lies beside the JSON, as ``.NAME.json.arrow``, or in a cache folder.  It is written atomically, and anew when
the JSON changes.  Processes map the same pages; no process holds the list.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from anytext_lib.data.anyword import AnnotatedImage, root_of
from anytext_lib.data.index_build import IndexStamp, StaleIndexError, build_index, read_stamp
from anytext_lib.data.index_rows import IndexBatch
from anytext_lib.errors import MissingFileError, OptionError
from anytext_lib.files import UnwritableError, print_report

CACHE = "ANYTEXT_CACHE"  # environment variable: the folder for indices that cannot lie beside their JSON
RELEASE_EVERY = 32  # items read between two hand-backs of mapped pages


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
        self._batches: dict[int, IndexBatch] = {}
        self._read = 0

    @classmethod
    def open(cls, json_path: str | os.PathLike, cache: str | os.PathLike | None = None, rebuild: bool = False,
             report: Callable[[str], None] = print_report) -> AnyWordIndex:
        """The index of an annotation file, built if there is none, or if the file has changed since.

        A file of the size and time of the last building counts as unchanged; if only the time differs its SHA-256
        decides.  Build before starting several processes (``anytext data index``), or each builds its own.

        Args:
            cache: folder for the index; by default beside the JSON, or in ``cache_folder()`` if that cannot be
                written. ``rebuild``: build in any case. ``report``: is told what happens and why.

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
            self._batches[batch] = IndexBatch(self._reader.get_batch(batch))
        item = self._batches[batch].image(row, self.root)
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


def cache_folder() -> Path:
    """Where indices go that cannot lie beside their JSON: $ANYTEXT_CACHE, else ``anytext`` in the user's cache."""
    if os.environ.get(CACHE):
        return Path(os.environ[CACHE])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "anytext"


def _places(source: Path, cache: str | os.PathLike | None) -> list[Path]:
    """Where the index of ``source`` may lie, the preferred place first."""
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
    if state.st_mtime_ns != stamp.mtime_ns and _sha256(source) != stamp.sha256:
        return f"{source.name} was changed after the index was built"
    return ""


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(path: Path) -> tuple[IndexStamp, object, mmap.mmap]:
    """Map the file; no entry is read."""
    import pyarrow as pa

    stamp = read_stamp(path)
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return stamp, pa.ipc.open_file(pa.py_buffer(mapped)), mapped
