r"""The diffusion term: squared error of the prediction, silent where the text is invalid.

.. math:: sim_b = \frac{1}{C h w} \sum_{c,y,x} (1 - m_b) (prediction - target)^2

The mean divides by all elements, masked ones too: masking also shrinks the loss.  Source: AnyText2
``ldm/models/diffusion/ddpm.py`` (``p_losses``), where the mask acts on this term only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from anytext_lib.losses.checks import require_shape


def diffusion_loss(model_output: torch.Tensor, target: torch.Tensor,
                   invalid_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Masked mean squared error of each sample.

    Args:
        model_output, target: (B, C, h, w), any floating type; computed in float32 at least.
        invalid_mask: (B, 1, H, W) in [0, 1], 1 = text that must not be learnt (annotated as invalid, or beyond the
            lines in use); resized to h x w by nearest neighbour.  None masks nothing.

    Returns:
        (B,) loss of each sample.

    Raises:
        ValueError: shapes do not agree.
    """
    error = squared_error(model_output, target)
    if invalid_mask is not None:
        error = error * (1 - resize_mask(invalid_mask, error))
    return error.flatten(1).mean(dim=1)


def squared_error(model_output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(model_output - target)^2, elementwise, in float32 at least."""
    if model_output.shape != target.shape:
        raise ValueError(f"model_output {tuple(model_output.shape)} and target {tuple(target.shape)} differ in shape")
    dtype = torch.promote_types(model_output.dtype, torch.float32)
    return (model_output.to(dtype) - target.to(dtype)).square()


def resize_mask(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A mask (B, 1, H, W) at the resolution of ``like`` (B, C, h, w), by nearest neighbour: (B, 1, h, w)."""
    require_shape("mask", mask, (like.shape[0], 1, None, None))
    return F.interpolate(mask.to(like), size=like.shape[-2:])
