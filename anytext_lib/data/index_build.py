"""Build the Arrow file of an ``AnyWordIndex``, holding no more than one batch of entries, and read its stamp."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from anytext_lib.data.anyword import AnnotatedImage, Where, read_entry, root_of
from anytext_lib.data.index_rows import arrow_schema, to_record_batch
from anytext_lib.data.json_stream import AnyWordStream
from anytext_lib.errors import AnyTextError, MissingFileError
from anytext_lib.files import atomic_path

VERSION = 2
ROWS = 16384  # entries of a batch
STAMP = b"anyword"


class StaleIndexError(AnyTextError, ValueError):
    """A file is no index, or one that this version cannot read; the message says why."""


@dataclass(frozen=True)
class IndexStamp:
    """What an index was built from.

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
            yield read_entry(row, Where(source, number), Path())
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

    count, lines, batch = 0, 0, []
    with atomic_path(target) as temporary, pa.OSFile(str(temporary), "wb") as sink:
        with pa.ipc.new_file(sink, arrow_schema()) as writer:
            for image in images:
                batch.append(image)
                count, lines = count + 1, lines + len(image.annotations)
                if len(batch) == ROWS:
                    writer.write_batch(to_record_batch(batch))
                    batch.clear()
            if batch:
                writer.write_batch(to_record_batch(batch))
            made = stamp(count, lines) if stamp else IndexStamp(count, ROWS, lines, ".", 0, 0, "")
            # what is known at the end only goes with a last batch, which is empty
            note = {STAMP: json.dumps(asdict(made))}
            writer.write_batch(to_record_batch([]), custom_metadata=pa.KeyValueMetadata(note))
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
            known = reader.schema.equals(arrow_schema())
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        raise StaleIndexError(f"{path} is damaged or no index ({error}): build it again with `anytext data index` and "
                              "the JSON") from error
    if found.get("version") != VERSION or not known:
        raise StaleIndexError(f"{path} was written by another version of the library: build it again with `anytext "
                              "data index` and the JSON")
    return IndexStamp(**found)
