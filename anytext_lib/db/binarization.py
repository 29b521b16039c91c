r"""Differentiable binarisation: a step function that lets a gradient through.

.. math:: B = \frac{1}{1 + e^{-k (P - T)}}, \quad k = 50, \qquad \frac{\partial B}{\partial (P - T)} = k B (1 - B)

Written out, e^{50} overflows half precision (largest number 65504 = e^{11.09}): B becomes 0, its gradient NaN.  The
sigmoid function never overflows; it is computed in float32 so that 1 - B survives as well.
Source: Liao et al. 2020, section 3.2.
"""

from __future__ import annotations

import torch

STEEPNESS = 50.0


def binarize(probability: torch.Tensor, threshold: torch.Tensor, k: float = STEEPNESS) -> torch.Tensor:
    """The approximate binary map.

    Args:
        probability, threshold: P and T in [0, 1], shapes that broadcast, any floating type.
        k: steepness; nine tenths of the way from 0 to 1 lie within |P - T| < 3 / k.

    Returns:
        B in [0, 1], of the type of the inputs; the gradient k B (1 - B) is computed in float32 at least.
    """
    kept = torch.promote_types(probability.dtype, threshold.dtype)
    dtype = torch.promote_types(kept, torch.float32)
    return torch.sigmoid(k * (probability.to(dtype) - threshold.to(dtype))).to(kept)


def binarization_slope(gap: torch.Tensor, k: float = STEEPNESS) -> torch.Tensor:
    """dB / d(P - T) = k B (1 - B) at the gap P - T: k / 4 = 12.5 at 0, 0.33 at 0.1."""
    b = torch.sigmoid(k * gap)
    return k * b * (1 - b)


def cross_entropy_pull(gap: torch.Tensor, target: torch.Tensor, k: float = STEEPNESS) -> torch.Tensor:
    """d CE(B, y) / d(P - T) = k (B - y): largest, k, where B is most wrong.

    The slope k B (1 - B) cancels against 1 / (B (1 - B)) of the cross-entropy: this is the paper's argument that
    binarisation amplifies the gradient of wrong pixels (its section 3.3, equations 4 and 5).
    """
    return k * (torch.sigmoid(k * gap) - target)


def dice_pull(gap: torch.Tensor, target: torch.Tensor, intersection: float, union: float,
              k: float = STEEPNESS) -> torch.Tensor:
    """d Dice(B, y) / d(P - T), with ``intersection`` = sum(B y) and ``union`` = sum(B) + sum(y) of the whole map.

    Dice = 1 - 2 I / U gives a pixel 2 (I - y U) / U^2, of one size for all pixels of a kind; the slope k B (1 - B)
    then takes it to zero where B is badly wrong.  The losses in use put Dice on B: the argument of
    ``cross_entropy_pull`` does not hold for them.
    """
    return 2 * (intersection - target * union) / union**2 * binarization_slope(gap, k)
