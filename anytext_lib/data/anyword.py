"""The AnyWord annotation files: read entry by entry with errors that name place and remedy, and write.

    {"data_root": str, "data_list": [{"img_name": str, "caption": str, "wm_score": float,
      "annotations": [{"polygon": [[x, y], ...], "text": str, "language": str, "valid": bool, "color": [r, g, b]}]}]}

Only ``data_root``, ``data_list``, ``img_name`` and, for an annotation, ``polygon``, ``text`` and ``language`` must be
there; null counts as a field that is not there.  Texts and captions come in one form (``texts.normal_text``), and an
``img_name`` stays below data_root.  Names of languages are read as they are; `anytext data check` tells which the
library does not know.  Source: AnyText2 ``t3_dataset.py`` (``load_data``).

The rules of an entry stand here, their wording in ``anyword.schema.json``; ``anyword_stream`` reads the file.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anytext_lib.data.anyword_stream import AnyWordError, AnyWordStream
from anytext_lib.data.pictures import PictureNameError, clean_name, locate, read_picture, require_inside
from anytext_lib.data.texts import normal_text, text_fault
from anytext_lib.files import atomic_path

NO_COLOUR = (500, 500, 500)  # AnyWord's way to say that the colour is not known
FARTHEST = 1e6  # pixels: a coordinate beyond is no place in a picture
SCHEMA = Path(__file__).with_name("anyword.schema.json")


class Fault(NamedTuple):
    """A rule that an entry breaks.

    Attributes:
        kind: "malformed_field", "polygon_degenerate" or "wrong_color".
        field: inside the entry, as annotations[0].polygon, or ''. ``what``: what is wrong, with the remedy.
    """

    kind: str
    field: str
    what: str



@dataclass(frozen=True)
class Annotation:
    """One line of text.

    Attributes:
        polygon: (P, 2) float64, pixels (x, y), P >= 3; AnyText2 expects coordinates of a 512 pixel image.
        text, language: as in the file. ``valid``: False for a line that cannot be read (default True).
        color: RGB in 0..255, None if the file has none or says [500, 500, 500].
    """

    polygon: np.ndarray
    text: str
    language: str
    valid: bool = True
    color: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class AnnotatedImage:
    """One entry of ``data_list``.

    Attributes:
        path: the picture (data_root is taken relative to the annotation file). ``name``: ``img_name``.
        caption: '' if the file has none. ``wm_score``: watermark score in [0, 1], None if the file has none.
        annotations: lines, in the order of the file.
        skipped: number of annotations with an empty polygon, which AnyWord contains and which are left out.
    """

    path: Path
    name: str
    caption: str = ""
    annotations: list[Annotation] = field(default_factory=list)
    wm_score: float | None = None
    skipped: int = 0

    def read(self) -> np.ndarray:
        """The picture, as ``pictures.read_picture``: (H, W, 3) uint8, RGB, upright.

        Raises:
            PictureError: it cannot be read, or lies outside of its folder.
        """
        depth = min(max(1, len(Path(self.name).parts)), len(self.path.parents))
        require_inside(self.path.parents[depth - 1], self.path)
        return read_picture(self.path)


def read_anyword(json_path: str | os.PathLike) -> list[AnnotatedImage]:
    """Read and check an annotation file.

    Raises:
        MissingFileError: there is no such file. UnreadableError: the system does not give it.
        AnyWordError: it is not JSON, or an entry is malformed.
    """
    stream = AnyWordStream(json_path)
    rows = list(stream)
    root = root_of(stream.path, stream.data_root)
    return [read_entry(row, stream.path, number, root) for number, row in rows]


def root_of(json_path: Path, data_root: str) -> Path:
    """The folder of the pictures: ``data_root`` is absolute, or relative to the annotation file."""
    return json_path.parent / data_root.replace("\\", "/")


def write_anyword(json_path: str | os.PathLike, images: Sequence[AnnotatedImage], data_root: str = ".") -> None:
    """Write an annotation file; coordinates are rounded to hundredths of a pixel, unknown colours left out.

    Raises:
        UnwritableError: it cannot be written; nothing is left half-written.
    """
    write_rows(json_path, [entry_row(image) for image in images], data_root)


def entry_row(image: AnnotatedImage) -> dict[str, Any]:
    """An entry of ``data_list`` as plain data."""
    lines = [{"polygon": [[round(float(x), 2), round(float(y), 2)] for x, y in a.polygon], "text": a.text,
              "language": a.language, "valid": a.valid, **({"color": list(a.color)} if a.color else {})}
             for a in image.annotations]
    score = {} if image.wm_score is None else {"wm_score": image.wm_score}
    return {"img_name": image.name, "caption": image.caption, **score, "annotations": lines}


def write_rows(json_path: str | os.PathLike, rows: Sequence[dict[str, Any]], data_root: str = ".") -> None:
    """Write entries (``entry_row``, other fields may have been added) as an annotation file; as ``write_anyword``."""
    text = json.dumps({"data_root": data_root, "data_list": list(rows)}, ensure_ascii=False, indent=1)
    with atomic_path(json_path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def read_entry(row: Any, path: Path, number: int, root: Path) -> AnnotatedImage:
    """Make an object of ``data_list[number]`` of the file ``path``, whose pictures lie in ``root``.

    Raises:
        AnyWordError: it breaks a rule; the first one is named.
    """
    return _read_entry(row, _Place(path, number), root)


def entry_faults(row: Any) -> list[Fault]:
    """All rules that an entry of ``data_list`` breaks; none if ``read_entry`` takes it."""
    place = _Place(Path(), 0, faults=[])
    _read_entry(row, place, Path())
    return place.faults


@functools.cache
def languages() -> list[str]:
    """The names of languages that the schema knows."""
    return load_schema()["$defs"]["annotation"]["properties"]["language"]["enum"]


@functools.cache
def load_schema() -> dict:
    """The JSON Schema of annotation files."""
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


@functools.cache
def wording(name: str) -> str:
    """The schema's description of a field, or of "entry", "annotation" or "point"."""
    parts = load_schema()["$defs"]
    fields = parts["entry"]["properties"] | parts["annotation"]["properties"]
    return (fields | parts)[name]["description"]


