"""The AnyWord annotation files: read with errors that name the entry and the field, and write.

    {"data_root": str, "data_list": [{"img_name": str, "caption": str, "wm_score": float,
      "annotations": [{"polygon": [[x, y], ...], "text": str, "language": str, "valid": bool, "color": [r, g, b]}]}]}

Only ``data_root``, ``data_list``, ``img_name`` and, for an annotation, ``polygon``, ``text`` and ``language`` must be
there; null counts as a field that is not there.  Texts and captions come in one form (``texts.normal_text``), and an
``img_name`` stays below data_root.  Names of languages are read as they are; `anytext data check` tells which the
library does not know.  Source: AnyText2 ``t3_dataset.py`` (``load_data``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anytext_lib.data.pictures import PictureNameError, clean_name, locate, read_picture, require_inside
from anytext_lib.data.texts import normal_text, text_fault
from anytext_lib.errors import AnyTextError
from anytext_lib.files import atomic_path

NO_COLOUR = (500, 500, 500)  # AnyWord's way to say that the colour is not known
FARTHEST = 1e6  # pixels: a coordinate beyond is no place in a picture


class AnyWordError(AnyTextError, ValueError):
    """An annotation file is malformed; the message names file, entry, field and remedy.

    Attributes:
        field: the field inside its entry, as annotations[0].color, or ''. ``what``: the problem, without its place.
    """

    def __init__(self, message: str, field: str = "", what: str = ""):
        super().__init__(message)
        self.field, self.what = field, what or message


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
    from anytext_lib.data.json_stream import AnyWordStream

    stream = AnyWordStream(json_path)
    rows = list(stream)
    root = root_of(stream.path, stream.data_root)
    return [read_entry(row, Where(stream.path, number), root) for number, row in rows]


def root_of(json_path: Path, data_root: str) -> Path:
    """The folder of the pictures: ``data_root`` is absolute, or relative to the annotation file."""
    return json_path.parent / data_root.replace("\\", "/")


def write_anyword(json_path: str | os.PathLike, images: Sequence[AnnotatedImage], data_root: str = ".") -> None:
    """Write an annotation file; coordinates are rounded to hundredths of a pixel, unknown colours left out.

    Raises:
        UnwritableError: it cannot be written; nothing is left half-written.
    """
    rows = []
    for image in images:
        lines = [{"polygon": [[round(float(x), 2), round(float(y), 2)] for x, y in a.polygon], "text": a.text,
                  "language": a.language, "valid": a.valid, **({"color": list(a.color)} if a.color else {})}
                 for a in image.annotations]
        score = {} if image.wm_score is None else {"wm_score": image.wm_score}
        rows.append({"img_name": image.name, "caption": image.caption, **score, "annotations": lines})
    text = json.dumps({"data_root": data_root, "data_list": rows}, ensure_ascii=False, indent=1)
    with atomic_path(json_path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


class Where:
    """A place in an annotation file, for messages: entry ``number`` of data_list, and ``inside`` it."""

    def __init__(self, path: Path, number: int, inside: str = "", name: str = ""):
        self.path, self.number, self.inside, self.name = path, number, inside, name

    def fail(self, field: str, problem: str) -> None:
        """Raise the AnyWordError of a ``problem`` in a ``field`` ('' for the whole)."""
        place = f"data_list[{self.number}]" + (f".{self.inside}" if self.inside else "")
        named = f" ({self.name!r})" if self.name else ""
        inside = ".".join(part for part in (self.inside, field) if part)
        raise AnyWordError(f"{self.path}: {place}{named}: {field or 'it'} {problem}", inside, problem)

    def need(self, value, kind, wanted: str, field: str = ""):
        """``value``, if it is of the ``kind``."""
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fail(field, f"must be {wanted}, got {_short(value)}")
        return value

    def field(self, row: dict, field: str, kind, wanted: str, default=...):
        """``row[field]``; the default where it is missing or null."""
        if default is not ... and row.get(field) is None:
            return default
        if field not in row:
            self.fail(field, f"is missing; it must be {wanted}")
        return self.need(row[field], kind, wanted, field)

    def text(self, row: dict, field: str, wanted: str, default=...) -> str:
        """A text in its one form, without control characters."""
        text = normal_text(self.field(row, field, str, wanted, default))
        if fault := text_fault(text):
            self.fail(field, fault)
        return text


def _short(value) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested deeply; an integer of thousands of digits
        return "a value too large to show"
    return text if len(text) <= 60 else text[:57] + "..."


def read_entry(row, where: Where, root: Path) -> AnnotatedImage:
    """Check an entry of data_list and make an object of it; AnyWordError if it is malformed."""
    where.need(row, dict, "an object with img_name and annotations")
    name = where.field(row, "img_name", str, "a string, the file name of the picture")
    where.name = name[:200]
    try:
        name = clean_name(name)
    except PictureNameError as error:
        where.fail("img_name", str(error))
    caption = where.text(row, "caption", "a string", "")
    score = where.field(row, "wm_score", (int, float), "a number from 0 to 1", None)
    if score is not None and not 0 <= score <= 1:
        where.fail("wm_score", f"must be a number from 0 to 1, got {_short(score)}")
    kept, skipped = [], 0
    for j, line in enumerate(where.field(row, "annotations", list, "a list of lines of text", [])):
        annotation = _read_annotation(line, Where(where.path, where.number, f"annotations[{j}]", where.name))
        skipped += annotation is None
        if annotation is not None:
            kept.append(annotation)
    return AnnotatedImage(locate(root, name), name, caption, kept, score, skipped)


def _read_annotation(row, where: Where) -> Annotation | None:
    where.need(row, dict, "an object with polygon, text and language")
    points = where.field(row, "polygon", list, "a list of [x, y] points")
    text = where.text(row, "text", "a string")
    language = where.text(row, "language", "a string such as 'Latin' or 'Chinese'")
    valid = where.field(row, "valid", bool, "true or false", True)
    color = _read_color(row.get("color"), where)
    if not points:
        return None
    for k, point in enumerate(points):
        if not isinstance(point, list) or len(point) != 2 or not all(_is_number(v, -FARTHEST, FARTHEST) for v in point):
            where.fail(f"polygon[{k}]", f"must be two finite numbers [x, y] in pixels, got {_short(point)}")
    if len(points) < 3:
        where.fail("polygon", f"has {len(points)} points; give at least three, or an empty list to leave the line out")
    return Annotation(np.array(points, np.float64), text, language, valid, color)


def _read_color(value, where: Where) -> tuple[int, int, int] | None:
    if value is None or (isinstance(value, list) and tuple(value) == NO_COLOUR):
        return None
    if not isinstance(value, list) or len(value) != 3 or not all(_is_number(v, 0, 255) for v in value):
        where.fail("color", f"must be [r, g, b] in 0..255, or [500, 500, 500] for none, got {_short(value)}")
    return tuple(int(v) for v in value)


def _is_number(value, least: float, most: float) -> bool:
    """Whether it is a number between the two; NaN is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most
