"""Text spotting: where the lines of a photograph stand, and what a reader makes of each."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch

from anytext_lib.data.batch import to_tensor
from anytext_lib.data.lines import BadLineWarning, TextLines
from anytext_lib.data.texts import normal_text
from anytext_lib.ocr.crops import crop_lines, readable_rows
from anytext_lib.ocr.detector import Detection, TextDetector


class SpottedLine(NamedTuple):
    """A line that was found and read.

    Attributes:
        quad: (4, 2) float32 in pixels, order tl, tr, br, bl. ``found``: mean probability of text inside it, in [0, 1].
        text: as read, in its one form. ``confidence``: of the reader, in [0, 1].
    """

    quad: torch.Tensor
    found: float
    text: str
    confidence: float

    @property
    def score(self) -> float:
        """The lesser of the two certainties: a line is as doubtful as its more doubtful half."""
        return min(self.found, self.confidence)


def spot_lines(image: np.ndarray, detector: TextDetector, reader: Any) -> list[SpottedLine]:
    """The lines of a picture, in reading order; boxes without an area inside it are left out.

    Args:
        image: (H, W, 3) uint8, RGB. ``reader``: an object with ``read_scored(crops)``: a judge or a recogniser.
    """
    detections = detector.detect(image)
    lines = quads_as_lines([detection.quad for detection in detections])
    pixels = to_tensor(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadLineWarning)
        rows = readable_rows(lines, pixels, "skip")
    readings = reader.read_scored(crop_lines(pixels, lines.select(rows))) if rows else []
    return [_spotted(detections[i], normal_text(reading.text).strip(), reading.confidence)
            for i, reading in zip(rows, readings, strict=True)]


def quads_as_lines(quads: list[torch.Tensor], texts: list[str] | None = None) -> TextLines:
    """Lines of one image from quads (4, 2), with their texts where they are known."""
    if not quads:
        return TextLines.empty()
    texts = [""] * len(quads) if texts is None else texts
    return TextLines(torch.zeros(len(quads), dtype=torch.int64), torch.stack(quads), texts, ["Latin"] * len(quads))


def _spotted(detection: Detection, text: str, confidence: float) -> SpottedLine:
    return SpottedLine(detection.quad, detection.score, text, confidence if text else 0.0)
