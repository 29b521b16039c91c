"""Turn a plain folder of pictures with a CSV, a JSONL or ICDAR 2015 text files into an AnyWord annotation file."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.data.anyword import FARTHEST, AnnotatedImage, Annotation, languages, write_anyword
from anytext_lib.data.pictures import PictureError, PictureNameError, clean_name, locate, require_inside
from anytext_lib.data.texts import detect_language, normal_text, text_fault
from anytext_lib.errors import AnyTextError, MissingFileError, OptionError
from anytext_lib.files import UnreadableError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
AUTO = "auto"
UNREADABLE = "###"  # ICDAR's text of a line that cannot be read
CORNERS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class ConversionError(AnyTextError, ValueError):
    """The annotations cannot be converted; ``problems`` lists all, each with file, line and remedy."""

    exit_status = 1  # problems in the data, as `anytext data check` reports them

    def __init__(self, problems: list[str], shown: int = 20):
        self.problems = problems
        more = [f"... and {len(problems) - shown} more"] if len(problems) > shown else []
        super().__init__("\n".join(problems[:shown] + more))


@dataclass
class Conversion:
    """Outcome of a conversion.

    Attributes:
        output: the annotation file written. ``form``: "csv", "jsonl" or "icdar".
        images, lines, invalid: numbers of pictures, lines, and of those the ones marked invalid.
        unannotated: pictures of the folder that no annotation names; they are left out.
    """

    output: Path
    form: str
    images: int = 0
    lines: int = 0
    invalid: int = 0
    unannotated: list[Path] = field(default_factory=list)


def convert_folder(folder: str | os.PathLike, output: str | os.PathLike | None = None, *, form: str = AUTO,
                   annotations: str | os.PathLike | None = None, language: str = AUTO,
                   force: bool = False) -> Conversion:
    """Write the AnyWord annotations of a folder of pictures (searched with its subfolders).

    CSV: a header with image, x1, y1, ..., x4, y4, text, and if wanted language, valid, caption; comma, semicolon, tab.
    JSONL: an object a line, with image, quad (or polygon), text, and if wanted language, valid, color, caption; or
    with image and lines, a list of such objects.  ICDAR 2015: gt_NAME.txt beside or below the folder of NAME.jpg, lines
    x1,y1,...,x4,y4,text.  The text ``###`` marks a line that cannot be read (valid: false).  A byte order mark is
    accepted everywhere.

    Args:
        folder: of the pictures. ``output``: the JSON to write, by default annotations.json in the folder.
        form: "csv", "jsonl", "icdar", or "auto": what the folder contains.
        annotations: the CSV or JSONL, or the folder of the gt_*.txt, by default looked for in ``folder``.
        language: of all lines that do not say theirs; "auto" goes by the script of the text.
        force: replace an existing output.

    Returns:
        a Conversion.  The file appears complete or not at all.

    Raises:
        ConversionError: something in the annotations is wrong, with all places; nothing is written.
        OptionError: an unknown form or language, several annotation files to choose from, or the output exists.
        MissingFileError: no such folder, or nothing to convert. UnwritableError: the output cannot be written.
    """
    root = Path(folder)
    target = root / "annotations.json" if output is None else Path(output)
    _check_request(root, target, form, language, force)
    form, sources = _sources(root, form, None if annotations is None else Path(annotations))
    gathered = _Gathered(root, language)
    for source in sources:
        for found in READERS[form](source):
            gathered.take(found)
    if gathered.problems:
        raise ConversionError(gathered.problems)
    images = list(gathered.images.values())
    data_root = Path(os.path.relpath(root.resolve(), target.resolve().parent)).as_posix()
    write_anyword(target, images, data_root)
    lines = [line for image in images for line in image.annotations]
    unannotated = [path for path in gathered.pictures if path.relative_to(root).as_posix() not in gathered.images]
    return Conversion(target, form, len(images), len(lines), sum(not line.valid for line in lines), unannotated)


def pictures_below(root: Path) -> list[Path]:
    """All pictures of a folder and its subfolders, by name."""
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


class _Gathered:
    """Pictures with their lines so far, and the faults."""

    def __init__(self, root: Path, language: str):
        self.root, self.language = root, language
        self.pictures = pictures_below(root)
        self.by_stem: dict[str, list[Path]] = {}
        for path in self.pictures:
            self.by_stem.setdefault(normal_text(path.stem), []).append(path)
        self.images: dict[str, AnnotatedImage] = {}
        self.problems: list[str] = []

    def take(self, found: FoundLine) -> None:
        """Add a line, a picture, or a problem."""
        if found.problem:
            self.problems.append(f"{found.place}: {found.problem}")
            return
        path = self._picture(found)
        if path is None:
            return
        name = path.relative_to(self.root).as_posix()
        image = self.images.setdefault(name, AnnotatedImage(path, name, found.caption))
        if found.caption and image.caption != found.caption:
            if image.caption:
                self._fault(found.place, f"the picture {name} has another caption than before; give one only")
                return
            self.images[name] = image = AnnotatedImage(path, name, found.caption, image.annotations)
        if found.polygon is not None:
            language = found.language or (detect_language(found.text) if self.language == AUTO else self.language)
            if language not in languages():
                self._fault(found.place, f"there is no language {language!r}; write one of {', '.join(languages())}")
                return
            text = normal_text(found.text)
            if fault := text_fault(text) or text_fault(normal_text(found.caption)):
                self._fault(found.place, f"a text {fault}")
                return
            image.annotations.append(Annotation(found.polygon, text, language, found.valid, found.color))

    def _picture(self, found: FoundLine) -> Path | None:
        if not found.by_stem:
            try:
                path = locate(self.root, clean_name(found.image))
                require_inside(self.root, path)
            except (PictureNameError, PictureError) as error:
                self._fault(found.place, f"the name of the picture {found.image[:60]!r}: it {error}")
                return None
            if path.is_file():
                return path
            self._fault(found.place, f"there is no picture {found.image!r} in {self.root}; correct the name, or "
                                     "restore the picture")
            return None
        candidates = self.by_stem.get(normal_text(found.image), [])
        if len(candidates) != 1:
            many = f"{len(candidates)} pictures are called" if candidates else "there is no picture called"
            self._fault(found.place, f"{many} {found.image}.jpg (or .png ...) in {self.root}; there must be one for "
                                     "each text file")
            return None
        return candidates[0]

    def _fault(self, place: Place, problem: str) -> None:
        self.problems.append(f"{place}: {problem}")


def _check_request(root: Path, target: Path, form: str, language: str, force: bool) -> None:
    if not root.is_dir():
        raise MissingFileError(f"no folder {root}: give the folder of the pictures")
    if form != AUTO and form not in READERS:
        raise OptionError(f"form is one of {AUTO}, {', '.join(READERS)}, got {form!r}")
    if language != AUTO and language not in languages():
        raise OptionError(f"language is auto or one of {', '.join(languages())}, got {language!r}")
    if target.exists() and not force:
        raise OptionError(f"{target} exists: give another output, or replace it with force (--force)")


def _sources(root: Path, form: str, given: Path | None) -> tuple[str, list[Path]]:
    """The form and the annotation files, in natural order."""
    if given is not None and given.is_file():
        by_suffix = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".txt": "icdar"}.get(given.suffix.lower())
        if form == AUTO and by_suffix is None:
            raise OptionError(f"{given.name} does not say its form: give form (--form csv, jsonl or icdar)")
        return by_suffix if form == AUTO else form, [given]
    if given is not None and not given.is_dir():
        raise MissingFileError(f"there are no annotations {given}: give a CSV, a JSONL, or a folder of gt_*.txt")
    place = root if given is None else given
    patterns = {"csv": ("*.csv", "*.tsv"), "jsonl": ("*.jsonl",), "icdar": ("gt_*.txt",)}
    found = {kind: sorted({p for pattern in globs for p in place.rglob(pattern)}, key=_natural)
             for kind, globs in patterns.items() if form in (AUTO, kind)}
    found = {kind: paths for kind, paths in found.items() if paths}
    if not found:
        raise MissingFileError(f"no annotations in {place}: there must be a .csv, a .jsonl, or files gt_NAME.txt")
    kinds = list(found)
    if len(kinds) > 1 or (kinds[0] != "icdar" and len(found[kinds[0]]) > 1):
        names = [path.name for paths in found.values() for path in paths[:3]]
        raise OptionError(f"several annotation files in {place} ({', '.join(names)}): choose one with annotations "
                         "(--annotations), or a form (--form)")
    return kinds[0], found[kinds[0]]


def _natural(path: Path) -> list:
    """Sorts img_2 before img_10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path.as_posix())]


