"""The UNet with AnyText2's extra attentions (AttnX), and the passes through its encoder that WriteNet shares.

In the middle block and in chosen levels of the decoder, each transformer block has two more attentions, which start
as copies of its own and are trained.  They follow the block's own two, one after the other:

    x = x + attn1(norm1(x));      x = x + attn2(norm2(x), caption)
    x = x + s attn1x(norm1(x));   x = x + s attn2x(norm2(x), caption);   x = x + ff(norm3(x))

The norms are the existing ones, taken anew of the x at hand.  Names and shapes are those of diffusers'
``UNet2DConditionModel``.  Source: AnyText2 ``ldm/modules/attention.py`` (``BasicTransformerBlock``) and
``cldm/cldm.py`` (``ControlledUnetModel``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import nn

ENCODER = ("conv_in", "time_embedding", "down_blocks", "mid_block")
IGNORED = -10000.0  # added to the attention scores of tokens that do not count
EXTRA = {"attn1x": "attn1", "attn2x": "attn2"}
"""Names of the extra attentions, and of those that they start as copies of."""


def is_extra(name: str) -> bool:
    """Whether the layer or tensor ``name`` belongs to an extra attention."""
    return any(f".{extra}." in name for extra in EXTRA)


class ControlResiduals(NamedTuple):
    """What the control branch adds to the UNet.

    Attributes:
        down: one map (B, C, h, w) for each skip connection, from the input convolution to the deepest level; None
            adds nothing there. ``mid``: (B, C, h, w) for the middle block; None adds nothing.
    """

    down: tuple[torch.Tensor, ...] | None
    mid: torch.Tensor | None

    def scaled(self, scale: float) -> ControlResiduals:
        """Multiply all maps by ``scale``."""
        if scale == 1:
            return self
        down = None if self.down is None else tuple(scale * value for value in self.down)
        return ControlResiduals(down, None if self.mid is None else scale * self.mid)

    def mid_only(self) -> ControlResiduals:
        """Drop the maps for the skip connections."""
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
    """Additive bias (B, 1, tokens) of the attention scores for a mask (B, tokens), True where tokens count."""
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


class AttnXBlock(BasicTransformerBlock):
    """A transformer block of Stable Diffusion 1.5 with ``attn1x`` and ``attn2x``.

    ``attnx_scale`` multiplies what these two add: 1 as trained, 0 leaves them out. It is not part of the weights.
    """

    def __init__(self, dim: int, heads: int, head_dim: int, context: int):
        super().__init__(dim, heads, head_dim, cross_attention_dim=context)
        like = BasicTransformerBlock(dim, heads, head_dim, cross_attention_dim=context)
        self.attn1x, self.attn2x = like.attn1, like.attn2
        self.attnx_scale = 1.0
        self.copy_attentions()

    def copy_attentions(self) -> None:
        """Set the weights of the extra attentions to those of the block's own."""
        for extra, own in EXTRA.items():
            getattr(self, extra).load_state_dict(getattr(self, own).state_dict())

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None,
                encoder_hidden_states: torch.Tensor | None = None,
                encoder_attention_mask: torch.Tensor | None = None, timestep: torch.Tensor | None = None,
                cross_attention_kwargs: Mapping | None = None, class_labels: torch.Tensor | None = None,
                added_cond_kwargs: Mapping | None = None) -> torch.Tensor:
        """(B, positions, C) -> the same. ``encoder_hidden_states``: the caption (B, tokens, D); masks are biases of
        scores, (B, 1, tokens). The last four arguments, which diffusers passes, are ignored."""
        x, scale = hidden_states, self.attnx_scale
        caption = {"encoder_hidden_states": encoder_hidden_states, "attention_mask": encoder_attention_mask}
        x = x + self.attn1(self.norm1(x), attention_mask=attention_mask)
        x = x + self.attn2(self.norm2(x), **caption)
        if scale != 0:
            x = x + scale * self.attn1x(self.norm1(x), attention_mask=attention_mask)
            x = x + scale * self.attn2x(self.norm2(x), **caption)
        return x + self.ff(self.norm3(x))


