"""From an annotation file to what a recogniser reads on every line of every picture: the slow half of text accuracy.

AnyText's benchmark has four pictures of each entry, ``<stem>_0.jpg`` to ``<stem>_3.jpg`` (stem: the name up to its
first dot, as upstream); any other folder has one, under the entry's own name or stem.

A line is cut out of its picture in one of two ways; the number that a recogniser gives depends on which:

    upright   the smallest turned rectangle around the polygon, put upright by a similarity transform, turned if tall:
              as in AnyText2's losses and evaluation (``anytext_lib.ocr.crops``)
    box       the rows and columns that the polygon spans, as they are: UDiffText ``test.py``
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from anytext_lib.data.anyword import AnnotatedImage, Annotation, read_anyword
from anytext_lib.data.anyword_stream import AnyWordError
from anytext_lib.data.batch import to_tensor
from anytext_lib.data.lines import BadLineError, BadLineWarning, TextLines
from anytext_lib.errors import MissingFileError, OptionError
from anytext_lib.evaluation.journal import Journal, Picture, measure
from anytext_lib.files import print_report
from anytext_lib.ocr.crops import crop_lines
from anytext_lib.ocr.judge import JUDGES, Judge

SUFFIXES = (".jpg", ".png", ".jpeg", ".webp", ".bmp")
MAX_LINES = 20  # upstream reads the first 20 lines of an entry
SHOWN = 5
HEIGHT, WIDTH = 48, 320  # what the recognisers take
LOSS_RECOGNISER = "ppocrv3"
READERS = (*JUDGES, LOSS_RECOGNISER)
SETTINGS_KEY = "anytext"  # PNG text chunk of `anytext generate`


# pictures


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
                missing.append(entry.name if sample is None else f"{picture_stem(entry)}_{sample}")
            else:
                name = path.relative_to(root).as_posix()
                found.append(Picture(path, name, item, entry.caption, lines, entry.path))
    if not found or (missing and not skip_missing):
        raise MissingFileError(_complaint(annotations, root, missing, len(found)))
    return found, missing


def _root(entry: AnnotatedImage) -> Path:
    """The folder that names of entries start from: data_root of the annotation file."""
    return entry.path.parents[len(Path(entry.name).parts) - 1]


def picture_stem(entry: AnnotatedImage) -> str:
    """The name that an entry's pictures begin with: its own, up to the first dot."""
    return Path(entry.name).name.split(".")[0]


def _locate(entry: AnnotatedImage, root: Path, sample: int | None) -> Path | None:
    """Locate the file of a sample; with ``sample`` None the file with the entry's own name, or its stem."""
    own, end = Path(entry.name), "" if sample is None else f"_{sample}"
    names = [own.name] if sample is None else []
    names += [stem + end + suffix for stem in dict.fromkeys((picture_stem(entry), own.stem)) for suffix in SUFFIXES]
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


# lines


def cut_line(picture: torch.Tensor, line: Annotation, crop: str = "upright") -> torch.Tensor:
    """One line, ready for a recogniser.

    Args:
        picture: (3, H, W) in [-1, 1], RGB. ``line``: its polygon is in pixels of the picture.
        crop: a name of ``CROPS``.

    Returns:
        (3, 48, 320) in [-1, 1], padded on the right with 0.

    Raises:
        BadLineError: the line has no area inside the picture; the message says why.
    """
    if crop not in CROPS:
        raise ValueError(f"there is no crop {crop!r}: choose one of {sorted(CROPS)}")
    return CROPS[crop](picture, line)


