"""From intervals to sentences: what a comparison shows, and no more.

All notebooks that read a recorded experiment take their sentences from here, so that "better" means the same on every
page: an interval without zero, on the side that is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from anytext_lib.evaluation.score import edit_distance_score
from anytext_lib.experiments.paired import (
    StudentInterval,
    clustered_interval,
    differences,
    paired_difference,
    sign_flip_p,
    student_interval,
)

Row = Mapping[str, Any]


def in_words(found: StudentInterval, up: bool = True, p: float | None = None) -> str:
    """What an interval says: "+0.247 [+0.186, +0.309]: better".

    Args:
        up: whether a larger value is better. ``p``: of a test beside the interval, shown if it is given.
    """
    beside = "" if p is None else f", p = {p:.3g}"
    if not math.isfinite(found.low):
        return f"{found.mean:+.3f} in one case: no interval, no statement"
    if not found.excludes_zero:
        return f"{found}{beside}: not shown to differ"
    return f"{found}{beside}: {'better' if (found.mean > 0) == up else 'worse'}"


def decide(found: StudentInterval, p: float, margin: float, family: float = 0.05) -> str:
    """The verdict of a comparison: "gain", "loss", "no gain" (the interval ends below ``margin``) or "undecided".

    Args:
        p: adjusted for the number of comparisons; a gain or a loss needs one of at most ``family``.
    """
    if p <= family and found.excludes_zero:
        return "gain" if found.low > 0 else "loss"
    return "no gain" if found.high < margin else "undecided"


def _side(found: StudentInterval) -> int:
    """1, 0 or -1: a gain, nothing shown, a loss."""
    return int(found.low > 0) - int(found.high < 0)


def whose_gain(judge: StudentInterval, own: StudentInterval) -> str:
    """What two readers say about an arm: an independent judge, and the reader that the loss itself uses."""
    return {
        (1, 1): "both readers see a gain",
        (1, 0): "the judge sees a gain, the loss's own reader shows none",
        (1, -1): "the judge sees a gain, the loss's own reader a loss",
        (0, 1): "only the loss's own reader sees a gain",
        (0, 0): "no reader shows a difference",
        (0, -1): "the loss's own reader sees a loss, the judge shows no difference",
        (-1, 1): "the judge sees a loss, the loss's own reader a gain: it was fooled",
        (-1, 0): "the judge sees a loss, the loss's own reader shows no difference",
        (-1, -1): "both readers see a loss",
    }[_side(judge), _side(own)]


class RunTable:
    """Runs of a recorded experiment: a number for each arm, seed and key, and comparisons of arms.

    Args:
        rows: one mapping a run, with "arm", "seed" and the measured keys; one starting point.
        baseline: the arm that others are compared with unless another is named.
    """

    def __init__(self, rows: Iterable[Row], baseline: str):
        self.rows, self.baseline = sorted(rows, key=lambda row: row["seed"]), baseline

    def of(self, arm: str, key: str) -> np.ndarray:
        """The values of an arm, (S,), in the order of the seeds."""
        return np.array([row[key] for row in self.rows if row["arm"] == arm])

    def cell(self, arm: str, key: str, digits: int = 3) -> str:
        """Mean and half width of its 95% interval over seeds, "0.611 ±0.036"."""
        found = student_interval(self.of(arm, key))
        return f"{found.mean:.{digits}f} ±{(found.high - found.low) / 2:.{digits}f}"

    def differences(self, arm: str, key: str, base: str | None = None) -> np.ndarray:
        """``key`` of ``arm`` minus that of ``base``, (S,), seed by seed."""
        return differences(self.rows, key, arm, base or self.baseline)

    def gain(self, arm: str, key: str, base: str | None = None, confidence: float = 0.95) -> StudentInterval:
        """Interval of ``differences``."""
        return paired_difference(self.rows, key, arm, base or self.baseline, confidence)

    def told(self, arm: str, key: str, base: str | None = None, up: bool = True) -> str:
        """The gain in words, with the p value of the sign-flip test beside it."""
        return in_words(self.gain(arm, key, base), up, sign_flip_p(self.differences(arm, key, base)))


def word_scores(readings: Sequence[Row], arm: str, reader: str) -> tuple[np.ndarray, list[str]]:
    """NED of every held-out scene, the mean over the seeds, (W,), and the words of the scenes, in lower case.

    Args:
        readings: rows with "arm", "index", "wanted" and what each reader read, under its name.
    """
    scores: dict[int, list[float]] = {}
    words: dict[int, str] = {}
    for row in readings:
        if row["arm"] == arm:
            scores.setdefault(row["index"], []).append(edit_distance_score(row[reader], row["wanted"]))
            words[row["index"]] = row["wanted"].lower()
    order = sorted(scores)
    return np.array([np.mean(scores[index]) for index in order]), [words[index] for index in order]


def gain_over_words(readings: Sequence[Row], arm: str, baseline: str, reader: str) -> StudentInterval:
    """Interval over *words* of an arm's NED minus the baseline's; scenes of one word count as one piece of evidence."""
    ours, words = word_scores(readings, arm, reader)
    theirs, _ = word_scores(readings, baseline, reader)
    return clustered_interval(ours - theirs, words)
