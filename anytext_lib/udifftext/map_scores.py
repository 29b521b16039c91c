"""Where characters look: what can be counted on maps of attention."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from anytext_lib.losses.step import require_shape
from anytext_lib.udifftext.localisation import gaussian_kernel, smooth


def peak_hits(layer: torch.Tensor, segments: torch.Tensor, kernel_size: int = 3, sigma: float = 1.0) -> torch.Tensor:
    """Whether the strongest (smoothed) attention of each character lies in its own region, (B, J) bool.

    It is where a character's part of L_loc is negative.

    Args:
        layer: map (B, tokens, h, w), at least J tokens. ``segments``: (B, J, H, W) in {0, 1}.
    """
    own = F.interpolate(segments.to(layer), layer.shape[-2:])
    seen = smooth(layer[:, : segments.shape[1]], gaussian_kernel(kernel_size, sigma))
    return (seen * own).flatten(2).amax(dim=2) > (seen * (1 - own)).flatten(2).amax(dim=2)


def own_share(layer: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """Share of each character's attention that lies in its own region, (B, J) in [0, 1]; not smoothed."""
    own = F.interpolate(segments.to(layer), layer.shape[-2:])
    seen = layer[:, : segments.shape[1]]
    return (seen * own).sum(dim=(2, 3)) / seen.sum(dim=(2, 3)).clamp(min=1e-12)


def mean_over_characters(values: torch.Tensor, valid: torch.Tensor) -> float:
    """Mean of (B, J) over the characters that are there; NaN for none."""
    require_shape("valid", valid, tuple(values.shape))
    return float((values * valid).sum() / valid.sum())


def touched_positions(loss: torch.Tensor, maps: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """For each map, which positions of which tokens a scalar loss has a gradient at: bool, of the map's shape."""
    maps = list(maps)
    gradients = torch.autograd.grad(loss, maps, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(layer, dtype=torch.bool) if gradient is None else gradient != 0
            for layer, gradient in zip(maps, gradients, strict=True)]
