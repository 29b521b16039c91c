"""An auto-encoder that is trained as a linear network first: a third of the cost of a step, and no colour is lost.

A group norm takes each group's mean and deviation away, in front of the last convolution two directions of a picture's
mean colour for each group.  So the last norms of encoder and decoder are set to nearly the identity afterwards.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

CARRIER, SMALL = 20.0, 0.05  # see ``_near_identity``


class GroupMean(nn.Module):
    """A group norm without the division: each group's mean over channels and pixels is taken away."""

    def __init__(self, groups: int):
        super().__init__()
        self.groups, self.size = groups, 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to the same; remembers the deviation of the result."""
        parts = x.unflatten(1, (self.groups, -1))
        result = (parts - parts.mean((2, 3, 4), keepdim=True)).flatten(1, 2)
        self.size = result.detach().std().item()
        return result


@contextlib.contextmanager
def linear_network(model: AutoencoderKL) -> Iterator[None]:
    """The network as a linear one: without residual branches, activations and the division of the two last norms.

    On leaving, the branches start at zero and the two last norms with their activations are nearly what they were here,
    see ``_near_identity``.
    """
    blocks = [layer for layer in model.modules() if isinstance(layer, ResnetBlock2D)]
    ends = [(end, end.conv_norm_out, end.conv_act, last) for end, last in _ends(model)]
    for block in blocks:
        block.forward = functools.partial(_shortcut, block)
    for end, norm, _, _ in ends:
        end.conv_norm_out, end.conv_act = GroupMean(norm.num_groups), nn.Identity()
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)
        for end, norm, activation, last in ends:
            size = end.conv_norm_out.size
            end.conv_norm_out, end.conv_act = norm, activation
            _near_identity(norm, last.conv2.bias, end.conv_out.weight, size)


def _ends(model: AutoencoderKL) -> tuple[tuple[nn.Module, ResnetBlock2D], ...]:
    """Encoder and decoder, each with the residual block that its last norm follows."""
    return ((model.encoder, model.encoder.mid_block.resnets[-1]),
            (model.decoder, model.decoder.up_blocks[-1].resnets[-1]))


def trained_parameters(model: AutoencoderKL, linear_start: bool) -> list[nn.Parameter]:
    """All, but for the constants of ``_near_identity`` after a linear start: a step would shake them too much."""
    fixed = {id(p) for end, last in _ends(model) for p in (*end.conv_norm_out.parameters(), last.conv2.bias)}
    return [p for p in model.parameters() if not (linear_start and id(p) in fixed)]


def _shortcut(block: ResnetBlock2D, x: torch.Tensor, temb: None = None) -> torch.Tensor:
    return x if block.conv_shortcut is None else block.conv_shortcut(x)


@torch.no_grad()
def _near_identity(norm: nn.GroupNorm, before: torch.Tensor, weight: torch.Tensor, size: float) -> None:
    """Make group norm, SiLU and the convolution behind them nearly that convolution alone.

    A group norm takes a picture's contrast away.  A constant of +-CARRIER in every second channel, in parts of the
    features' deviation ``size``, makes the deviation of a group nearly the same for all pictures; the norm's bias
    takes it away again.  The features come out so small (SMALL) that SiLU is nearly x / 2.

    Args:
        before: bias of the convolution in front. ``weight``: of the convolution behind.
    """
    sign = torch.ones_like(before)
    sign[1::2] = -1
    before.copy_(CARRIER * size * sign)
    norm.weight.fill_(CARRIER * SMALL)
    norm.bias.copy_(-CARRIER * SMALL * sign)
    weight *= 2 * size / SMALL