def _upright(picture: torch.Tensor, line: Annotation) -> torch.Tensor:
    size = tuple(picture.shape[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadLineWarning)
        lines = TextLines.from_polygons([line.polygon], [0], [line.text], [line.language], size)
    return crop_lines(picture[None], lines, HEIGHT, WIDTH)[0]


def _box(picture: torch.Tensor, line: Annotation) -> torch.Tensor:
    _, height, width = picture.shape
    (left, top), (right, bottom) = np.floor(line.polygon.min(axis=0)), np.ceil(line.polygon.max(axis=0))
    left, right = (int(np.clip(x, 0, width)) for x in (left, right))
    top, bottom = (int(np.clip(y, 0, height)) for y in (top, bottom))
    if right <= left or bottom <= top:
        raise BadLineError(f"line {line.text!r} spans x {left} to {right}, y {top} to {bottom} of a picture of "
                           f"{width} x {height} pixels: nothing is left of it")
    piece = picture[None, :, top:bottom, left:right]
    fitted = min(WIDTH, math.ceil(HEIGHT * (right - left) / (bottom - top)))
    resized = F.interpolate(piece, (HEIGHT, fitted), mode="bilinear", align_corners=False, antialias=True)[0]
    return F.pad(resized, (0, WIDTH - fitted))


CROPS = {"upright": _upright, "box": _box}


# readings


@dataclass(frozen=True)
class LineReading:
    """One line: the annotated text and its readings.

    Attributes:
        picture: name of the file. ``item``: its entry. ``line``: which of the entry's lines, from 0.
        wanted, read: texts. ``language``: as annotated. ``confidence``: of the recogniser, in [0, 1].
    """

    picture: str
    item: int
    line: int
    wanted: str
    read: str
    language: str
    confidence: float


@dataclass(frozen=True)
class Readings:
    """All lines in the order of the pictures.

    Attributes:
        lines: those that could be cut out. ``skipped``: for each other one, where it is and why.
        settings: for each picture what its PNG says of its generation, or None.
    """

    lines: list[LineReading]
    skipped: list[str]
    settings: list[dict | None]


def open_reader(name: str, threads: int = 1) -> Any:
    """A recogniser by name: a judge, or "ppocrv3", the one of the losses, for comparison only.

    Raises:
        OptionError: unknown name. WeightsError: it is not installed.
    """
    if name == LOSS_RECOGNISER:
        from anytext_lib.ocr.recogniser import PPOCRv3Recognizer

        return PPOCRv3Recognizer.from_pretrained()
    if name not in READERS:
        raise OptionError(f"there is no recogniser {name!r}: choose one of {sorted(READERS)}")
    return Judge.from_name(name, threads=threads)


def read_pictures(pictures: Sequence[Picture], reader: Any, crop: str, path: str | os.PathLike,
                  settings: dict[str, Any], batch: int = 16, restart: bool = False,
                  report: Callable[[str], None] = print_report) -> Readings:
    """Read every line, going on where an earlier run with the same ``settings`` was stopped.

    Args:
        reader: an object with ``read_scored(crops)``. ``crop``: see ``cut_line``.
        path: of the journal. ``settings``: what the readings depend on, see ``Journal``.
        batch, report: see ``measure``. ``restart``: forget an earlier run.

    Raises:
        JournalError: the journal has other settings. ComparedPictureError: a picture cannot be decoded.
    """
    def work(part: Sequence[Picture], pixels: Sequence[np.ndarray]) -> list[dict]:
        return _read_batch(part, pixels, reader, crop)

    rows = measure(pictures, work, Journal(path, {**settings, "crop": crop}, restart), batch, report=report)
    lines = [LineReading(picture.name, picture.item, *line)
             for picture, row in zip(pictures, rows, strict=True) for line in row["lines"]]
    skipped = [f"{row['picture']}: {reason}" for row in rows for reason in row["skipped"]]
    return Readings(lines, skipped, [row["settings"] for row in rows])


def _read_batch(pictures: Sequence[Picture], pixels: Sequence[np.ndarray], reader: Any, crop: str) -> list[dict]:
    """Rows of a batch; all its lines go to the recogniser together."""
    rows, crops, places = [], [], []
    for picture, array in zip(pictures, pixels, strict=True):
        rows.append({"lines": [], "skipped": [], "settings": picture_settings(picture.path)})
        tensor = to_tensor(array)[0]
        for number, line in enumerate(picture.lines):
            try:
                crops.append(cut_line(tensor, line, crop))
                places.append((rows[-1], number, line))
            except BadLineError as error:
                rows[-1]["skipped"].append(f"line {number}: {error}")
    readings = reader.read_scored(torch.stack(crops)) if crops else []
    for (row, number, line), reading in zip(places, readings, strict=True):
        row["lines"].append([number, line.text, reading.text, line.language, round(reading.confidence, 4)])
    return rows


def picture_settings(path: str | os.PathLike) -> dict[str, Any] | None:
    """Sampler, checkpoint and seed that `anytext generate` wrote into a PNG; None for any other picture."""
    from PIL import Image

    if Path(path).suffix.lower() != ".png":
        return None
    try:
        with Image.open(path) as picture:
            picture.load()
            record = json.loads(picture.info[SETTINGS_KEY])
        model = record.get("model")
        return {"sampler": {"scheduler": record["scheduler"]["class"], **record["settings"]},
                "checkpoint": model and {"name": Path(model["folder"]).name, "sha256": model["sha256"]},
                "seed": record["seeds"][record["place"]]}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):  # written by another program
        return None
