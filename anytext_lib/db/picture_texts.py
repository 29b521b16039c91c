"""What `anytext db detect` does: the texts of a picture as data and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from anytext_lib.db.dbnet import find_boxes
from anytext_lib.db.outlines import find_polygons
from anytext_lib.errors import OptionError
from anytext_lib.ocr.detector import reading_order

COLOUR = (213, 94, 0)  # RGB: told apart from most photographs, by colour-blind people too


class Mapper(Protocol):
    """Anything with DB's probability map of a picture (H, W, 3) uint8: (1, 1, H, W)."""

    def probability(self, images: np.ndarray) -> torch.Tensor: ...


@dataclass(frozen=True)
class FoundText:
    """``points`` (P, 2) float32 in pixels of the picture, ``score`` in [0, 1]."""

    points: np.ndarray
    score: float


@dataclass(frozen=True)
class Search:
    """How texts are found in a probability map.

    Attributes:
        threshold: P above it belongs to a kernel. ``box_threshold``: least mean P inside a kernel.
        unclip: how far kernels are grown, PaddleOCR 1.5 to 2. ``polygons``: outlines in the place of boxes.
        dilate: widen kernels by a pixel. ``side``: the longer side of the picture that is looked at, in pixels; 0 takes
            it as it is.

    Raises:
        OptionError: a threshold lies outside [0, 1], or unclip or side is negative.
    """

    threshold: float = 0.3
    box_threshold: float = 0.5
    unclip: float = 1.5
    polygons: bool = False
    dilate: bool = False
    side: int = 0

    def __post_init__(self):
        for name in ("threshold", "box_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is a probability in [0, 1], got {getattr(self, name)}")
        for name in ("unclip", "side"):
            if not getattr(self, name) >= 0:
                raise OptionError(f"{name} is at least 0, got {getattr(self, name)}")

    def __call__(self, detector: Mapper, picture: np.ndarray) -> list[FoundText]:
        """The texts of a picture (H, W, 3) uint8, RGB, in reading order."""
        import cv2

        height, width = picture.shape[:2]
        factor = self.side / max(height, width) if self.side else 1.0
        size = max(1, round(width * factor)), max(1, round(height * factor))
        seen = picture if factor == 1 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA if factor < 1 else
                                                      cv2.INTER_LINEAR)
        probability = detector.probability(seen)[0, 0]
        options = {"threshold": self.threshold, "min_score": self.box_threshold, "unclip_ratio": self.unclip,
                   "dilate": self.dilate}
        found = (find_polygons if self.polygons else find_boxes)(probability, **options)
        scale = np.float32([width / size[0], height / size[1]])
        texts = [FoundText(points.numpy() * scale, float(score)) for points, score in found]
        return [texts[i] for i in reading_order([torch.from_numpy(text.points) for text in texts])]


def as_rows(texts: Sequence[FoundText]) -> list[dict]:
    """Texts as plain data: points rounded to tenths of a pixel, scores to thousandths."""
    return [{"points": [[round(float(x), 1), round(float(y), 1)] for x, y in text.points],
             "score": round(text.score, 3)} for text in texts]


def draw(picture: np.ndarray, texts: Sequence[FoundText]) -> np.ndarray:
    """A copy of the picture (H, W, 3) uint8 with the outlines of its texts and their numbers, from 1."""
    import cv2

    drawn, width = picture.copy(), max(1, round(max(picture.shape[:2]) / 400))
    for number, text in enumerate(texts, 1):
        points = np.rint(text.points).astype(np.int32)
        cv2.polylines(drawn, [points], True, COLOUR, width, cv2.LINE_AA)
        left, top = points[points.sum(axis=1).argmin()]
        where = int(left), int(max(top - 2 * width, 10 * width))
        cv2.putText(drawn, str(number), where, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * width, COLOUR, width, cv2.LINE_AA)
    return drawn
