"""Read lines of text from CSV, JSONL and ICDAR 2015 files: each with its place, or with what is wrong there."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.data.anyword import FARTHEST
from anytext_lib.files import UnreadableError

UNREADABLE = "###"  # ICDAR's text of a line that cannot be read
CORNERS = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class Place:
    """Where something stands: a file, and the number of its line from 1 (0: the file as a whole)."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}" if self.line else str(self.file)


@dataclass(frozen=True)
class Found:
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
    """What is wrong with a line, and the remedy."""


def read_csv(path: Path) -> Iterator[Found]:
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
            yield Found(Place(path, 1), problem=f"the header lacks {', '.join(missing)}; it must name the columns "
                                                f"image,{','.join(CORNERS)},text (and may name language,valid,caption)")
            return
        reader.fieldnames = names
        last = reader.line_num
        for row in reader:
            yield _guarded(Place(path, last + 1), lambda where, row=row: _csv_row(where, row))
            last = reader.line_num
    except csv.Error as error:
        yield Found(Place(path, reader.line_num), problem=f"not a table ({error}); a quotation mark in a text is "
                                                          'written twice, inside quotation marks: "say ""yes"""')


def _csv_row(place: Place, row: dict) -> Found:
    if None in row or None in row.values():
        count = sum(value is not None for name, value in row.items() if name) + len(row.get(None, []))
        raise _Fault(f"{count} columns, the header has {len(row) - (None in row)}; put a text that contains the "
                     "separator into quotation marks")
    numbers = [_number(row[name], name) for name in CORNERS]
    return Found(place, _name(row["image"]), _quad(numbers), row["text"], (row.get("language") or "").strip(),
                 _valid(row.get("valid") or "true", row["text"]), caption=(row.get("caption") or "").strip())


def read_jsonl(path: Path) -> Iterator[Found]:
    """An object a line: one line of text with its image, or an image with ``lines``."""
    content = yield from _content(path)
    for number, text in enumerate((content or "").split("\n"), 1):
        if not text.strip():
            continue
        place = Place(path, number)
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            yield Found(place, problem=f"not JSON ({error.msg}, column {error.colno}); write one object a line")
            continue
        except (RecursionError, ValueError):  # brackets in brackets; an integer of thousands of digits
            yield Found(place, problem="nested too deeply, or a number of thousands of digits; write it anew")
            continue
        if not isinstance(row, dict):
            yield Found(place, problem='must be an object such as {"image": "a.jpg", "quad": [...], "text": "..."}')
            continue
        lines = row.get("lines")
        if lines is None:
            yield _guarded(place, lambda where, row=row: _json_line(where, row, row))
        elif not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
            yield Found(place, problem="lines must be a list of objects with quad and text")
        else:
            yield _guarded(place, lambda where, row=row: Found(where, _name(row.get("image")), caption=_caption(row)))
            for line in lines:
                yield _guarded(place, lambda where, row=row, line=line: _json_line(where, row, line))


def _json_line(place: Place, row: dict, line: dict) -> Found:
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
    return Found(place, _name(row.get("image")), _quad([_number(v, "quad") for v in corners]), text, language,
                 valid and text != UNREADABLE, _color(line.get("color")), _caption(row))


def read_icdar(path: Path) -> Iterator[Found]:
    """gt_NAME.txt of ICDAR 2015: x1,y1,...,x4,y4,text a line; the text may contain commas."""
    content = yield from _content(path)
    if content is None:
        return
    stem = path.stem.removeprefix("gt_")
    yield Found(Place(path, 0), stem, by_stem=True)
    for number, text in enumerate(content.split("\n"), 1):
        if text.strip():
            yield _guarded(Place(path, number), lambda where, text=text: _icdar_line(where, stem, text))


def _icdar_line(place: Place, stem: str, text: str) -> Found:
    parts = text.split(",", 8)
    if len(parts) < 9:
        raise _Fault(f"{len(parts)} parts; a line is x1,y1,x2,y2,x3,y3,x4,y4,text")
    numbers = [_number(value, name) for value, name in zip(parts, CORNERS, strict=False)]
    return Found(place, stem, _quad(numbers), parts[8], valid=parts[8] != UNREADABLE, by_stem=True)


def _content(path: Path) -> Iterator[Found]:
    """The text of a file without byte order mark and carriage returns; yields the problem and returns None if bad."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error.strerror}; look at the permissions") from error
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        yield Found(Place(path, line), problem="not UTF-8; save the file as UTF-8")
        return None


def _guarded(place: Place, read: Callable[[Place], Found]) -> Found:
    try:
        return read(place)
    except _Fault as fault:
        return Found(place, problem=str(fault))


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


READERS: dict[str, Callable[[Path], Iterator[Found]]] = {"csv": read_csv, "jsonl": read_jsonl, "icdar": read_icdar}
