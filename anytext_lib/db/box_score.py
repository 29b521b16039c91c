r"""How well boxes fit: precision, recall and F at an intersection over union above one half.

.. math:: P = \frac{matched}{found}, \quad R = \frac{matched}{wanted}, \quad F = \frac{2 P R}{P + R}

Protocol of ICDAR 2015: a box and a text match one to one; a box of which more than half lies on a text marked
"don't care" does not count at all, nor does that text.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from anytext_lib.errors import OptionError
from anytext_lib.ocr.detector import Detection
from anytext_lib.scenes.rendering import Scene


@dataclass(frozen=True)
class BoxScore:
    """Counts, which add up over images: boxes ``matched``, ``found``, texts ``wanted``; ``overlap``, the sum of the
    intersections over unions of the matches."""

    matched: int = 0
    found: int = 0
    wanted: int = 0
    overlap: float = 0.0

    def __add__(self, other: BoxScore) -> BoxScore:
        return BoxScore(self.matched + other.matched, self.found + other.found, self.wanted + other.wanted,
                        self.overlap + other.overlap)

    @property
    def precision(self) -> float:
        """1 where nothing was found."""
        return self.matched / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """1 where nothing was wanted."""
        return self.matched / self.wanted if self.wanted else 1.0

    @property
    def f(self) -> float:
        """Harmonic mean of precision and recall: 2 matched / (found + wanted); 1 where there is neither."""
        return 2 * self.matched / (self.found + self.wanted) if self.found + self.wanted else 1.0

    @property
    def mean_overlap(self) -> float:
        """Mean intersection over union of the matches; 0 without one."""
        return self.overlap / self.matched if self.matched else 0.0

    def __str__(self) -> str:
        return (f"P {self.precision:.3f}  R {self.recall:.3f}  F {self.f:.3f}  "
                f"({self.matched} matched, {self.found} found, {self.wanted} wanted; mean IoU {self.mean_overlap:.3f})")


def score_boxes(found: Sequence, wanted: Sequence, ignore: Sequence[bool] | None = None,
                iou: float = 0.5) -> BoxScore:
    """Score of one image.

    Args:
        found: polygons (P, 2), pixels. wanted: the texts, likewise. ignore: True for texts that do not count.
        iou: a match has an intersection over union above it; at 0.5 or more a box that overlaps no other one has at
            most one partner, so that the order does not matter.
    """
    flags = [False] * len(wanted) if ignore is None else [bool(flag) for flag in ignore]
    if len(flags) != len(wanted):
        raise ValueError(f"{len(wanted)} texts and {len(flags)} flags to ignore do not agree")
    shapes = [_shape(points) for points in wanted]
    texts = [shape for shape, skip in zip(shapes, flags, strict=True) if not skip]
    dont_care = [shape for shape, skip in zip(shapes, flags, strict=True) if skip]
    boxes = [box for box in map(_shape, found)
             if not any(box.intersection(shape).area > 0.5 * box.area for shape in dont_care)]
    overlaps = _matches(boxes, texts, iou)
    return BoxScore(len(overlaps), len(boxes), len(texts), sum(overlaps))


def _matches(boxes: list, texts: list, iou: float) -> list[float]:
    """Intersections over unions of the pairs, best pairs first, each box and each text in one pair at most."""
    pairs = [(_iou(box, text), i, j) for i, box in enumerate(boxes) for j, text in enumerate(texts)]
    used, matched = set(), []
    for value, i, j in sorted(pairs, reverse=True):
        if value > iou and not used & {("box", i), ("text", j)}:
            used |= {("box", i), ("text", j)}
            matched.append(value)
    return matched


def _iou(one, other) -> float:
    shared = one.intersection(other).area
    return shared / (one.area + other.area - shared) if shared else 0.0


def _shape(points):
    from shapely.geometry import Polygon

    shape = Polygon([(float(x), float(y)) for x, y in points])
    return shape if shape.is_valid else shape.buffer(0)


# detectors

class Detector(Protocol):
    """Anything that finds texts in an image (H, W, 3) uint8 RGB."""

    def detect(self, image: np.ndarray) -> list[Detection]: ...


@dataclass(frozen=True)
class DetectorScore:
    """``score`` over all scenes, ``interval`` of F (95%, scenes resampled), ``milliseconds`` of CPU an image."""

    score: BoxScore
    interval: tuple[float, float]
    milliseconds: float

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.score}; F in [{low:.3f}, {high:.3f}], {self.milliseconds:.0f} ms of CPU an image"


def evaluate_detector(detector: Detector, scenes: Iterable[Scene], iou: float = 0.5) -> DetectorScore:
    """Score of a detector on scenes; their illegible lines do not count."""
    scores, spent = [], 0.0
    for scene in scenes:
        start = time.process_time()
        found = detector.detect(scene.image)
        spent += time.process_time() - start
        scores.append(score_boxes([detection.quad for detection in found], [line.polygon for line in scene.lines],
                                  [not line.valid for line in scene.lines], iou))
    if not scores:
        raise OptionError("there is no scene to evaluate the detector on")
    return DetectorScore(sum(scores, BoxScore()), f_interval(scores), 1000 * spent / len(scores))


def compare_detectors(detectors: Mapping[str, Detector], scenes: Iterable[Scene],
                      iou: float = 0.5) -> dict[str, DetectorScore]:
    """Scores of several detectors on the same scenes, by their names; an iterator's scenes are kept for all."""
    if isinstance(scenes, Iterator):
        scenes = list(scenes)
    return {name: evaluate_detector(detector, scenes, iou) for name, detector in detectors.items()}


def f_interval(scores: list[BoxScore], draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95% interval of F over resampled images: the lines of an image are not independent."""
    counts = np.array([(score.matched, score.found + score.wanted) for score in scores], np.float64)
    rows = np.random.default_rng(seed).integers(len(counts), size=(draws, len(counts)))
    matched, both = counts[rows].sum(axis=1).T
    low, high = np.quantile(2 * matched / np.maximum(both, 1), (0.025, 0.975))
    return float(low), float(high)
