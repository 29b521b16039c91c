"""WriteNet, the control branch: where which glyphs stand, as 13 maps that are added to the UNet.

A copy of the UNet's encoder sees the glyph images, the position masks and the latents of the masked image, joined by
one convolution.  With fast control it does not see the noisy latents (zeros instead, and t = 0): then its output is
the same at every step of sampling, and one pass for each image is enough.
Source: AnyText2 ``cldm/cldm.py`` (``ControlNet``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2DCrossAttn, get_down_block
from torch import nn

from anytext_lib.models.attnx import ENCODER, ControlResiduals, embed_time, expand_timesteps, run_down, run_mid

GLYPH_CHANNELS = {1: (16, 32, 96, 256), 2: (8, 16, 32, 96, 256)}
"""Channels of the glyph block for glyph images of the image's size, and of twice its size, for 8-fold latents."""
POSITION_CHANNELS = (8, 16, 32, 64)
NORM_EPS = 1e-5  # of the group norms in residual blocks


class WriteNet(ModelMixin, ConfigMixin):
    """The control branch; its output convolutions and the joining convolution start at zero, as in ControlNet.

    Args:
        in_channels: of the latents. ``block_out_channels``, ``down_block_types``, ``layers_per_block``,
            ``attention_head_dim`` (diffusers' name for the number of heads), ``cross_attention_dim``,
            ``norm_num_groups``: of the UNet whose encoder this is a copy of.
        fast_control: True shows zeros and t = 0 in place of the noisy latents and their t.
        glyph_scale: size of the glyph images relative to the image: a power of two.
        latent_factor: pixels of the image for each latent, along an edge: a power of two; 8 for Stable Diffusion.
        glyph_channels, position_channels: of the two hint blocks, from full size to latent size: one more number than
            there are halvings. None: upstream's, which needs ``latent_factor`` 8.

    Raises:
        ValueError: numbers of channels that do not fit the factors.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(self, in_channels: int = 4, block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
                 down_block_types: Sequence[str] = (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
                 layers_per_block: int = 2, attention_head_dim: int = 8, cross_attention_dim: int = 768,
                 norm_num_groups: int = 32, fast_control: bool = True, glyph_scale: int = 1, latent_factor: int = 8,
                 glyph_channels: Sequence[int] | None = None, position_channels: Sequence[int] | None = None):
        super().__init__()
        channels = tuple(block_out_channels)
        add_encoder(self, in_channels, channels, down_block_types, layers_per_block, attention_head_dim,
                    cross_attention_dim, norm_num_groups)
        glyph_channels = tuple(glyph_channels or GLYPH_CHANNELS.get(glyph_scale, ()))
        position_channels = tuple(position_channels or POSITION_CHANNELS)
        self.glyph_block = hint_block("glyph_channels", glyph_channels, latent_factor * glyph_scale)
        self.position_block = hint_block("position_channels", position_channels, latent_factor)
        joined = glyph_channels[-1] + position_channels[-1] + in_channels
        self.fuse_block = zeroed(nn.Conv2d(joined, channels[0], 3, padding=1))
        self.controlnet_down_blocks = nn.ModuleList(
            zeroed(nn.Conv2d(width, width, 1)) for width in skip_channels(channels, layers_per_block))
        self.controlnet_mid_block = zeroed(nn.Conv2d(channels[-1], channels[-1], 1))

    def forward(self, glyphs: torch.Tensor, positions: torch.Tensor, masked_latents: torch.Tensor,
                text_context: torch.Tensor, noisy_latents: torch.Tensor | None = None,
                timesteps: torch.Tensor | float | int | None = None) -> ControlResiduals:
        """Compute the residuals for the UNet's skip connections and middle block.

        Args:
            glyphs: (B, 1, gH, gW), ink of all lines; every value above 0 counts as 1, so colours do not matter.
            positions: (B, 1, H, W), sum of the lines' masks; where masks overlap it is above 1, as upstream has it.
            masked_latents: (B, 4, h, w). ``text_context``: (B, 77, D), the text caption with its line embeddings.
            noisy_latents: (B, 4, h, w), ``timesteps``: (B,): needed for slow control, and unused with fast control.

        Raises:
            ValueError: sizes that do not fit the latents, or slow control without latents and timesteps.
        """
        dtype = self.dtype
        masked_latents = masked_latents.to(dtype)
        x, t = self._seen(masked_latents, noisy_latents, timesteps)
        time, context = embed_time(self, t, dtype), text_context.to(dtype)
        h = self.conv_in(x) + self.hint(glyphs, positions, masked_latents)
        h, skips = run_down(self, h, time, context)
        h = run_mid(self, h, time, context)
        down = tuple(conv(skip) for conv, skip in zip(self.controlnet_down_blocks, skips, strict=True))
        return ControlResiduals(down, self.controlnet_mid_block(h))

    def hint(self, glyphs: torch.Tensor, positions: torch.Tensor, masked_latents: torch.Tensor) -> torch.Tensor:
        """The three hints joined: (B, C, h, w) that is added after the first convolution."""
        dtype, factor = self.dtype, self.config.latent_factor
        _check_size("glyphs", glyphs, masked_latents, factor * self.config.glyph_scale)
        _check_size("positions", positions, masked_latents, factor)
        parts = [self.glyph_block((glyphs > 0).to(dtype)), self.position_block(positions.to(dtype)),
                 masked_latents.to(dtype)]
        return self.fuse_block(torch.cat(parts, dim=1))

    def copy_encoder(self, unet: nn.Module) -> None:
        """Take the weights of the UNet's encoder and middle block, without extra attentions: the start of training.

        Raises:
            ValueError: ``unet`` is of another size.
        """
        theirs, own = unet.state_dict(), self.state_dict()
        names = [name for name in own if name.split(".")[0] in ENCODER]
        wrong = [name for name in names if name not in theirs or theirs[name].shape != own[name].shape]
        if wrong:
            raise ValueError(f"the UNet's encoder does not fit WriteNet at {wrong[0]} and {len(wrong) - 1} others")
        self.load_state_dict(own | {name: theirs[name] for name in names})

    def _seen(self, like: torch.Tensor, latents: torch.Tensor | None, timesteps) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents and timesteps for the encoder: zeros with fast control."""
        if self.config.fast_control:
            return torch.zeros_like(like), torch.zeros(len(like), dtype=torch.int64, device=like.device)
        if latents is None or timesteps is None:
            raise ValueError("slow control (fast_control = false) looks at the noisy latents at every step: pass "
                             "noisy_latents and timesteps")
        return latents.to(like), expand_timesteps(timesteps, like)


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


