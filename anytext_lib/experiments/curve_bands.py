r"""Bands of loss curves: where a run with a fresh seed stays, and how far a given run leaves them.

Curves are compared as logarithms, for faults multiply them. A training curve is first the mean over the last
``WINDOW`` batches, as single ones are mostly the noise of their timesteps; a validation curve is taken as it is. With
mean m and deviation s over n recorded seeds, at every step,

.. math:: z = \frac{|\log y - m|}{s \sqrt{1 + 1/n}}

and the band is where z <= c. One c holds for all curves and steps at once: the largest z of any recorded seed under
the band of the others.  By symmetry a fresh seed leaves such a band with a probability of about 1 / (n + 1);
``false_alarms`` counts it, each seed against c and band of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anytext_lib.course.training_log import Curve

WINDOW = 8
LEAST = 1e-12  # a term that is switched off is logged as 0
Curves = Mapping[str, Curve]


@dataclass(frozen=True)
class Band:
    """Where curves stay.

    Attributes:
        steps, middle, spread: by tag, (N,): steps, mean and deviation of the logarithm, the latter of a fresh curve.
        factor: c, 0 until it is known.
    """

    steps: dict[str, np.ndarray]
    middle: dict[str, np.ndarray]
    spread: dict[str, np.ndarray]
    factor: float = 0.0

    def edges(self, tag: str) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper edge of a curve's band, (N,), in the units of the curve."""
        half = self.factor * self.spread[tag]
        return np.exp(self.middle[tag] - half), np.exp(self.middle[tag] + half)


@dataclass(frozen=True)
class Departure:
    """How one curve of a run lies to its band; arrays (N,) over the steps that both have.

    Attributes:
        steps, z: distance from the middle in deviations, with its sign. ``ratio``: of the smoothed curve to the middle.
        outside: where |z| > c.
    """

    steps: np.ndarray
    z: np.ndarray
    ratio: np.ndarray
    outside: np.ndarray

    @property
    def first(self) -> int | None:
        """The first step outside."""
        return int(self.steps[self.outside][0]) if self.outside.any() else None

    @property
    def furthest(self) -> int:
        """Index of the step that lies furthest from the middle."""
        return int(np.abs(self.z).argmax())


def runs_of(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str, int], dict[str, Curve]]:
    """Curves by tag of every recorded run, by (kind, name, seed)."""
    values: dict[tuple[str, str, int], dict[str, dict[int, float]]] = {}
    for row in rows:
        run = values.setdefault((row["kind"], row["name"], row["seed"]), {})
        run.setdefault(row["tag"], {})[row["step"]] = row["value"]
    return {key: {tag: Curve(np.array(sorted(found)), np.array([found[step] for step in sorted(found)]))
                  for tag, found in run.items()} for key, run in values.items()}


def smoothed(tag: str, values: np.ndarray) -> np.ndarray:
    """Logarithm of a curve (N,): of a training curve the mean over the last ``WINDOW`` values, fewer at its start."""
    if not tag.startswith("v/"):
        values = np.array([values[max(0, i + 1 - WINDOW) : i + 1].mean() for i in range(len(values))])
    return np.log(np.maximum(values, LEAST))


def band_of(runs: Sequence[Curves], tags: Sequence[str]) -> Band:
    """The band of ``runs``, which have the same steps; c is left at 0. At least two runs are needed.

    The variance at a step is averaged with that of its neighbours, for it comes from few runs.
    """
    steps, middle, spread = {}, {}, {}
    for tag in tags:
        curves = np.array([smoothed(tag, run[tag].values) for run in runs])
        steps[tag] = runs[0][tag].steps
        middle[tag] = curves.mean(axis=0)
        averaged = np.minimum(np.arange(1, curves.shape[1] + 1), 1 if tag.startswith("v/") else WINDOW)
        scaled = curves.var(axis=0, ddof=1) * averaged  # about the variance of one batch
        near = [scaled[max(0, i - 2) : i + 3].mean() for i in range(len(scaled))]
        spread[tag] = np.sqrt(np.array(near) / averaged * (1 + 1 / len(runs)))
    return Band(steps, middle, spread)


def departures(band: Band, run: Curves) -> dict[str, Departure]:
    """How the curves of a run lie to the band, for the tags and steps that both have."""
    found = {}
    for tag, steps in band.steps.items():
        if tag not in run:
            continue
        here = np.isin(run[tag].steps, steps)
        there = np.isin(steps, run[tag].steps)
        if not there.any():
            continue
        away = smoothed(tag, run[tag].values[here]) - band.middle[tag][there]
        z = away / band.spread[tag][there]
        found[tag] = Departure(steps[there], z, np.exp(away), np.abs(z) > band.factor)
    return found


def largest(band: Band, run: Curves) -> float:
    """The largest |z| of a run."""
    return max(float(np.abs(each.z).max()) for each in departures(band, run).values())


def calibrated(runs: Sequence[Curves], tags: Sequence[str]) -> Band:
    """The band of ``runs`` with c, see the module; at least three runs are needed."""
    band = band_of(runs, tags)
    return Band(band.steps, band.middle, band.spread, max(_left_out(runs, tags)))


def false_alarms(runs: Sequence[Curves], tags: Sequence[str]) -> int:
    """Number of runs that leave the band of the others, with the others' c; at least four runs are needed."""
    return sum(any(each.outside.any() for each in departures(calibrated(others, tags), run).values())
               for run, others in _each_left_out(runs))


def _left_out(runs: Sequence[Curves], tags: Sequence[str]) -> list[float]:
    """Largest z of each run under the band of the others."""
    return [largest(band_of(others, tags), run) for run, others in _each_left_out(runs)]


def _each_left_out(runs: Sequence[Curves]):
    for i, run in enumerate(runs):
        yield run, [*runs[:i], *runs[i + 1 :]]


def gap(run: Curves, twin: Curves, tags: Sequence[str]) -> dict[str, np.ndarray]:
    """|log(y / y')| of two runs of one seed, at every step that both have, by tag; not smoothed."""
    found = {}
    for tag in tags:
        if tag in run and tag in twin:
            here, there = np.isin(run[tag].steps, twin[tag].steps), np.isin(twin[tag].steps, run[tag].steps)
            pair = (np.log(np.maximum(curve.values[rows], LEAST))
                    for curve, rows in ((run[tag], here), (twin[tag], there)))
            found[tag] = np.abs(np.subtract(*pair))
    return found
