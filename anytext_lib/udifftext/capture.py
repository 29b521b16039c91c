"""Attention maps out of a diffusers UNet: processors that compute attention openly and remember it.

    with capture_attention(unet, ["up_blocks.*"]) as maps:
        unet(latents, t, context)
        local_attention_loss(maps.layers(), segments, valid)

The fast kernels of attention never form the matrix of probabilities; these processors do, so that it can be looked at
and differentiated.  What that costs is known before: ``attention_memory``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from anytext_lib.errors import OptionError
from anytext_lib.udifftext.localisation import head_mean


class AttentionMaps:
    """What was captured in the last forward pass: ``maps[name]`` is (B, tokens, h, w), the mean over the heads.

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