def zeroed(module: nn.Module) -> nn.Module:
    """``module`` with all parameters 0."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def hint_block(name: str, channels: Sequence[int], factor: int) -> nn.Sequential:
    """Convolutions that shrink a map of one channel ``factor`` times: two at full size, then two for each halving
    but the last, which has one; each is followed by SiLU.

    Raises:
        ValueError: ``factor`` is no power of two, or ``channels`` is not one number more than there are halvings.
    """
    halvings = int(math.log2(factor)) if factor >= 1 else -1
    if 2.0**halvings != factor:
        raise ValueError(f"latent_factor and glyph_scale are powers of two, got {factor} for their product")
    if len(channels) != halvings + 1:
        raise ValueError(f"{name} has {len(channels)} numbers, but shrinking {factor} times takes {halvings + 1}: "
                         "one for full size and one for each halving")
    layers: list[nn.Module] = [nn.Conv2d(1, channels[0], 3, padding=1), nn.SiLU()]
    for inside, outside in zip(channels, channels[1:], strict=False):
        layers += [nn.Conv2d(inside, inside, 3, padding=1), nn.SiLU(),
                   nn.Conv2d(inside, outside, 3, padding=1, stride=2), nn.SiLU()]
    return nn.Sequential(*layers)


def _check_size(name: str, image: torch.Tensor, latents: torch.Tensor, factor: int) -> None:
    batch, _, height, width = latents.shape
    wanted = (batch, 1, height * factor, width * factor)
    if tuple(image.shape) != wanted:
        raise ValueError(f"{name} have shape {tuple(image.shape)}, expected {wanted}: {factor} times the latents of "
                         f"{height} x {width}")
