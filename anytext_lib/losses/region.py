r"""Region-weighted diffusion loss: the cheap baseline that every OCR loss must beat.

.. math:: L_b = \frac{1}{C h w} \sum_{c,y,x} (1 + (\lambda - 1) r_b) (1 - m_b) (prediction - target)^2

No decoder, no recogniser: only more weight where text stands.  FLUX-Text (2025) keeps such a term beside its
feature losses.
"""

from __future__ import annotations

import torch

from anytext_lib.losses.diffusion import resize_mask, squared_error


def region_weighted_loss(model_output: torch.Tensor, target: torch.Tensor, region_mask: torch.Tensor,
                         weight: float = 5.0, invalid_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mean squared error of each sample, counted ``weight`` times inside the text.

    Args:
        model_output, target: (B, C, h, w).
        region_mask: (B, 1, H, W) in [0, 1], 1 = text; resized to h x w by nearest neighbour.
        weight: factor inside the region; 1 gives ``diffusion_loss``.
        invalid_mask: as in ``diffusion_loss``.

    Returns:
        (B,) loss of each sample, not renormalised: more text gives a larger loss.

    Raises:
        ValueError: shapes do not agree, or the weight is negative.
    """
    if weight < 0:
        raise ValueError(f"the weight of the text region must not be negative, got {weight}")
    error = squared_error(model_output, target)
    error = error * (1 + (weight - 1) * resize_mask(region_mask, error))
    if invalid_mask is not None:
        error = error * (1 - resize_mask(invalid_mask, error))
    return error.flatten(1).mean(dim=1)


def region_loss(model_output: torch.Tensor, target: torch.Tensor, region_mask: torch.Tensor,
                invalid_mask: torch.Tensor | None = None) -> torch.Tensor:
    r"""What the weight adds: mean of r (1 - m) times the squared error, (B,).

    ``region_weighted_loss(..., weight)`` is ``diffusion_loss + (weight - 1) region_loss``; arguments as there.
    """
    error = squared_error(model_output, target)
    error = error * resize_mask(region_mask, error)
    if invalid_mask is not None:
        error = error * (1 - resize_mask(invalid_mask, error))
    return error.flatten(1).mean(dim=1)