@dataclass(frozen=True)
class Place:
    """A place in a file: the number of the line, from 1 (0: the file as a whole)."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}" if self.line else str(self.file)


@dataclass(frozen=True)
class FoundLine:
    """A line of text, a picture without one (``polygon`` None), or a ``problem`` with its remedy.

    Attributes:
        image: name of the picture below its folder; with ``by_stem`` its name without the suffix.
        polygon: (P, 2) float64 in pixels. ``language``: '' if not said.
    """

    place: Place
    image: str = ""
    polygon: np.ndarray | None = None
    text: str = ""
    language: str = ""
    valid: bool = True
    color: tuple[int, int, int] | None = None
    caption: str = ""
    by_stem: bool = False
    problem: str = ""


class _Fault(ValueError):
    """A malformed line; the message gives fault and remedy."""


def read_csv(path: Path) -> Iterator[FoundLine]:
    """A table with a header: image, x1..y4, text, and if wanted language, valid, caption."""
    content = yield from _content(path)
    if content is None:
        return
    header = content.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [(name or "").strip().lower() for name in reader.fieldnames or []]
        if missing := [name for name in ("image", *CORNERS, "text") if name not in names]:
            problem = f"the header lacks {', '.join(missing)}; it must name the columns " \
                      f"image,{','.join(CORNERS)},text (and may name language,valid,caption)"
            yield FoundLine(Place(path, 1), problem=problem)
            return
        reader.fieldnames = names
        last = reader.line_num
        for row in reader:
            yield _guarded(Place(path, last + 1), lambda where, row=row: _csv_row(where, row))
            last = reader.line_num
    except csv.Error as error:
        problem = f"not a table ({error}); a quotation mark in a text is written twice, inside quotation marks: " \
                  '"say ""yes"""'
        yield FoundLine(Place(path, reader.line_num), problem=problem)