def short_json(value: Any) -> str:
    """``value`` as JSON in ASCII, cut to 60 characters, for messages."""
    try:
        text = json.dumps(value, default=str)
    except (RecursionError, ValueError):  # nested deeply; an integer of thousands of digits
        return "a value too large to show"
    return text if len(text) <= 60 else text[:57] + "..."


class _Place:
    """A place in an annotation file: entry ``number`` of data_list, and ``inside`` it.

    A fault there raises an AnyWordError, or is appended to ``faults`` where that is a list.
    """

    def __init__(self, path: Path, number: int, inside: str = "", name: str = "", faults: list[Fault] | None = None):
        self.path, self.number, self.inside, self.name, self.faults = path, number, inside, name, faults

    def line(self, j: int) -> _Place:
        """The place of annotation ``j``."""
        return _Place(self.path, self.number, f"annotations[{j}]", self.name, self.faults)

    def fail(self, field: str, problem: str, kind: str = "malformed_field") -> None:
        """Raise or keep a ``problem`` in a ``field`` ('' for the whole)."""
        if self.faults is not None:
            self.faults.append(Fault(kind, ".".join(part for part in (self.inside, field) if part), problem))
            return
        place = f"data_list[{self.number}]" + (f".{self.inside}" if self.inside else "")
        named = f" ({self.name!r})" if self.name else ""
        raise AnyWordError(f"{self.path}: {place}{named}: {field or 'it'} {problem}")

    def wrong(self, field: str, value: Any, rule: str | None = None, kind: str = "malformed_field") -> None:
        """Fail with the expected value (by the wording of ``rule``, default: of the field) and the actual one."""
        self.fail(field, f"must be {wording(rule or field)}, got {short_json(value)}", kind)

    def value(self, row: dict, field: str, kind, default=...):
        """``row[field]`` if it is of the ``kind``; the default (None without one) where missing, null or faulty."""
        value, missing = row.get(field), None if default is ... else default
        if value is None and default is not ...:
            return default
        if field not in row:
            self.fail(field, f"is missing; it must be {wording(field)}")
            return missing
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.wrong(field, value)
            return missing
        return value

    def text(self, row: dict, field: str, default=...) -> str:
        """A text in its one form, without control characters."""
        text = normal_text(self.value(row, field, str, default) or "")
        if fault := text_fault(text):
            self.fail(field, fault)
        return text


def _read_entry(row: Any, place: _Place, root: Path) -> AnnotatedImage | None:
    if not isinstance(row, dict):
        place.wrong("", row, "entry")
        return None
    name = place.value(row, "img_name", str)
    if name is not None:
        place.name = name[:200]
        try:
            name = clean_name(name)
        except PictureNameError as error:
            place.fail("img_name", str(error))
    caption, score = place.text(row, "caption", ""), place.value(row, "wm_score", (int, float), None)
    if score is not None and not 0 <= score <= 1:
        place.wrong("wm_score", score)
    rows = place.value(row, "annotations", list, [])
    lines = [_read_annotation(line, place.line(j)) for j, line in enumerate(rows)]
    if place.faults is not None:
        return None
    kept = [line for line in lines if line is not None]
    return AnnotatedImage(locate(root, name), name, caption, kept, score, len(lines) - len(kept))


def _read_annotation(row: Any, place: _Place) -> Annotation | None:
    """The line; None if its polygon is empty."""
    if not isinstance(row, dict):
        place.wrong("", row, "annotation")
        return None
    points = place.value(row, "polygon", list)
    text, language = place.text(row, "text"), place.text(row, "language")
    valid, color = place.value(row, "valid", bool, True), row.get("color")
    if isinstance(color, list) and tuple(color) == NO_COLOUR:
        color = None
    if color is not None and not (isinstance(color, list) and len(color) == 3
                                  and all(_within(v, 0, 255) for v in color)):
        place.wrong("color", color, kind="wrong_color")
    if not points:
        return None
    for k, point in enumerate(points):
        if not isinstance(point, list) or len(point) != 2 or not all(_within(v, -FARTHEST, FARTHEST) for v in point):
            numbers = isinstance(point, list) and len(point) == 2 and all(map(_is_number, point))
            place.wrong(f"polygon[{k}]", point, "point", "polygon_degenerate" if numbers else "malformed_field")
    if len(points) < 3:
        place.fail("polygon", f"has {len(points)} points; give at least three points, or an empty list to leave the "
                              "line out", "polygon_degenerate")
    if place.faults is not None:
        return None
    return Annotation(np.array(points, np.float64), text, language, valid, color and tuple(int(v) for v in color))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _within(value: Any, least: float, most: float) -> bool:
    """Whether it is a number between the two; NaN is not."""
    return _is_number(value) and least <= value <= most
