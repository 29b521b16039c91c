r"""How far sampled pictures are from true ones, as sets: a kernel distance of an auto-encoder's latents.

.. math:: MMD^2 = \overline{k(x, x')} + \overline{k(y, y')} - 2\, \overline{k(x, y)}, \qquad
    k(x, y) = (\langle x, y \rangle / D + 1)^3

with means over pairs of different pictures, which has no bias however few there are (Binkowski et al. 2018, KID, there
of Inception's features).  The features are those that a small model of scenes has: for each cell of a grid over the
latents the mean of every channel (colours, layout) and the logarithm of its deviation (edges, speckle).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

GRID = (2, 6)


class SetDistance(NamedTuple):
    """A squared distance and its standard error, by a bootstrap over the pictures of both sets."""

    value: float
    error: float


@torch.no_grad()
def features_of(encode: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> np.ndarray:
    """(B, D) float64 of images (B, 3, H, W) in [-1, 1]; ``encode``: to latents (B, C, h, w)."""
    latents = encode(images).double()
    mean = F.adaptive_avg_pool2d(latents, GRID)
    spread = (F.adaptive_avg_pool2d(latents.square(), GRID) - mean.square()).clamp(min=1e-6).log() / 2
    return torch.cat([mean.flatten(1), spread.flatten(1)], dim=1).cpu().numpy()


def kernel_distance(found: np.ndarray, true: np.ndarray, resamples: int = 200, seed: int = 0) -> SetDistance:
    """Distance of two sets of features (N, D) and (M, D), scaled by mean and deviation of ``true``.

    Raises:
        ValueError: fewer than two pictures in a set, or features that do not agree.
    """
    if found.ndim != 2 or true.ndim != 2 or found.shape[1] != true.shape[1] or min(len(found), len(true)) < 2:
        raise ValueError(f"a distance needs two sets of at least two rows of features, got {found.shape} and "
                         f"{true.shape}")
    centre, scale = true.mean(0), true.std(0) + 1e-6
    x, y = (found - centre) / scale, (true - centre) / scale
    own, other, between = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    rng = np.random.default_rng(seed)
    drawn = [_distance(own, other, between, *(np.bincount(rng.integers(n, size=n), minlength=n).astype(float)
                                              for n in (len(x), len(y)))) for _ in range(resamples)]
    value = _distance(own, other, between, np.ones(len(x)), np.ones(len(y)))
    return SetDistance(value, float(np.nanstd(drawn)))


def _distance(own: np.ndarray, other: np.ndarray, between: np.ndarray, w: np.ndarray, v: np.ndarray) -> float:
    """Of pictures that count w and v times; a picture is never paired with itself. NaN where there is no pair."""
    parts = [(u @ k @ u - u**2 @ k.diagonal(), u.sum() ** 2 - (u**2).sum()) for u, k in ((w, own), (v, other))]
    if min(pairs for _, pairs in parts) <= 0:
        return np.nan
    return float(sum(total / pairs for total, pairs in parts) - 2 * w @ between @ v / (w.sum() * v.sum()))