def _csv_row(place: Place, row: dict) -> FoundLine:
    if None in row or None in row.values():
        count = sum(value is not None for name, value in row.items() if name) + len(row.get(None, []))
        raise _Fault(f"{count} columns, the header has {len(row) - (None in row)}; put a text that contains the "
                     "separator into quotation marks")
    numbers = [_number(row[name], name) for name in CORNERS]
    return FoundLine(place, _name(row["image"]), _quad(numbers), row["text"], (row.get("language") or "").strip(),
                 _valid(row.get("valid") or "true", row["text"]), caption=(row.get("caption") or "").strip())


def read_jsonl(path: Path) -> Iterator[FoundLine]:
    """An object a line: one line of text with its image, or an image with ``lines``."""
    content = yield from _content(path)
    for number, text in enumerate((content or "").split("\n"), 1):
        if not text.strip():
            continue
        place = Place(path, number)
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            yield FoundLine(place, problem=f"not JSON ({error.msg}, column {error.colno}); write one object a line")
            continue
        except (RecursionError, ValueError):  # brackets in brackets; an integer of thousands of digits
            yield FoundLine(place, problem="nested too deeply, or a number of thousands of digits; write it anew")
            continue
        if not isinstance(row, dict):
            yield FoundLine(place, problem='must be an object such as {"image": "a.jpg", "quad": [...], "text": "..."}')
            continue
        lines = row.get("lines")
        if lines is None:
            yield _guarded(place, lambda where, row=row: _json_line(where, row, row))
        elif not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
            yield FoundLine(place, problem="lines must be a list of objects with quad and text")
        else:
            yield _guarded(place, lambda where, row=row: FoundLine(where, _name(row.get("image")),
                                                                   caption=_caption(row)))
            for line in lines:
                yield _guarded(place, lambda where, row=row, line=line: _json_line(where, row, line))


