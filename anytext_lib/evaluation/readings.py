"""What a recogniser reads on every line of every picture: the slow half of text accuracy, kept in a journal."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from anytext_lib.data.lines import BadLineError
from anytext_lib.errors import OptionError
from anytext_lib.evaluation.crops import cut_line, to_tensor
from anytext_lib.evaluation.items import Picture
from anytext_lib.evaluation.journal import Journal
from anytext_lib.evaluation.measure import measure
from anytext_lib.evaluation.provenance import LOSS_RECOGNISER, picture_settings
from anytext_lib.files import print_report
from anytext_lib.ocr.judge import JUDGES, Judge

READERS = (*JUDGES, LOSS_RECOGNISER)


@dataclass(frozen=True)
class LineReading:
    """One line: what stood in the annotations, and what was read.

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
        reader: an object with ``read_scored(crops)``. ``crop``: see ``evaluation.crops``.
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
        tensor = to_tensor(array)
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
