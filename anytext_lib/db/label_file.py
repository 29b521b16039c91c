"""Own pictures for the detector: PaddleOCR's label files, and annotations in the AnyWord form.

A label file has a line for each picture,

    img/sign.jpg<TAB>[{"transcription": "Tea", "points": [[10, 8], [90, 8], [90, 30], [10, 30]]}, ...]

with any number of points from three up.  A text whose transcription is ``*`` or ``###`` teaches nothing.
Source: PaddleOCR ``ppocr/data/simple_dataset.py`` and ``ppocr/data/imaug/label_ops.py`` (``DetLabelEncode``).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anytext_lib.data.anyword import read_anyword
from anytext_lib.data.pictures import PictureError, read_picture
from anytext_lib.errors import AnyTextError, MissingFileError
from anytext_lib.scenes.rendering import Scene, SceneLine

IGNORED = ("*", "###")


class LabelFileError(AnyTextError, ValueError):
    """A label file breaks its form; the message names the line and what it should be."""


class LabelledPictures(Sequence[Scene]):
    """Pictures with their texts, each read when it is asked for.

    Args:
        names: paths of the pictures. ``lines``: their texts.
    """

    def __init__(self, names: Sequence[Path], lines: Sequence[list[SceneLine]]):
        self.names, self.lines = list(names), list(lines)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Scene:  # type: ignore[override]
        """Picture ``i``; PictureError if it cannot be read."""
        path = self.names[i]
        try:
            image = read_picture(path)
        except PictureError as error:
            raise PictureError(f"{path}: {error}") from error
        return Scene(image, self.lines[i], "", name=str(path))

    @classmethod
    def read(cls, path: str | Path, root: str | Path | None = None) -> LabelledPictures:
        """The pictures of a label file of PaddleOCR, or of AnyWord annotations (.json).

        Args:
            root: folder that a label file's paths begin in, PaddleOCR's ``data_dir``; by default that of the file.

        Raises:
            MissingFileError: there is no such file, or not one picture. LabelFileError: a line breaks the form.
            AnyWordError: so does an entry.
        """
        path = Path(path)
        if not path.is_file():
            raise MissingFileError(f"there are no labels {path}: give a label file of PaddleOCR, or AnyWord "
                                   "annotations (.json)")
        if path.suffix == ".json":
            entries = read_anyword(path)
            found = [(entry.path, [SceneLine(a.text, a.language, a.polygon, None, a.color, a.valid) for a in
                                   entry.annotations]) for entry in entries]
        else:
            found = read_rows(path, Path(root) if root is not None else path.parent)
        if not found:
            raise MissingFileError(f"{path} names no picture")
        return cls([name for name, _ in found], [lines for _, lines in found])


def read_rows(path: Path, root: Path) -> list[tuple[Path, list[SceneLine]]]:
    """The rows of a label file: path of the picture, and its texts; empty lines are left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelFileError(f"{path} cannot be read as UTF-8: {error}") from error
    found = []
    for number, row in enumerate(text.splitlines(), 1):
        if not row.strip():
            continue
        name, tab, labels = row.partition("\t")
        where = f"{path}, line {number}"
        if not tab:
            raise LabelFileError(f"{where}: there is no tab between the picture's path and its JSON")
        try:
            texts = json.loads(labels)
        except ValueError as error:
            raise LabelFileError(f"{where}: no JSON behind the tab: {error}") from error
        if not isinstance(texts, list):
            raise LabelFileError(f"{where}: a list of texts is expected, got a {type(texts).__name__}")
        found.append((root / name.strip(), [_line(value, f"{where}, text {i}") for i, value in enumerate(texts)]))
    return found


def _line(value, where: str) -> SceneLine:
    text = value.get("transcription") if isinstance(value, dict) else None
    points = value.get("points") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise LabelFileError(f'{where}: a text is {{"transcription": "...", "points": [[x, y], ...]}}, got '
                             f"{str(value)[:60]}")
    try:
        polygon = np.array(points, np.float64)
    except (TypeError, ValueError):
        polygon = np.zeros(0)
    if polygon.ndim != 2 or polygon.shape[1:] != (2,) or len(polygon) < 3 or not np.isfinite(polygon).all():
        raise LabelFileError(f"{where} ({text!r}): points are three or more [x, y] of finite numbers, got "
                             f"{str(points)[:60]}")
    return SceneLine(text, "Latin", polygon, None, None, text not in IGNORED)


def label_row(name: str, polygons: Sequence[np.ndarray], texts: Sequence[str]) -> str:
    """A line of a label file, without its end; coordinates are rounded to whole pixels."""
    values = [{"transcription": text, "points": [[math.floor(x + 0.5), math.floor(y + 0.5)] for x, y in polygon]}
              for polygon, text in zip(polygons, texts, strict=True)]
    return f"{name}\t{json.dumps(values, ensure_ascii=False)}"


def relative_name(picture: Path, label_file: Path) -> str:
    """The name of a picture in a label file: its way from the file's folder."""
    return Path(os.path.relpath(picture.absolute(), label_file.absolute().parent)).as_posix()