def _json_line(place: Place, row: dict, line: dict) -> FoundLine:
    corners = line.get("polygon", line.get("quad"))
    if corners is None:
        raise _Fault("there is no quad; give eight numbers x1,y1,...,x4,y4 or a list of points [x, y]")
    if not isinstance(corners, list):
        raise _Fault("quad must be a list of eight numbers, or of points [x, y]")
    if corners and all(isinstance(point, list) for point in corners):
        if any(len(point) != 2 for point in corners) or len(corners) < 3:
            raise _Fault("polygon must be a list of at least three points [x, y]")
        corners = [value for point in corners for value in point]
    elif len(corners) != 8:
        raise _Fault(f"quad has {len(corners)} numbers; give eight, x1,y1,...,x4,y4 clockwise from the top left")
    text, language, valid = line.get("text"), line.get("language", ""), line.get("valid", True)
    if not isinstance(text, str) or not isinstance(language, str) or not isinstance(valid, bool):
        raise _Fault("text and language must be strings, and valid true or false")
    return FoundLine(place, _name(row.get("image")), _quad([_number(v, "quad") for v in corners]), text, language,
                 valid and text != UNREADABLE, _color(line.get("color")), _caption(row))


def read_icdar(path: Path) -> Iterator[FoundLine]:
    """gt_NAME.txt of ICDAR 2015: x1,y1,...,x4,y4,text a line; the text may contain commas."""
    content = yield from _content(path)
    if content is None:
        return
    stem = path.stem.removeprefix("gt_")
    yield FoundLine(Place(path, 0), stem, by_stem=True)
    for number, text in enumerate(content.split("\n"), 1):
        if text.strip():
            yield _guarded(Place(path, number), lambda where, text=text: _icdar_line(where, stem, text))


def _icdar_line(place: Place, stem: str, text: str) -> FoundLine:
    parts = text.split(",", 8)
    if len(parts) < 9:
        raise _Fault(f"{len(parts)} parts; a line is x1,y1,x2,y2,x3,y3,x4,y4,text")
    numbers = [_number(value, name) for value, name in zip(parts, CORNERS, strict=False)]
    return FoundLine(place, stem, _quad(numbers), parts[8], valid=parts[8] != UNREADABLE, by_stem=True)


def _content(path: Path) -> Iterator[FoundLine]:
    """The text of a file without byte order mark and carriage returns; yields the problem and returns None if bad."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror}; look at the permissions") from error
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        yield FoundLine(Place(path, line), problem="not UTF-8; save the file as UTF-8")
        return None


def _guarded(place: Place, read: Callable[[Place], FoundLine]) -> FoundLine:
    try:
        return read(place)
    except _Fault as fault:
        return FoundLine(place, problem=str(fault))


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Fault("there is no name of a picture; give image, its path below the folder")
    return value.strip()


def _caption(row: dict) -> str:
    caption = row.get("caption", "")
    if not isinstance(caption, str):
        raise _Fault("caption must be a string")
    return caption


def _number(value: Any, name: str) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= FARTHEST:  # nor NaN
        raise _Fault(f"{name} must be a number (pixels), got {str(value)[:60]!r}")
    return number


def _quad(numbers: list[float]) -> np.ndarray:
    points = np.array(numbers, np.float64).reshape(-1, 2)
    if (np.ptp(points, axis=0) == 0).any():
        raise _Fault("the corners lie on one horizontal or vertical line; draw them around the text")
    return points


def _valid(value: str, text: str) -> bool:
    if value.strip().lower() not in _BOOLEANS:
        raise _Fault(f"valid must be true or false, got {value!r}")
    return _BOOLEANS[value.strip().lower()] and text != UNREADABLE


def _color(value: Any) -> tuple[int, int, int] | None:
    if value is None or value == [500, 500, 500]:
        return None
    whole = isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)
    if not whole:
        raise _Fault(f"color must be [r, g, b] in 0..255, got {value!r}")
    return tuple(value)


READERS: dict[str, Callable[[Path], Iterator[FoundLine]]] = {"csv": read_csv, "jsonl": read_jsonl, "icdar": read_icdar}
