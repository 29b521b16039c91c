"""Means and paired differences with confidence intervals: how sure may one be after a handful of seeds?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Row = Mapping[str, Any]


class StudentInterval(NamedTuple):
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


def student_interval(values: Iterable[float], confidence: float = 0.95) -> StudentInterval:
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
        return StudentInterval(float(x[0]), np.nan, np.nan, 1)
    half = stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return StudentInterval(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x))


def differences(rows: Sequence[Row], metric: str, arm: str, baseline: str) -> np.ndarray:
    """``metric`` in ``arm`` minus that in ``baseline``, seed by seed: (S,) in the order of the seeds.

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
    return np.array([ours[seed] - theirs[seed] for seed in sorted(ours)])


def paired_difference(rows: Sequence[Row], metric: str, arm: str, baseline: str,
                      confidence: float = 0.95) -> StudentInterval:
    """Student's interval of ``differences``: what a seed did to both arms cancels.

    Raises:
        ValueError: as ``differences`` and ``student_interval``.
    """
    return student_interval(differences(rows, metric, arm, baseline), confidence)


def sign_flip_p(values: Iterable[float]) -> float:
    """Exact two-sided p value of the sign-flip test: the share of sign patterns whose sum is at least as far from 0.

    It needs no normal distribution, only that each difference might as well have had the other sign.  The smallest
    possible value is 2 / 2^n.

    Raises:
        ValueError: no value, one that is not finite, or more than 20 (2^20 patterns).
    """
    x = np.asarray(list(values), float)
    if not 1 <= len(x) <= 20 or not np.isfinite(x).all():
        raise ValueError(f"the sign-flip test takes 1 to 20 finite values, got {x.tolist()}")
    signs = 1 - 2 * ((np.arange(2 ** len(x))[:, None] >> np.arange(len(x))) & 1)
    return float(np.mean(np.abs(signs @ x) >= abs(x.sum()) - 1e-12))


def clustered_interval(values: Iterable[float], groups: Iterable[Any], confidence: float = 0.95) -> StudentInterval:
    """Mean of ``values`` with an interval that counts equal ``groups`` as one piece of evidence, not as several.

    The standard error is the cluster-robust one, sqrt(G / (G - 1) sum_g (sum_{i in g} (x_i - mean))^2) / n for G
    groups, with the t quantile of G - 1 degrees of freedom; with a group for each value it is ``student_interval``.

    Returns:
        A StudentInterval whose ``n`` is G, the number of different groups; its ends are NaN for one group.

    Raises:
        ValueError: no value, one that is not finite, not as many groups as values, or a confidence outside (0, 1).
    """
    x, names = np.asarray(list(values), float), list(groups)
    if len(names) != len(x):
        raise ValueError(f"{len(x)} values need as many groups, got {len(names)}")
    mean = student_interval(x, confidence).mean
    variance, count = _cluster_variance(x - mean, names)
    return _interval(mean, variance, count, confidence)


def crossed_interval(values: Iterable[float], first: Iterable[Any], second: Iterable[Any],
                     confidence: float = 0.95) -> StudentInterval:
    """Mean of ``values`` with an interval for values that are alike within the groups of two kinds, as the readings of
    the same words by models of the same seeds are.

    The variance is the sum of the two cluster-robust ones less that of the pairs (Cameron, Gelbach and Miller 2011),
    never below the larger of the two; the t quantile has the degrees of freedom of the smaller number of groups.

    Returns:
        A StudentInterval whose ``n`` is that number; its ends are NaN for one group.

    Raises:
        ValueError: as of ``clustered_interval``.
    """
    x, one, two = np.asarray(list(values), float), list(first), list(second)
    if not len(x) == len(one) == len(two):
        raise ValueError(f"{len(x)} values need as many groups of both kinds, got {len(one)} and {len(two)}")
    mean = student_interval(x, confidence).mean
    each = [_cluster_variance(x - mean, names) for names in (one, two)]
    pairs, _ = _cluster_variance(x - mean, [f"{a}\t{b}" for a, b in zip(one, two, strict=True)])
    variances = [variance for variance, _ in each]
    return _interval(mean, max(sum(variances) - pairs, *variances), min(count for _, count in each), confidence)


def _cluster_variance(residuals: np.ndarray, names: list[Any]) -> tuple[float, int]:
    """Cluster-robust variance of the mean, NaN for one group, and the number of groups."""
    _, index = np.unique(np.asarray(names), return_inverse=True)
    sums = np.bincount(index, residuals)
    count = len(sums)
    if count == 1:
        return np.nan, 1
    return float(count / (count - 1) * np.square(sums).sum() / len(residuals) ** 2), count


def _interval(mean: float, variance: float, count: int, confidence: float) -> StudentInterval:
    if count == 1:
        return StudentInterval(mean, np.nan, np.nan, 1)
    half = stats.t.ppf((1 + confidence) / 2, count - 1) * np.sqrt(variance)
    return StudentInterval(mean, float(mean - half), float(mean + half), count)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """p values adjusted for their number by Holm's method (1979), by the same names."""
    adjusted, least = {}, 0.0
    for rank, name in enumerate(sorted(p, key=lambda name: p[name])):
        least = max(least, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = least
    return adjusted
