"""The AnyWord annotation files: read with errors that name the entry and the field, and write.

    {"data_root": str, "data_list": [{"img_name": str, "caption": str, "wm_score": float,
      "annotations": [{"polygon": [[x, y], ...], "text": str, "language": str, "valid": bool, "color": [r, g, b]}]}]}

Only ``data_root``, ``data_list``, ``img_name`` and, for an annotation, ``polygon``, ``text`` and ``language`` must be
there.  Source: AnyText2 ``t3_dataset.py`` (``load_data``).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

NO_COLOUR = (500, 500, 500)  # AnyWord's way to say that the colour is not known


class AnyWordError(ValueError):
    """An annotation file is malformed; the message names file, entry, field and remedy."""


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


def read_anyword(json_path: str | os.PathLike) -> list[AnnotatedImage]:
    """Read and check an annotation file.

    Raises:
        FileNotFoundError: there is no such file.
        AnyWordError: it is not JSON, or an entry is malformed.
    """
    path = Path(json_path)
    if not path.is_file():
        raise FileNotFoundError(f"no annotation file {path}: give the path of a JSON file in the AnyWord form")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AnyWordError(f"{path} is not JSON in UTF-8: {error}") from error
    top = _Where(path, "")
    top.need(content, dict, "an object with data_root and data_list")
    root = path.parent / top.field(content, "data_root", str, 'a string, the folder of the pictures ("." for this one)')
    rows = top.field(content, "data_list", list, "a list of pictures")
    return [_read_entry(row, _Where(path, f"data_list[{i}]"), root) for i, row in enumerate(rows)]


def write_anyword(json_path: str | os.PathLike, images: Sequence[AnnotatedImage], data_root: str = ".") -> None:
    """Write an annotation file; coordinates are rounded to hundredths of a pixel, unknown colours left out."""
    rows = []
    for image in images:
        lines = [{"polygon": [[round(float(x), 2), round(float(y), 2)] for x, y in a.polygon], "text": a.text,
                  "language": a.language, "valid": a.valid, **({"color": list(a.color)} if a.color else {})}
                 for a in image.annotations]
        score = {} if image.wm_score is None else {"wm_score": image.wm_score}
        rows.append({"img_name": image.name, "caption": image.caption, **score, "annotations": lines})
    text = json.dumps({"data_root": data_root, "data_list": rows}, ensure_ascii=False, indent=1)
    Path(json_path).write_text(text + "\n", encoding="utf-8", newline="\n")


class _Where:
    """A place in an annotation file, for messages."""

    def __init__(self, path: Path, place: str, name: str = ""):
        self.path, self.place, self.name = path, place, name

    def fail(self, problem: str) -> None:
        named = f" ({self.name!r})" if self.name else ""
        raise AnyWordError(f"{self.path}: {self.place or 'the file'}{named}: {problem}")

    def need(self, value, kind, wanted: str, name: str = "it"):
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fail(f"{name} must be {wanted}, got {_short(value)}")
        return value

    def field(self, row: dict, name: str, kind, wanted: str, default=...):
        if name not in row:
            if default is ...:
                self.fail(f"the field {name} is missing; it must be {wanted}")
            return default
        return self.need(row[name], kind, wanted, name)

    def inside(self, place: str) -> _Where:
        return _Where(self.path, f"{self.place}.{place}", self.name)


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _read_entry(row, where: _Where, root: Path) -> AnnotatedImage:
    where.need(row, dict, "an object with img_name and annotations")
    name = where.field(row, "img_name", str, "a string, the file name of the picture")
    where.name = name
    caption = where.field(row, "caption", str, "a string", "")
    score = where.field(row, "wm_score", (int, float), "a number in [0, 1]", None)
    kept, skipped = [], 0
    for j, line in enumerate(where.field(row, "annotations", list, "a list of lines of text", [])):
        annotation = _read_annotation(line, where.inside(f"annotations[{j}]"))
        skipped += annotation is None
        if annotation is not None:
            kept.append(annotation)
    return AnnotatedImage(root / name, name, caption, kept, score, skipped)


def _read_annotation(row, where: _Where) -> Annotation | None:
    where.need(row, dict, "an object with polygon, text and language")
    points = where.field(row, "polygon", list, "a list of [x, y] points")
    text = where.field(row, "text", str, "a string")
    language = where.field(row, "language", str, "a string such as 'Latin' or 'Chinese'")
    valid = where.field(row, "valid", bool, "true or false", True)
    color = _read_color(row.get("color"), where)
    if not points:
        return None
    for k, point in enumerate(points):
        if not isinstance(point, list) or len(point) != 2 or not all(_is_number(v) for v in point):
            where.fail(f"polygon[{k}] must be two finite numbers [x, y], got {_short(point)}")
    if len(points) < 3:
        where.fail(f"polygon has {len(points)} points; give at least three, or an empty list to leave the line out")
    return Annotation(np.array(points, np.float64), text, language, valid, color)


def _read_color(value, where: _Where) -> tuple[int, int, int] | None:
    if value is None or (isinstance(value, list) and tuple(value) == NO_COLOUR):
        return None
    if not isinstance(value, list) or len(value) != 3 or not all(_is_number(v) and 0 <= v <= 255 for v in value):
        where.fail(f"color must be [r, g, b] in 0..255, or [500, 500, 500] for none, got {_short(value)}")
    return tuple(int(v) for v in value)


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
