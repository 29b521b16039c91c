"""How sure a mean is: bootstrap over the items.

Lines of one picture, and the pictures of one item, are alike in layout, fonts and difficulty; items are drawn, not
lines, or the interval is too narrow.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

LEVEL, RESAMPLES = 0.95, 2000


class Bounds(NamedTuple):
    """Bounds of a confidence interval; None where the data cannot tell (one item, or all items alike)."""

    low: float | None
    high: float | None


def bootstrap_interval(values: Sequence[float], items: Sequence[int], level: float = LEVEL,
                  resamples: int = RESAMPLES, seed: int = 0) -> Bounds:
    """Interval of the mean of ``values`` by BCa bootstrap over ``items``.

    Args:
        values: (N,) one number for each line or picture. ``items``: (N,) which item each belongs to.
        level: of confidence, in (0, 1). ``resamples``, ``seed``: of the bootstrap.
    """
    from scipy.stats import bootstrap

    numbers, owners = np.asarray(values, np.float64), np.asarray(items)
    if numbers.shape != owners.shape or numbers.ndim != 1:
        raise ValueError(f"give one item for each value, got shapes {numbers.shape} and {owners.shape}")
    _, rows = np.unique(owners, return_inverse=True)
    if len(numbers) == 0 or rows.max() < 1 or numbers.min() == numbers.max():
        return Bounds(None, None)
    sums, counts = np.bincount(rows, numbers), np.bincount(rows).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of data too much alike: the bounds are NaN then
        found = bootstrap((sums, counts), _ratio, paired=True, vectorized=True, confidence_level=level, batch=200,
                          n_resamples=resamples, method="BCa", rng=np.random.default_rng(seed)).confidence_interval
    return Bounds(*(float(bound) if np.isfinite(bound) else None for bound in found))


def about(resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """How the intervals of a result file were made."""
    return {"method": "BCa", "over": "items", "level": LEVEL, "resamples": resamples, "seed": seed}


def _ratio(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
    return sums.sum(axis=axis) / counts.sum(axis=axis)
