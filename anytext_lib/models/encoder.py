"""The half of Stable Diffusion's UNet that WriteNet copies: input, time embedding, encoder and middle block.

Names and shapes are those of diffusers' ``UNet2DConditionModel`` (``conv_in``, ``time_embedding``, ``down_blocks``,
``mid_block``), so that a state dict of the one fits the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2DCrossAttn, get_down_block
from torch import nn

ENCODER = ("conv_in", "time_embedding", "down_blocks", "mid_block")
NORM_EPS = 1e-5  # of the group norms in residual blocks
IGNORED = -10000.0  # added to the attention scores of tokens that do not count


class ControlResiduals(NamedTuple):
    """What the control branch adds to the UNet.

    Attributes:
        down: one map (B, C, h, w) for each skip connection, from the input convolution to the deepest level; None
            adds nothing there. ``mid``: (B, C, h, w) for the middle block; None adds nothing.
    """

    down: tuple[torch.Tensor, ...] | None
    mid: torch.Tensor | None

    def scaled(self, scale: float) -> ControlResiduals:
        """The same, multiplied by ``scale``."""
        if scale == 1:
            return self
        down = None if self.down is None else tuple(scale * value for value in self.down)
        return ControlResiduals(down, None if self.mid is None else scale * self.mid)

    def mid_only(self) -> ControlResiduals:
        """Only what goes to the middle block."""
        return ControlResiduals(None, self.mid)


def level_types(attention_levels: Sequence[int], levels: int) -> tuple[list[str], list[str]]:
    """diffusers' names of the blocks of the encoder and of the decoder, each in the order of computation.

    Args:
        attention_levels: levels with attention; 0 is the finest. ``levels``: how many there are.

    Raises:
        ValueError: a level that does not exist.
    """
    wrong = sorted(set(attention_levels) - set(range(levels)))
    if wrong:
        raise ValueError(f"attention_levels names {wrong}, but there are only levels 0 to {levels - 1} "
                         "(one for each of block_out_channels)")
    here = [level in attention_levels for level in range(levels)]
    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in here]
    up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(here)]
    return down, up


def add_encoder(module: nn.Module, in_channels: int, channels: Sequence[int], down_block_types: Sequence[str],
                layers: int, heads: int, context: int, groups: int) -> None:
    """Give ``module`` the children named in ENCODER, and ``time_proj``, as ``UNet2DConditionModel`` builds them.

    Args:
        in_channels: of the latents. ``channels``: of each level, finest first. ``down_block_types``: see
            ``level_types``. ``layers``: residual blocks a level.
        heads: of attention, at every level. ``context``: width of the caption's tokens. ``groups``: of group norms.

    Raises:
        ValueError: not one type of block for each level.
    """
    if len(down_block_types) != len(channels):
        raise ValueError(f"got {len(down_block_types)} down_block_types for {len(channels)} levels: give one for each "
                         "of block_out_channels")
    module.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
    module.time_proj = Timesteps(channels[0], flip_sin_to_cos=True, downscale_freq_shift=0)
    time = channels[0] * 4
    module.time_embedding = TimestepEmbedding(channels[0], time)
    module.down_blocks = nn.ModuleList()
    common = {"temb_channels": time, "resnet_eps": NORM_EPS, "resnet_act_fn": "silu", "resnet_groups": groups,
              "cross_attention_dim": context, "num_attention_heads": heads}
    inside = channels[0]
    for level, (kind, outside) in enumerate(zip(down_block_types, channels, strict=True)):
        module.down_blocks.append(get_down_block(
            kind, num_layers=layers, in_channels=inside, out_channels=outside,
            add_downsample=level < len(channels) - 1, downsample_padding=1, attention_head_dim=outside, **common))
        inside = outside
    module.mid_block = UNetMidBlock2DCrossAttn(in_channels=inside, **common)


def skip_channels(channels: Sequence[int], layers: int) -> list[int]:
    """Channels of the skip connections, in the order of computation."""
    found = [channels[0]]
    for level, width in enumerate(channels):
        found += [width] * (layers + (level < len(channels) - 1))
    return found


def embed_time(module: nn.Module, timesteps: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Embedding (B, time) of ``timesteps`` (B,)."""
    return module.time_embedding(module.time_proj(timesteps).to(dtype))


def run_down(module: nn.Module, h: torch.Tensor, time: torch.Tensor, context: torch.Tensor,
             bias: torch.Tensor | None = None) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Encoder from the output of ``conv_in`` on.

    Args:
        h: (B, C, h, w). ``time``: (B, time). ``context``: (B, tokens, D). ``bias``: see ``attention_bias``.

    Returns:
        The deepest map, and all skip connections with ``h`` as the first.
    """
    skips = (h,)
    for block in module.down_blocks:
        if getattr(block, "has_cross_attention", False):
            h, more = block(hidden_states=h, temb=time, encoder_hidden_states=context, encoder_attention_mask=bias)
        else:
            h, more = block(hidden_states=h, temb=time)
        skips += tuple(more)
    return h, skips


def run_mid(module: nn.Module, h: torch.Tensor, time: torch.Tensor, context: torch.Tensor,
            bias: torch.Tensor | None = None) -> torch.Tensor:
    """Middle block; shapes as in ``run_down``."""
    return module.mid_block(h, time, encoder_hidden_states=context, encoder_attention_mask=bias)


def attention_bias(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """What is added to the attention scores for a mask (B, tokens) of the tokens that count: (B, 1, tokens)."""
    if mask is None:
        return None
    return ((1 - mask.to(dtype)) * IGNORED).unsqueeze(1)


def expand_timesteps(timesteps: torch.Tensor | float | int, like: torch.Tensor) -> torch.Tensor:
    """``timesteps``, a number or (B,), as a tensor (B,) beside ``like`` (B, ...).

    Raises:
        ValueError: another number of timesteps.
    """
    found = torch.as_tensor(timesteps, device=like.device)
    if found.ndim > 1 or found.ndim == 1 and len(found) not in (1, len(like)):
        raise ValueError(f"timesteps are a number or have shape ({len(like)},), got {tuple(found.shape)}")
    return found.expand(len(like))
