"""Which pictures an annotation file describes, and where they are.

AnyText's benchmark has four pictures of each entry, ``<stem>_0.jpg`` to ``<stem>_3.jpg`` (stem: the name up to its
first dot, as upstream); any other folder has one, under the entry's own name or stem.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anytext_lib.data.anyword import AnnotatedImage, Annotation, AnyWordError, read_anyword
from anytext_lib.errors import MissingFileError, OptionError

SUFFIXES = (".jpg", ".png", ".jpeg", ".webp", ".bmp")
MAX_LINES = 20  # upstream reads the first 20 lines of an entry
SHOWN = 5


@dataclass(frozen=True)
class Picture:
    """One file to be looked at.

    Attributes:
        path, name: where it is, and its path in the folder. ``item``: the entry of the annotation file it belongs to.
        caption: of the entry. ``lines``: those to be read: valid ones, in the order of the file.
        original: the picture that the entry itself names (it need not exist).
    """

    path: Path
    name: str
    item: int
    caption: str = ""
    lines: tuple[Annotation, ...] = ()
    original: Path | None = None


def find_pictures(annotations: str | os.PathLike, folder: str | os.PathLike | None = None, per_item: int | None = None,
                  max_lines: int = MAX_LINES, skip_missing: bool = False) -> tuple[list[Picture], list[str]]:
    """The pictures of all entries.

    Args:
        annotations: JSON in the AnyWord form; polygons are in pixels of the pictures (of 512 in the benchmark).
        folder: of the pictures; None takes the JSON's own.
        per_item: pictures of an entry; None counts those of the first entry that has any.
        max_lines: lines of an entry that count: the first ones that are valid.
        skip_missing: leave out pictures that are not there.

    Returns:
        the pictures, entry by entry, and the names of those that are missing.

    Raises:
        MissingFileError: no such JSON or folder, no picture at all, or a missing one without ``skip_missing``.
        AnyWordError: the JSON is malformed, or has no entry.
    """
    entries = read_anyword(annotations)
    if not entries:
        raise AnyWordError(f"{annotations} describes no picture")
    if folder is not None and not Path(folder).is_dir():
        raise MissingFileError(f"there is no folder {folder}")
    root = _root(entries[0]) if folder is None else Path(folder)
    samples = _samples(entries, root) if per_item is None else list(range(per_item))
    if not samples or max_lines < 1:
        raise OptionError(f"per_item and max_lines are at least 1, got {per_item} and {max_lines}")
    found, missing = [], []
    for item, entry in enumerate(entries):
        lines = tuple(line for line in entry.annotations if line.valid)[:max_lines]
        for sample in samples:
            path = _locate(entry, root, sample) or (_locate(entry, root, None) if per_item == 1 else None)
            if path is None:
                missing.append(entry.name if sample is None else f"{_stem(entry)}_{sample}")
            else:
                name = path.relative_to(root).as_posix()
                found.append(Picture(path, name, item, entry.caption, lines, entry.path))
    if not found or (missing and not skip_missing):
        raise MissingFileError(_complaint(annotations, root, missing, len(found)))
    return found, missing


def _root(entry: AnnotatedImage) -> Path:
    """The folder that names of entries start from: data_root of the annotation file."""
    return entry.path.parents[len(Path(entry.name).parts) - 1]


def _stem(entry: AnnotatedImage) -> str:
    return Path(entry.name).name.split(".")[0]


def _locate(entry: AnnotatedImage, root: Path, sample: int | None) -> Path | None:
    """The file of a sample; ``sample`` None: the one that bears the entry's own name, or its stem."""
    own, end = Path(entry.name), "" if sample is None else f"_{sample}"
    names = [own.name] if sample is None else []
    names += [stem + end + suffix for stem in dict.fromkeys((_stem(entry), own.stem)) for suffix in SUFFIXES]
    places = (root / own.parent / name for name in names), (root / name for name in names)
    return next((path for place in places for path in place if path.is_file()), None)


def _samples(entries: Sequence[AnnotatedImage], root: Path) -> list[int | None]:
    """Samples of the first entry that has a picture: [None], its own name, or the numbers from 0 on."""
    for entry in entries:
        if _locate(entry, root, None) is not None:
            return [None]
        count = 0
        while _locate(entry, root, count) is not None:
            count += 1
        if count:
            return list(range(count))
    return [None]


def _complaint(annotations, root: Path, missing: Sequence[str], found: int) -> str:
    listed = ", ".join(missing[:SHOWN]) + (" ..." if len(missing) > SHOWN else "")
    remedy = "" if not found else " Generate them, or say --skip-missing: the number is then one of fewer pictures."
    return (f"{len(missing)} of {len(missing) + found} pictures of {annotations} are not in {root}: {listed}.{remedy}")
