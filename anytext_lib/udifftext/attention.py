r"""Attention maps out of a diffusers UNet, and two losses on them: characters in their places, characters in the mask.

    with capture_attention(unet, ["up_blocks.*"]) as maps:
        unet(latents, t, context)
        local_attention_loss(maps.layers(), segments, valid)

The fast kernels of attention never form the matrix of probabilities; the processors here do, so that it can be looked
at and differentiated.  ``attention_memory`` says beforehand what that costs.

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

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.errors import OptionError
from anytext_lib.losses.step import require_shape

# losses

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
    flat = F.conv2d(maps.reshape(batch * count, 1, height, width), kernel.to(maps, non_blocking=True)[None, None],
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
        min_size: maps of fewer than ``min_size**2`` positions are left out.

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


# capture

class AttentionMaps:
    """Attention maps of the last forward pass: ``maps[name]`` is (B, tokens, h, w), the mean over the heads.

    Attributes:
        maps: by the name of the attention module, in the order of computation.
        size: (H, W) of the latents of that pass.
    """

    def __init__(self):
        self.maps: dict[str, torch.Tensor] = {}
        self.size: tuple[int, int] | None = None

    def layers(self) -> list[torch.Tensor]:
        """The maps alone; RuntimeError if no pass has been captured."""
        if not self.maps:
            raise RuntimeError("no attention was captured: run the UNet inside capture_attention, without gradient "
                               "checkpointing")
        return list(self.maps.values())

    def rows(self, which: slice) -> list[torch.Tensor]:
        """The maps of some samples, such as the conditional half of a guided pass."""
        return [layer[which] for layer in self.layers()]

    def _begin(self, size: tuple[int, int]) -> None:
        self.maps, self.size = {}, size


class CapturingProcessor:
    """An attention processor that computes softmax(q k / sqrt(d)) v in the open and hands the probabilities over."""

    def __init__(self, name: str, found: AttentionMaps):
        self.name, self.found = name, found

    def __call__(self, attn, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None,
                 attention_mask: torch.Tensor | None = None, temb: torch.Tensor | None = None) -> torch.Tensor:
        """(B, positions, C) -> the same; ``encoder_hidden_states``: (B, tokens, D)."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if encoder_hidden_states is not None and attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        mask = attn.prepare_attention_mask(attention_mask, context.shape[1], len(hidden_states))
        query, key, value = (attn.head_to_batch_dim(part) for part in
                             (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)))
        probabilities = attn.get_attention_scores(query, key, mask)  # (B heads, positions, tokens)
        size = map_size(self.found.size, hidden_states.shape[1])
        self.found.maps[self.name] = head_mean(probabilities, attn.heads, size)
        out = attn.batch_to_head_dim(torch.bmm(probabilities, value))
        return attn.to_out[1](attn.to_out[0](out)) / attn.rescale_output_factor


def map_size(latent: tuple[int, int] | None, positions: int) -> tuple[int, int]:
    """Height and width of a map of ``positions`` in a UNet that halves ``latent`` (H, W), rounding up.

    Raises:
        ValueError: no level of the UNet has so many positions.
    """
    if latent is None:
        raise ValueError("the size of the latents is not known: call the UNet itself, not a part of it")
    height, width = latent
    while height * width > positions:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != positions:
        raise ValueError(f"no halving of {latent[0]} x {latent[1]} latents has {positions} positions")
    return height, width


def cross_attention_names(unet: nn.Module, layers: Sequence[str] | None = None) -> list[str]:
    """Names of the UNet's text cross-attentions, in the order of the module tree.

    Args:
        layers: names or patterns (as in file names) of those wanted, such as "up_blocks.*"; None takes all.

    Raises:
        ValueError: a pattern matches none.
    """
    from diffusers.models.attention_processor import Attention

    every = [name for name, module in unet.named_modules()
             if isinstance(module, Attention) and module.is_cross_attention]
    if layers is None:
        return every
    for pattern in layers:
        if not any(fnmatchcase(name, pattern) for name in every):
            raise OptionError(f"no cross-attention of the UNet matches {pattern!r}; there are {', '.join(every)}")
    return [name for name in every if any(fnmatchcase(name, pattern) for pattern in layers)]


@contextmanager
def capture_attention(unet: nn.Module, layers: Sequence[str] | None = None) -> Iterator[AttentionMaps]:
    """Within the block, every forward pass of ``unet`` leaves the maps of its text cross-attention here.

    The maps belong to the graph of that pass: they carry gradients if it does.  Afterwards the UNet's own processors
    are back, and the maps of the last pass stay.

    Args:
        unet: a diffusers UNet2DConditionModel (AttnXUNet is one).
        layers: see ``cross_attention_names``.
    """
    found, names = AttentionMaps(), cross_attention_names(unet, layers)
    chosen = {name: unet.get_submodule(name) for name in names}
    before = {name: module.processor for name, module in chosen.items()}
    hook = unet.register_forward_pre_hook(lambda module, args, kwargs: found._begin(_latent_size(args, kwargs)),
                                          with_kwargs=True)
    try:
        for name, module in chosen.items():
            module.set_processor(CapturingProcessor(name, found))
        yield found
    finally:
        hook.remove()
        for name, module in chosen.items():
            module.set_processor(before[name])


def _latent_size(args: tuple, kwargs: dict) -> tuple[int, int]:
    return tuple((args[0] if args else kwargs["sample"]).shape[-2:])


@dataclass(frozen=True)
class MapMemory:
    """Bytes of one layer: ``probabilities`` of all heads (kept by autograd for the backward pass), and their mean."""

    name: str
    size: tuple[int, int]
    heads: int
    probabilities: int
    mean: int

    @property
    def total(self) -> int:
        return self.probabilities + self.mean


def attention_memory(unet: nn.Module, latent_size: tuple[int, int], batch_size: int, tokens: int,
                     layers: Sequence[str] | None = None, dtype: torch.dtype = torch.float32) -> list[MapMemory]:
    """What capturing keeps in memory with gradient, layer by layer; without gradient only the means stay.

    Args:
        unet: on any device, the meta device too. ``latent_size``: (h, w). ``batch_size``: rows of the pass (twice the
            samples with guidance). ``tokens``: of the context.

    Returns:
        one entry for each captured layer, see ``capture_attention``.
    """
    levels = len(unet.config.block_out_channels)
    rows = []
    for name in cross_attention_names(unet, layers):
        size, heads = latent_size, unet.get_submodule(name).heads
        for _ in range(_level(name, levels)):
            size = (-(-size[0] // 2), -(-size[1] // 2))
        mean = batch_size * size[0] * size[1] * tokens * dtype.itemsize
        rows.append(MapMemory(name, size, heads, heads * mean, mean))
    return rows


def _level(name: str, levels: int) -> int:
    """How often the latents are halved where the module ``name`` stands: 0 is the finest level."""
    part, _, rest = name.partition(".")
    if part == "mid_block":
        return levels - 1
    index = int(rest.partition(".")[0])
    return index if part == "down_blocks" else levels - 1 - index
