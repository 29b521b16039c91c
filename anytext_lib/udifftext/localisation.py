r"""Two losses on attention maps: characters in their places (training), characters in the mask (sampling).

With A_ij the map of character j in layer i, smoothed by a Gaussian G, S_j the character's region, M the region of the
whole text and v_j whether there is a character j:

.. math::
    L_{loc} = \frac{1}{N} \sum_i \frac{1}{\sum_j v_j} \sum_j v_j
              \left[ \max (G A_{ij} (1 - S_j)) - \max (G A_{ij} S_j) \right]

.. math::
    L_{aae} = -\frac{1}{N} \sum_i \min_j \left[ \max (G A_{ij} M) + (1 - v_j) \right]

L_loc, in -1..1, pushes a character's strongest attention into its region; L_aae, in -1..0, looks at the character that
is attended to least.  Lower is better in both, and the gradient of both touches only the pixels around a few maxima.
Source: UDiffText (Zhao and Lian 2023), ``sgm/modules/diffusionmodules/loss.py`` (``get_local_loss``,
``get_min_local_loss``).  Upstream's L_loc is NaN and its L_aae below -1 for a text without characters; here both are 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from anytext_lib.errors import OptionError
from anytext_lib.losses.step import require_shape

MIN_SIZE = 16  # maps of fewer than 16 x 16 positions are left out


def gaussian_kernel(size: int = 3, sigma: float = 1.0) -> torch.Tensor:
    """(size, size) float32 kernel whose values sum to 1; ``size`` is odd, ``sigma`` in positions of a map."""
    if size < 1 or size % 2 == 0 or not sigma > 0:
        raise ValueError(f"a kernel has an odd size and a positive sigma, got {size} and {sigma}")
    squares = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2).square()
    kernel = torch.exp(-(squares[:, None] + squares) / (2 * sigma**2))
    return (kernel / kernel.sum()).float()


def smooth(maps: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Each map of (B, J, h, w) convolved with ``kernel`` (k, k); outside a map is 0."""
    batch, count, height, width = maps.shape
    flat = F.conv2d(maps.reshape(batch * count, 1, height, width), kernel.to(maps)[None, None],
                    padding=len(kernel) // 2)
    return flat.reshape(maps.shape)


def head_mean(probabilities: torch.Tensor, heads: int, size: tuple[int, int]) -> torch.Tensor:
    """Attention probabilities (B * heads, h * w, tokens) as maps (B, tokens, h, w), the mean over the heads."""
    rows, positions, tokens = probabilities.shape
    if rows % heads or positions != size[0] * size[1]:
        raise ValueError(f"attention of shape {tuple(probabilities.shape)} is not that of {heads} heads and of "
                         f"{size[0]} x {size[1]} positions")
    mean = probabilities.reshape(-1, heads, positions, tokens).mean(dim=1)
    return mean.transpose(1, 2).reshape(-1, tokens, *size)


def pick_tokens(maps: Iterable[torch.Tensor], tokens: torch.Tensor) -> list[torch.Tensor]:
    """The maps (B, J, h, w) of chosen tokens of each sample, where token j of the context is not character j.

    Args:
        maps: one (B, N, h, w) for each layer. ``tokens``: (B, J) int64 in 0..N-1; any where there is no character.
    """
    return [layer.take_along_dim(tokens.to(layer.device)[:, :, None, None], dim=1) for layer in maps]


def local_attention_loss(maps: Iterable[torch.Tensor], segments: torch.Tensor, valid: torch.Tensor,
                         kernel_size: int = 3, sigma: float = 1.0, min_size: int = MIN_SIZE) -> torch.Tensor:
    """L_loc of each sample: strongest attention outside a character's region minus strongest inside.

    Args:
        maps: one (B, tokens, h, w) for each layer, values in [0, 1]; token j belongs to character j, further tokens
            than there are segments are not looked at.
        segments: (B, J, H, W) in [0, 1], region of each character; resized to each map by nearest neighbour.
        valid: (B, J), 1 where there is a character.
        kernel_size, sigma: of the smoothing.
        min_size: maps of fewer than ``min_size``^2 positions are left out.

    Returns:
        (B,) in [-1, 1]; 0 for a sample without characters.

    Raises:
        ValueError: shapes do not agree, or no map is large enough.
    """
    require_shape("segments", segments, (*valid.shape, None, None))
    kernel = gaussian_kernel(kernel_size, sigma)
    gaps = [_gap(smooth(layer, kernel), segments) for layer in _layers(maps, valid, min_size)]
    valid = valid.to(gaps[0])
    return (torch.stack(gaps).mean(dim=0) * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)


def attention_focus_loss(maps: Iterable[torch.Tensor], mask: torch.Tensor, valid: torch.Tensor,
                         kernel_size: int = 3, sigma: float = 1.0, min_size: int = MIN_SIZE) -> torch.Tensor:
    """L_aae of each sample: minus the strongest attention, inside the mask, of the character that has least of it.

    The best value is the most negative one.  Nothing is gained by a character in the wrong place: only the mask of
    the whole text counts.

    Args:
        mask: (B, 1, H, W) in [0, 1], where the text is to stand. The others: see ``local_attention_loss``.

    Returns:
        (B,) in [-1, 0]; 0 for a sample without characters.

    Raises:
        ValueError: shapes do not agree, or no map is large enough.
    """
    require_shape("mask", mask, (len(valid), 1, None, None))
    kernel, weakest = gaussian_kernel(kernel_size, sigma), []
    for layer in _layers(maps, valid, min_size):
        inside = smooth(layer, kernel) * F.interpolate(mask.to(layer), layer.shape[-2:])
        weakest.append((_peak(inside) + (1 - valid.to(layer))).min(dim=1).values)
    return torch.where(valid.sum(dim=1) > 0, -torch.stack(weakest).mean(dim=0), 0)


def _gap(layer: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """(B, J): maximum outside the region minus maximum inside."""
    inside = F.interpolate(segments.to(layer), layer.shape[-2:])
    return _peak(layer * (1 - inside)) - _peak(layer * inside)


def _peak(maps: torch.Tensor) -> torch.Tensor:
    return maps.flatten(2).max(dim=2).values


def _layers(maps: Iterable[torch.Tensor], valid: torch.Tensor, min_size: int) -> list[torch.Tensor]:
    """The maps (B, J, h, w) that are large enough, of the first J tokens; at least float32."""
    maps, (batch, count) = list(maps), valid.shape
    for layer in maps:
        require_shape("an attention map", layer, (batch, None, None, None))
        if layer.shape[1] < count:
            raise ValueError(f"an attention map knows {layer.shape[1]} tokens, but there are {count} characters: "
                             "the context is shorter than the labels")
    kept = [layer[:, :count].to(torch.promote_types(layer.dtype, torch.float32)) for layer in maps
            if layer.shape[2] * layer.shape[3] >= min_size**2]
    if not kept:
        sizes = [tuple(layer.shape[-2:]) for layer in maps]
        raise OptionError(f"no attention map has {min_size} x {min_size} positions or more (given: {sizes}): "
                         "capture finer layers, or lower min_size")
    return kept
