"""Check a data set in the AnyWord form: fields, pictures, polygons, texts, with counts and remedies."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.data.anyword import AnnotatedImage, entry_faults, languages, read_entry, root_of, short_json, wording
from anytext_lib.data.anyword_stream import AnyWordError, AnyWordStream, TruncatedError, find_data_root
from anytext_lib.data.fonts import MissingGlyphError, characters_of, fonts_for, load_fonts
from anytext_lib.data.pictures import PictureError, clean_name, locate, picture_size, read_picture, require_inside
from anytext_lib.data.texts import normal_text
from anytext_lib.errors import MissingFileError, OptionError
from anytext_lib.ocr.unreadable import unreadable, unreadable_note

IMAGES = ("decode", "open", "none")
MAX_LINES = 5  # of a sample; of more, a random five are drawn
OVERHANG = 0.02  # how far, in parts of the longer side, a polygon may reach out of its picture: annotators' slips
LEAST_SIDE = 2.0  # pixels: a thinner polygon has no position mask (``lines.line_quad``)
REMEDIES = {
    "truncated_json": "restore the file or download it again",
    "malformed_json": "correct it at that place, or write the file again",
    "no_picture": "name the pictures in data_list; `anytext data convert` makes it of a plain folder",
    "malformed_field": "correct the field; the schema is anytext_lib/data/anyword.schema.json",
    "missing_image": "restore the picture, correct img_name or data_root, or remove the entry",
    "corrupt_image": "restore the picture or remove the entry; training skips and counts such pictures",
    "duplicate_name": "remove one of the two entries, or rename its picture",
    "polygon_outside": "give the polygon in pixels of this very picture (if the picture was resized, scale its "
                       "polygons as well), or mark the line \"valid\": false",
    "polygon_degenerate": "draw at least three points around the line, in order and without crossings, "
                          "or give an empty list to leave the line out",
    "unknown_language": "use one of the names of the schema; Latin covers English and other European languages",
    "wrong_color": "give [r, g, b] from 0 to 255, or leave the field out if the colour is not known",
    "empty_text": "write what the line says, or mark it \"valid\": false",
    "text_too_long": "split the line in two, or accept that only its beginning is drawn and read (--ignore)",
    "no_glyph": "correct the text, mark the line \"valid\": false, or name a font file that has these characters "
                "(--font)",
}


@dataclass(frozen=True)
class DataProblem:
    """Something wrong with a data set.

    Attributes:
        kind: a key of ``REMEDIES``. ``file``: the annotation file or picture.
        entry: as data_list[3] ('a.jpg'), '' for the file as a whole. ``field``: as annotations[0].polygon, or ''.
        what: what is wrong there.
    """

    kind: str
    file: str
    entry: str
    field: str
    what: str

    @property
    def remedy(self) -> str:
        """The remedy for problems of this kind."""
        return REMEDIES[self.kind]

    def __str__(self) -> str:
        place = ".".join(part for part in (self.entry, self.field) if part)
        return f"{self.file}: {place + ': ' if place else ''}{self.what}. Remedy: {self.remedy}."


@dataclass
class CheckReport:
    """The outcome of ``check_data``.

    Attributes:
        path: the annotation file. ``data_root``: the folder of its pictures, None if the file does not say.
        images, lines: number of entries and of lines checked. ``counts``: other numbers, by name.
        languages: lines by language. ``kinds``: problems by kind, all of them.
        problems: the problems themselves, of each kind the first ``limit``.
        ignored: kinds that do not count. ``unreadable``: characters of valid lines that the recogniser of the losses
            cannot read, with the number of lines that hold each: no problem of the data, but to be known.
    """

    path: Path
    data_root: Path | None = None
    images: int = 0
    lines: int = 0
    counts: Counter = field(default_factory=Counter)
    languages: Counter = field(default_factory=Counter)
    kinds: Counter = field(default_factory=Counter)
    problems: list[DataProblem] = field(default_factory=list)
    ignored: tuple[str, ...] = ()
    limit: int = 100
    unreadable: Counter = field(default_factory=Counter)

    def add(self, problem: DataProblem) -> None:
        """Count a problem, and keep it while there are few of its kind."""
        if problem.kind in self.ignored:
            return
        self.kinds[problem.kind] += 1
        if self.kinds[problem.kind] <= self.limit:
            self.problems.append(problem)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.kinds

    def summary(self, show: int = 5) -> str:
        """Text: the counts, then the problems by kind, of each the first ``show``."""
        rows = [f"{self.path}", f"  pictures in {self.data_root}",
                f"  {self.images} pictures, {self.lines} lines of text"]
        rows += [f"  {name}: {value}" for name, value in self.counts.items()]
        if self.languages:
            rows.append("  languages: " + ", ".join(f"{name} {n}" for name, n in self.languages.most_common()))
        if self.unreadable:
            lines = self.counts["lines that the recogniser cannot read whole"]
            most = [character for character, _ in self.unreadable.most_common()]
            rows.append("  note: " + unreadable_note(f"{lines} {'line' if lines == 1 else 'lines'}", most))
            rows.append("  (CTC takes them for spaces; `anytext fit --ctc_unknown skip_lines` leaves such lines out)")
        for kind, n in self.kinds.most_common():
            rows.append(f"{kind}: {n}")
            shown = [problem for problem in self.problems if problem.kind == kind][:show]
            rows += [f"  {problem}" for problem in shown]
            rows += [f"  ... and {n - len(shown)} more"] if n > len(shown) else []
        total = self.kinds.total()
        rows.append("No problem found." if self.ok else f"{total} {'problem' if total == 1 else 'problems'} found.")
        return "\n".join(rows)

    def to_dict(self) -> dict:
        """Everything as plain JSON values."""
        return {"path": str(self.path), "data_root": None if self.data_root is None else str(self.data_root),
                "images": self.images, "lines": self.lines, "counts": dict(self.counts),
                "languages": dict(self.languages), "unreadable": dict(self.unreadable), "kinds": dict(self.kinds),
                "ignored": list(self.ignored),
                "problems": [asdict(problem) | {"remedy": problem.remedy} for problem in self.problems]}


def check_data(path: str | os.PathLike, *, images: str = "decode", max_chars: int = 20, percent: float = 1.0,
               seed: int = 0, ignore: tuple[str, ...] = (), limit: int = 100, fonts: tuple[str, ...] = (),
               progress: Callable[[int], None] = lambda done: None) -> CheckReport:
    """Check an annotation file and its pictures.

    The file is read as a stream, so its size does not matter.  Lines with ``"valid": false`` are held to the rules on
    fields and polygons only, since their text is not used.  Every entry that training refuses is a problem, so that a
    set without one can be trained on.

    Args:
        path: the JSON, or a folder with an annotations.json.
        images: "decode" every picture, "open" it for its size only (much faster, finds no broken pixels), or "none".
        max_chars: longest text that is drawn and read. ``percent``, ``seed``: share of the entries to check in depth,
            drawn at random; every entry is still counted and looked at for duplicates.
        ignore: kinds of problems that do not count. ``limit``: problems of a kind to keep.
        fonts: font files that can write texts, besides the fonts of the course.
        progress: called with the number of entries read, after every thousand.

    Raises:
        MissingFileError: there is no such file, or font. OptionError: an option has a wrong value.
    """
    source = _annotation_file(Path(path))
    _check_options(images, percent, ignore, fonts)
    root = find_data_root(source)
    report = CheckReport(source, None if root is None else root_of(source, root), ignored=tuple(ignore), limit=limit)
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
                    kept[slot] = (number, read_entry(row, source, number, root))
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

    def __init__(self, report: CheckReport, images: str, max_chars: int, fonts: tuple[str, ...]):
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
        broken = self._fields(row, add)
        if not isinstance(row, dict):
            return
        size = self._picture(name, add) if named and "img_name" not in broken else None
        for j, line in enumerate(self._lines(row)):
            for kind, part, what in self._line(line, j, size, broken):
                add(kind, f"annotations[{j}].{part}", what)

    def _fields(self, row: Any, add: Callable) -> set[str]:
        """Report the rules that the entry breaks; returns those fields, as annotations[0].color."""
        faults = entry_faults(row)
        for kind, place, what in faults:
            add(kind, place, f"the field {what}" if what.startswith("is missing") else what)
        return {_outer(place) for _, place, _ in faults}

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
        """Yield (kind, field, what) for problems of a line that would not stop training from reading it."""
        self.report.lines += 1
        if not isinstance(line, dict):
            return
        counts, valid = self.report.counts, line.get("valid", True) is not False
        counts["lines marked invalid"] += not valid
        counts["lines without a colour"] += line.get("color") in (None, [500, 500, 500])
        if isinstance(language := line.get("language"), str):
            self.report.languages[ascii(language[:40])[1:-1]] += 1
            if language not in languages():
                yield ("unknown_language", "language", f"must be {wording('language')} ({', '.join(languages())}), "
                                                       f"got {short_json(language)}")
        fine = {field for field in ("polygon", "text") if f"annotations[{j}].{field}" not in broken and field in line}
        if "polygon" in fine and not line["polygon"]:
            counts["lines left out (empty polygon)"] += 1
            return
        if "polygon" in fine:
            yield from ((kind, "polygon", what) for kind, what in polygon_faults(line["polygon"], size))
        if "text" in fine and valid:
            faults = text_faults(line["text"], self.max_chars, self.fonts)
            yield from ((kind, "text", what) for kind, what in faults)
            if found := unreadable([line["text"]]):
                counts["lines that the recogniser cannot read whole"] += 1
                self.report.unreadable.update(found)


def _outer(field: str) -> str:
    """The field of an entry or of a line that ``field`` lies in: polygon[2][0] is a part of polygon."""
    return re.match(r"(annotations\[\d+\]\.)?\w*", field)[0]


def polygon_faults(polygon: list, size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """(kind, what) for a polygon of at least three [x, y] points; ``size`` (width, height), None if not known."""
    import cv2
    from shapely.geometry import Polygon

    points = np.array(polygon, np.float64)
    if not np.isfinite(points).all():
        yield "polygon_degenerate", "the polygon has a coordinate that is not finite"
        return
    side = min(cv2.minAreaRect(points.astype(np.float32))[1])
    if side < LEAST_SIDE:
        yield "polygon_degenerate", f"the polygon is {side:.1f} pixels thin; it needs at least {LEAST_SIDE:.0f}"
    elif not Polygon(points).is_valid:
        yield "polygon_degenerate", "the sides of the polygon cross each other"
    if size is not None:
        yield from _outside(points, size)


def _outside(points: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[str, str]]:
    low, high = points.min(axis=0), points.max(axis=0)
    picture = f"the picture of {size[0]} x {size[1]} pixels"
    reach = f"x from {low[0]:g} to {high[0]:g}, y from {low[1]:g} to {high[1]:g}"
    if (high <= 0).any() or (low >= size).any():
        yield "polygon_outside", f"the polygon lies outside {picture}: {reach}"
    elif (excess := max(float((-low).max()), float((high - size).max()))) > OVERHANG * max(size):
        yield "polygon_outside", f"the polygon reaches {math.ceil(excess)} pixels out of {picture}: {reach}"


def text_faults(text: str, max_chars: int, fonts: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """(kind, what) for the text of a line that can be read, in its one form; ``fonts``: files besides the course's."""
    text = normal_text(text)
    if not text.strip():
        yield "empty_text", "the text is empty, but the line is valid"
        return
    if len(text) > max_chars:
        yield "text_too_long", f"the text {text!r} has {len(text)} characters, more than the {max_chars} that are drawn"
    try:
        fonts_for(text)
    except MissingGlyphError:
        if not any(characters_of(font).issuperset(text) for font in fonts):
            yield "no_glyph", f"no font can write {text!r}: {_gap(text, fonts)}"


def _gap(text: str, fonts: Sequence[str]) -> str:
    """Name the characters that keep every font from writing ``text``."""
    known = frozenset().union(*(characters_of(font) for font in (*load_fonts(), *fonts)))
    missing = [c for c in dict.fromkeys(text) if c not in known]
    if not missing:
        return "it has all characters in some font, but no single font has them all"
    return ", ".join(f"{c!r} (U+{ord(c):04X})" for c in missing) + (" is" if len(missing) == 1 else " are") + " in none"
