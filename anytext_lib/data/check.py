"""Check a data set in the AnyWord form: schema, pictures, polygons, texts, with counts and remedies."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.data.anyword import AnnotatedImage, AnyWordError, Where, read_entry, root_of
from anytext_lib.data.check_lines import polygon_faults, text_faults
from anytext_lib.data.check_report import REMEDIES, DataProblem, DataReport
from anytext_lib.data.check_schema import kind_of, schema_faults
from anytext_lib.data.json_stream import AnyWordStream, TruncatedError, find_data_root
from anytext_lib.data.pictures import PictureError, clean_name, locate, picture_size, read_picture, require_inside
from anytext_lib.errors import MissingFileError, OptionError

IMAGES = ("decode", "open", "none")
MAX_LINES = 5  # of a sample; of more, a random five are drawn


def check_data(path: str | os.PathLike, *, images: str = "decode", max_chars: int = 20, percent: float = 1.0,
               seed: int = 0, ignore: tuple[str, ...] = (), limit: int = 100, fonts: tuple[str, ...] = (),
               progress: Callable[[int], None] = lambda done: None) -> DataReport:
    """Check an annotation file and its pictures.

    The file is read as a stream, so its size does not matter.  Lines with ``"valid": false`` are held to the rules on
    fields and polygons only, since their text is not used.

    Args:
        path: the JSON, or a folder with an annotations.json.
        images: "decode" every picture, "open" it for its size only (much faster, finds no broken pixels), or "none".
        max_chars: longest text that is drawn and read. ``percent``, ``seed``: share of the entries to check in depth,
            drawn at random; every entry is still counted and looked at for duplicates.
        ignore: kinds of problems that do not count. ``limit``: problems of a kind to keep.
        fonts: font files that can write texts, besides the fonts of the course.
        progress: is told the number of entries read, after every thousand.

    Every entry that the reader of training refuses is a problem, so that what is without one can be trained on.

    Raises:
        MissingFileError: there is no such file, or font. OptionError: an option has a wrong value.
    """
    source = _annotation_file(Path(path))
    _check_options(images, percent, ignore, fonts)
    root = find_data_root(source)
    report = DataReport(source, None if root is None else root_of(source, root), ignored=tuple(ignore), limit=limit)
    check = _Check(report, images, max_chars, fonts)
    chosen, stream = np.random.default_rng(seed), AnyWordStream(source)
    try:
        for number, row in stream:
            check.entry(number, row, deep=percent == 1 or chosen.random() < percent)
            if number % 1000 == 999:
                progress(number + 1)
    except AnyWordError as error:
        kind = "truncated_json" if isinstance(error, TruncatedError) else "malformed_json"
        last = f" ({report.images} complete entries were read before)"
        what = str(error).removeprefix(f"{source}: ").split(": it is truncated")[0]
        report.add(DataProblem(kind, str(source), "", "", what + last))
        return report
    if not report.images:
        report.add(DataProblem("no_picture", str(source), "", "data_list", "the list of pictures is empty"))
    return report


def readable_entries(path: str | os.PathLike, count: int, seed: int = 0) -> list[AnnotatedImage]:
    """``count`` random entries that can be read, for a contact sheet; malformed ones are passed over."""
    source = _annotation_file(Path(path))
    root = root_of(source, find_data_root(source) or ".")
    rng, kept, seen = np.random.default_rng(seed), {}, 0
    stream = AnyWordStream(source)
    try:
        for number, row in stream:
            seen += 1
            slot = len(kept) if len(kept) < count else int(rng.integers(seen))
            if slot < count:
                try:
                    kept[slot] = (number, read_entry(row, Where(source, number), root))
                except AnyWordError:
                    continue
    except AnyWordError:
        pass  # what was read before the damage
    return [item for _, item in sorted(kept.values(), key=lambda pair: pair[0])]


def _annotation_file(path: Path) -> Path:
    if path.is_dir():
        path = path / "annotations.json"
    if not path.is_file():
        raise MissingFileError(f"no annotation file {path}: give a JSON file in the AnyWord form, or a folder with an "
                                "annotations.json (`anytext data convert` makes one from a plain folder)")
    return path


def _check_options(images: str, percent: float, ignore: tuple[str, ...], fonts: tuple[str, ...]) -> None:
    if images not in IMAGES:
        raise OptionError(f"images is one of {', '.join(IMAGES)}, got {images!r}")
    if not 0 < percent <= 1:
        raise OptionError(f"percent is a share above 0 and at most 1, got {percent}")
    if unknown := [kind for kind in ignore if kind not in REMEDIES]:
        raise OptionError(f"no such kind of problem: {', '.join(unknown)}; the kinds are {', '.join(REMEDIES)}")
    if gone := [font for font in fonts if not Path(font).is_file()]:
        raise MissingFileError(f"there is no font {gone[0]}: give the path of a .ttf or .otf file")


class _Check:
    """The state of one check: the report, and the names seen so far."""

    def __init__(self, report: DataReport, images: str, max_chars: int, fonts: tuple[str, ...]):
        self.report, self.images, self.max_chars, self.fonts = report, images, max_chars, fonts
        self.names: dict[str, int] = {}

    def entry(self, number: int, row: Any, deep: bool) -> None:
        """Check ``data_list[number]``; without ``deep`` only count it."""
        report = self.report
        report.images += 1
        name = row.get("img_name") if isinstance(row, dict) else None
        named = isinstance(name, str)
        place = f"data_list[{number}]" + (f" ({name[:200]!r})" if named else "")

        def add(kind: str, field: str, what: str, file: Path | str = report.path) -> None:
            report.add(DataProblem(kind, str(file), place, field, what))

        if named and (first := self.names.setdefault(name, number)) != number:
            add("duplicate_name", "img_name", f"the name {name[:200]!r} is that of data_list[{first}] as well")
        if not deep:
            report.counts["pictures only counted"] += 1
            return
        broken = self._fields(number, row, add)
        if not isinstance(row, dict):
            return
        size = self._picture(name, add) if named and "img_name" not in broken else None
        for j, line in enumerate(self._lines(row)):
            for kind, field, what in self._line(line, j, size, broken):
                add(kind, f"annotations[{j}].{field}", what)

    def _fields(self, number: int, row: Any, add: Callable) -> set[str]:
        """Report what the schema or the reader of training refuses; returns those fields, as annotations[0].color."""
        broken = set()
        for fault in schema_faults(row):
            broken.add(_outer(fault.field))
            add(fault.kind, fault.field, fault.what)
        try:
            read_entry(row, Where(self.report.path, number), Path())
        except AnyWordError as error:
            if _outer(error.field) not in broken:
                broken.add(_outer(error.field))
                add(kind_of(error.field), error.field, error.what)
        return broken

    def _picture(self, name: str, add: Callable) -> tuple[int, int] | None:
        """(width, height) of the picture, as far as it can be found."""
        root = self.report.data_root
        if self.images == "none" or root is None:
            return None
        path = locate(root, clean_name(name))
        if not path.is_file():
            add("missing_image", "img_name", f"there is no picture {path}")
            return None
        try:
            require_inside(root, path)
            size = read_picture(path).shape[1::-1] if self.images == "decode" else picture_size(path)
        except PictureError as error:
            add("corrupt_image", "img_name", f"the picture cannot be read: {error}", path)
            return None
        self.report.counts["largest side in pixels"] = max(self.report.counts["largest side in pixels"], *size)
        return size

    def _lines(self, row: dict) -> list:
        lines = row.get("annotations", [])
        lines = lines if isinstance(lines, list) else []
        counts = self.report.counts
        counts["pictures without a caption"] += not row.get("caption")
        counts["pictures without a line"] += not lines
        counts[f"pictures with more than {MAX_LINES} lines"] += len(lines) > MAX_LINES
        return lines

    def _line(self, line: Any, j: int, size, broken: set[str]) -> Iterator[tuple[str, str, str]]:
        """(kind, field, what) for the problems of a line that the schema cannot express."""
        self.report.lines += 1
        if not isinstance(line, dict):
            return
        counts, valid = self.report.counts, line.get("valid", True) is not False
        counts["lines marked invalid"] += not valid
        counts["lines without a colour"] += line.get("color") in (None, [500, 500, 500])
        if isinstance(line.get("language"), str):
            self.report.languages[ascii(line["language"][:40])[1:-1]] += 1
        fine = {field for field in ("polygon", "text") if f"annotations[{j}].{field}" not in broken and field in line}
        if "polygon" in fine and not line["polygon"]:
            counts["lines left out (empty polygon)"] += 1
            return
        if "polygon" in fine:
            yield from ((kind, "polygon", what) for kind, what in polygon_faults(line["polygon"], size))
        if "text" in fine and valid:
            faults = text_faults(line["text"], self.max_chars, self.fonts)
            yield from ((kind, "text", what) for kind, what in faults)


def _outer(field: str) -> str:
    """The field of an entry or of a line that ``field`` lies in: polygon[2][0] is a part of polygon."""
    return re.match(r"(annotations\[\d+\]\.)?\w*", field)[0]
