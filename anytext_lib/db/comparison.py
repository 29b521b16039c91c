"""Detectors on the same held-out scenes: precision, recall and F."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from anytext_lib.db.score import BoxScore, score_boxes
from anytext_lib.errors import OptionError
from anytext_lib.ocr.detector import Detection
from anytext_lib.scenes.rendering import Scene


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
    """Scores of several detectors on the same scenes, by their names."""
    scenes = list(scenes)
    return {name: evaluate_detector(detector, scenes, iou) for name, detector in detectors.items()}


def f_interval(scores: list[BoxScore], draws: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95% interval of F over resampled images: the lines of an image are not independent."""
    counts = np.array([(score.matched, score.found + score.wanted) for score in scores], np.float64)
    rows = np.random.default_rng(seed).integers(len(counts), size=(draws, len(counts)))
    matched, both = counts[rows].sum(axis=1).T
    low, high = np.quantile(2 * matched / np.maximum(both, 1), (0.025, 0.975))
    return float(low), float(high)