class AttnXUNet(UNet2DConditionModel):
    """diffusers' UNet for Stable Diffusion 1.5, with AttnX and with an encoder that can run without gradient.

    Arguments are those of ``UNet2DConditionModel``, and:

    Args:
        attnx_mid: whether the middle block has the extra attentions.
        attnx_levels: the levels of the decoder that have them; 0 is the finest.

    Attributes:
        encoder_no_grad: True runs the encoder and the time embedding without gradient, as upstream always does; False
            with it; None (the default) decides by whether any of their parameters requires a gradient.

    Raises:
        ValueError: a level without attention.
    """

    def __init__(self, attnx_mid: bool = True, attnx_levels: Sequence[int] = (2, 1), **unet):
        super().__init__(**unet)
        self.register_to_config(attnx_mid=attnx_mid, attnx_levels=list(attnx_levels))
        self.encoder_no_grad: bool | None = None
        hosts = [self.mid_block] if attnx_mid else []
        for level in attnx_levels:
            block = self.up_blocks[len(self.up_blocks) - 1 - level] if level < len(self.up_blocks) else None
            if not getattr(block, "has_cross_attention", False):
                raise ValueError(f"attnx_levels names level {level}, which has no attention: choose among the "
                                 "attention_levels")
            hosts.append(block)
        for transformer in (transformer for host in hosts for transformer in host.attentions):
            plain = transformer.transformer_blocks[0]
            transformer.transformer_blocks[0] = with_attnx(plain)

    @staticmethod
    def _get_init_keys(input_class) -> set[str]:
        """Names allowed in a configuration file: the arguments of both classes."""
        keys = UNet2DConditionModel._get_init_keys(input_class)
        if issubclass(input_class, AttnXUNet):
            keys = (keys - {"unet"}) | UNet2DConditionModel._get_init_keys(UNet2DConditionModel)
        return keys

    def attnx_blocks(self) -> Iterator[AttnXBlock]:
        """The transformer blocks that have extra attentions."""
        return (module for module in self.modules() if isinstance(module, AttnXBlock))

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the encoder: input convolution, time embedding and down blocks (not the middle block)."""
        for part in (self.conv_in, self.time_embedding, self.down_blocks):
            yield from part.parameters()

    def _encoder_has_grad(self) -> bool:
        if self.encoder_no_grad is not None:
            return not self.encoder_no_grad
        return any(parameter.requires_grad for parameter in self.encoder_parameters())

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor | float | int, encoder_hidden_states: torch.Tensor,
                down_block_additional_residuals: Sequence[torch.Tensor] | None = None,
                mid_block_additional_residual: torch.Tensor | None = None,
                encoder_attention_mask: torch.Tensor | None = None, return_dict: bool = True, **unused):
        """Model output for noisy latents; arguments named as in diffusers.

        Args:
            sample: (B, 4, h, w). ``timestep``: (B,) or a number in 0..999. ``encoder_hidden_states``: (B, tokens, D).
            down_block_additional_residuals: one map for each skip connection; ``mid_block_additional_residual``: for
                the middle block. Either may be given without the other.
            encoder_attention_mask: (B, tokens), 1 or True for tokens that count.

        Returns:
            (B, 4, h, w) in a ``UNet2DConditionOutput``, or in a tuple without ``return_dict``.

        Raises:
            ValueError: another number of residuals than of skip connections, or an argument that Stable Diffusion
                1.5 has no use for.
        """
        given = sorted(name for name, value in unused.items() if value is not None)
        if given:
            raise ValueError(f"AttnXUNet does not take {', '.join(given)}")
        sample = sample.to(self.dtype)
        context, bias = encoder_hidden_states.to(self.dtype), attention_bias(encoder_attention_mask, self.dtype)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._encoder_has_grad()):
            time = embed_time(self, expand_timesteps(timestep, sample), sample.dtype)
            h, skips = run_down(self, self.conv_in(sample), time, context, bias)
        h = run_mid(self, h, time, context, bias)
        if mid_block_additional_residual is not None:
            h = h + mid_block_additional_residual
        h = self._decode(h, _added(skips, down_block_additional_residuals), time, context, bias)
        return UNet2DConditionOutput(sample=h) if return_dict else (h,)

    def _decode(self, h, skips, time, context, bias) -> torch.Tensor:
        exact = all(size % 2**self.num_upsamplers == 0 for size in skips[0].shape[-2:])
        for i, block in enumerate(self.up_blocks):
            here, skips = skips[-len(block.resnets):], skips[:-len(block.resnets)]
            last = i == len(self.up_blocks) - 1
            more = {"upsample_size": None if last or exact else skips[-1].shape[2:]}
            if getattr(block, "has_cross_attention", False):
                more |= {"encoder_hidden_states": context, "encoder_attention_mask": bias}
            h = block(hidden_states=h, temb=time, res_hidden_states_tuple=here, **more)
        return self.conv_out(self.conv_act(self.conv_norm_out(h)))


def _added(skips: tuple[torch.Tensor, ...], residuals: Sequence[torch.Tensor] | None) -> tuple[torch.Tensor, ...]:
    if residuals is None:
        return skips
    if len(residuals) != len(skips):
        raise ValueError(f"the UNet has {len(skips)} skip connections, got {len(residuals)} residuals for them: "
                         "the control branch is of another size")
    return tuple(skip + residual for skip, residual in zip(skips, residuals, strict=True))


def with_attnx(plain: BasicTransformerBlock) -> AttnXBlock:
    """``plain`` with extra attentions; the weights are shared, the new ones are copies."""
    block = AttnXBlock(plain.dim, plain.num_attention_heads, plain.attention_head_dim, plain.cross_attention_dim)
    for name, child in plain.named_children():
        setattr(block, name, child)
    block.copy_attentions()
    return block


def unet_arguments(config: Mapping) -> dict:
    """Arguments of ``AttnXUNet`` from this library's shorter configuration.

    Args:
        config: in_channels, out_channels, block_out_channels, attention_levels, layers_per_block, num_heads,
            cross_attention_dim, norm_num_groups, attnx_mid, attnx_levels; those left out are Stable Diffusion 1.5's.

    Raises:
        ValueError: an unknown entry.
    """
    known = {"in_channels": 4, "out_channels": 4, "block_out_channels": (320, 640, 1280, 1280),
             "attention_levels": (0, 1, 2), "layers_per_block": 2, "num_heads": 8, "cross_attention_dim": 768,
             "norm_num_groups": 32, "attnx_mid": True, "attnx_levels": (2, 1), "sample_size": 64}
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise ValueError(f"unknown entries of the UNet's configuration: {unknown}; known are {sorted(known)}")
    merged = known | dict(config)
    down, up = level_types(merged.pop("attention_levels"), len(merged["block_out_channels"]))
    heads = merged.pop("num_heads")
    # diffusers calls the number of heads "attention_head_dim"
    return merged | {"down_block_types": down, "up_block_types": up, "attention_head_dim": heads}


def build_attnx_unet(config: Mapping) -> AttnXUNet:
    """A UNet with random weights from this library's configuration (see ``unet_arguments``)."""
    return AttnXUNet(**unet_arguments(config))


def set_attnx_scale(unet: nn.Module, scale: float) -> None:
    """Multiply what the extra attentions add by ``scale``: 1 as trained, 0 leaves them out."""
    for module in unet.modules():
        if isinstance(module, AttnXBlock):
            module.attnx_scale = float(scale)


def copy_attentions(unet: nn.Module) -> None:
    """Set all extra attentions to copies of the blocks' own: the start of training from Stable Diffusion."""
    for module in unet.modules():
        if isinstance(module, AttnXBlock):
            module.copy_attentions()
