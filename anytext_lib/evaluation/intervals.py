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


class Interval(NamedTuple):
    """Bounds of a confidence interval; None where the data cannot tell (one item, or all items alike)."""

    low: float | None
    high: float | None


def mean_interval(values: Sequence[float], items: Sequence[int], level: float = LEVEL,
                  resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Interval of the mean of ``values`` by BCa bootstrap over ``items``.

    Args:
        values: (N,) one number for each line or picture. ``items``: (N,) which item each belongs to.
        level: of confidence, in (0, 1). ``resamples``, ``seed``: of the bootstrap.
    """
    from scipy.stats import bootstrap

    values, items = np.asarray(values, np.float64), np.asarray(items)
    if values.shape != items.shape or values.ndim != 1:
        raise ValueError(f"give one item for each value, got shapes {values.shape} and {items.shape}")
    _, rows = np.unique(items, return_inverse=True)
    if len(values) == 0 or rows.max() < 1 or values.min() == values.max():
        return Interval(None, None)
    sums, counts = np.bincount(rows, values), np.bincount(rows).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of data too much alike: the bounds are NaN then
        found = bootstrap((sums, counts), _ratio, paired=True, vectorized=True, confidence_level=level, batch=200,
                          n_resamples=resamples, method="BCa", rng=np.random.default_rng(seed)).confidence_interval
    return Interval(*(float(bound) if np.isfinite(bound) else None for bound in found))


def about(resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """How the intervals of a result file were made."""
    return {"method": "BCa", "over": "items", "level": LEVEL, "resamples": resamples, "seed": seed}


def _ratio(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
    return sums.sum(axis=axis) / counts.sum(axis=axis)
