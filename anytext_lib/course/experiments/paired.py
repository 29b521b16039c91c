"""Means and paired differences with confidence intervals: how sure may one be after a handful of seeds?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Row = Mapping[str, Any]


class Interval(NamedTuple):
    """A mean with the ends of its confidence interval and the number of values; the ends are NaN for one value."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0 (False for one value)."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    """Mean of ``values`` and its Student-t interval, mean +- t_{n-1} s / sqrt(n).

    Raises:
        ValueError: no value, or one that is not finite; the confidence is not in (0, 1).
    """
    x = np.asarray(list(values), float)
    if len(x) == 0 or not np.isfinite(x).all():
        raise ValueError(f"an interval needs at least one value, all finite, got {x.tolist()}")
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence lies between 0 and 1, got {confidence}")
    if len(x) == 1:
        return Interval(float(x[0]), np.nan, np.nan, 1)
    half = stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x))


def paired_difference(rows: Sequence[Row], metric: str, arm: str, baseline: str, confidence: float = 0.95) -> Interval:
    """Interval of ``metric`` in ``arm`` minus that in ``baseline``, seed by seed.

    Pairs share data order, timesteps and noise, so that what is common to both cancels.

    Args:
        rows: one mapping a run, with the keys "arm", "seed" and ``metric``.

    Raises:
        ValueError: a run is there twice, or the two arms do not have the same seeds.
    """
    sides = []
    for name in (arm, baseline):
        chosen = [row for row in rows if row["arm"] == name]
        by_seed = {row["seed"]: row[metric] for row in chosen}
        if len(by_seed) != len(chosen):
            raise ValueError(f"arm {name!r} has {len(chosen)} runs of {len(by_seed)} seeds: choose one starting point")
        sides.append(by_seed)
    ours, theirs = sides
    if not ours or ours.keys() != theirs.keys():
        raise ValueError(f"{arm!r} has the seeds {sorted(ours)}, {baseline!r} {sorted(theirs)}: pairs need the same")
    return mean_interval([ours[seed] - theirs[seed] for seed in sorted(ours)], confidence)
