r"""Decode latents only where text stands: what the reading losses look at, at a fraction of the cost.

.. math:: conv_{in}, mid \to \text{windows} \to up_0 \to \dots \to up_n \to conv_{out} \to \text{pictures}

The middle of the decoder with its attention runs on all latents: it is small, and so it is exact.  From there on each
window is cut to the text and ``margin`` cells of the level around it, level by level.  Two things are not as in the
whole picture: at the rim of a window convolutions see zeros, and group norms need means and deviations of the whole
picture.  These are estimated, without gradient, from the windows and a sample of the background; or taken from all of
it.  Gradients do not flow through them.

A nearest-neighbour upsampling with the convolution that follows is one transposed convolution of 4 x 4, with 4/9 of
the multiplications and the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import Decoder
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import UpDecoderBlock2D
from torch import nn
from torch.utils.checkpoint import checkpoint

from anytext_lib.data.lines import TextLines
from anytext_lib.errors import OptionError
from anytext_lib.ocr.windows import Span, Window, background_tiles, statistics_shares, text_windows

GRAIN = 8  # pixels: sides of windows are multiples of it
TILE = 8  # latents: the side of a piece of background


class PatchDecoder:
    """``decode`` of an objective that decodes only around the lines.

    It recomputes activations in the backward pass, level by level, where
    ``vae.enable_gradient_checkpointing()`` asks for it.

    Args:
        vae: diffusers' AutoencoderKL, frozen.
        margin: cells of each level around the text.  2 lose little; ``exact_margin`` loses nothing.
        background: share of the background, in (0, 1], that is decoded without gradient for the statistics of group
            norms; 1 decodes all of it, and the pictures are exact.

    Raises:
        OptionError: the numbers make no sense, or the decoder is none of convolutions and group norms.
    """

    only_lines = True

    def __init__(self, vae: AutoencoderKL, margin: int = 2, background: float = 0.125):
        if margin < 0 or margin != int(margin):
            raise OptionError(f"the margin of decoded patches is a number of cells, 0 or more, got {margin}")
        if not 0 < background <= 1:
            raise OptionError(f"the share of the background to decode lies in (0, 1], got {background}")
        require_convolutions(vae.decoder)
        self.vae, self.margin, self.background = vae, int(margin), background

    def __call__(self, latents: torch.Tensor, lines: TextLines) -> torch.Tensor:
        """Pictures (B, 3, H, W), right where ``crop_lines`` looks for the lines and 0 elsewhere.

        Args:
            latents: (B, C, h, w), scaled as those of the diffusion; the gradient goes here.
            lines: readable lines of the B pictures.
        """
        decoder, stride = self.vae.decoder, 2 ** (len(self.vae.decoder.up_blocks) - 1)
        size = latents.shape[2] * stride, latents.shape[3] * stride
        windows = text_windows(lines, size, GRAIN, reach=max(GRAIN, self.margin * stride // 2))
        tiles = background_tiles(windows, size, TILE * stride, self.background)
        x = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        x = x if self.vae.post_quant_conv is None else self.vae.post_quant_conv(x)
        x = recomputed(decoder, lambda z: (decoder.mid_block(decoder.conv_in(z)),), x)[0]
        pictures = x.new_zeros(len(latents), decoder.conv_out.out_channels, *size)
        for window, pixels in UpPath(decoder, windows, tiles, size, self.margin)(x):
            pictures[window.picture, :, slice_of(window.rows), slice_of(window.columns)] = pixels
        return pictures


def exact_margin(vae: AutoencoderKL) -> int:
    """The least margin at which no pixel of the text feels the rim of a window: 13 for Stable Diffusion's decoder."""
    blocks, needed, margins = list(vae.decoder.up_blocks), 0, []
    for block in reversed(blocks):
        margins.append(needed + 2 * len(block.resnets) + (block is blocks[-1]))  # one more for conv_out
        needed = -(-(margins[-1] + 1) // 2)  # the convolution after the upsampling
    return max(margins)


def require_convolutions(decoder: nn.Module) -> None:
    """OptionError unless the decoder is diffusers' Decoder, with group norms and upsampling of the usual kind."""
    usual = isinstance(decoder, Decoder) and isinstance(decoder.conv_norm_out, nn.GroupNorm) and all(
        isinstance(block, UpDecoderBlock2D) for block in decoder.up_blocks)
    if not usual:
        raise OptionError(f"a {type(decoder).__name__} of this kind cannot decode patches: its blocks are to be those "
                          "of AutoencoderKL (UpDecoderBlock2D, group norms); decode whole pictures instead")


def slice_of(span: Span) -> slice:
    """The span as a slice of its axis."""
    return slice(span.start, span.stop)


def recomputed(decoder: nn.Module, function: Callable[..., tuple[torch.Tensor, ...]],
               *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """``function(*inputs)``, its activations kept or, as the decoder was told, computed again in the backward pass."""
    if decoder.gradient_checkpointing and torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False)
    return function(*inputs)


def upsampling_kernel(weight: torch.Tensor) -> torch.Tensor:
    """Kernel (C, D, 4, 4) of the transposed convolution, stride 2 and padding 1, that equals nearest-neighbour
    upsampling by 2 and then a convolution with ``weight`` (D, C, 3, 3) and padding 1."""
    flipped = weight.flip(2, 3).transpose(0, 1)
    tall = F.pad(flipped, (0, 0, 0, 1)) + F.pad(flipped, (0, 0, 1, 0))
    return F.pad(tall, (0, 1)) + F.pad(tall, (1, 0))


class UpPath:
    """The decoder from its middle to the pixels, for some windows at once.

    Windows of one shape are a batch; text comes first, then tiles of background, which have no gradient.  Level k has
    cells of ``strides[k]`` pixels.
    """

    def __init__(self, decoder: nn.Module, windows: Sequence[Window], tiles: Sequence[Window], size: tuple[int, int],
                 margin: int):
        self.decoder, self.size, self.margin = decoder, size, margin
        self.strides = [2 ** k for k in reversed(range(len(decoder.up_blocks)))]
        windows, tiles = (sorted(kind, key=lambda window: window.shape) for kind in (windows, tiles))
        text, background = ([list(group) for _, group in groupby(kind, lambda window: window.shape)]
                            for kind in (windows, tiles))
        self.text, self.groups = len(text), [*text, *background]
        self.pictures = torch.tensor([window.picture for window in [*windows, *tiles]])
        self.shares = statistics_shares(windows, tiles, size)
        self.affine: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, x: torch.Tensor) -> Iterator[tuple[Window, torch.Tensor]]:
        """Each window of text with its pixels (3, h, w); ``x`` (B, C, h, w): what the middle block returned."""
        if not self.groups:
            return
        self.pictures, self.shares = (t.to(x.device, non_blocking=True) for t in (self.pictures, self.shares))
        parts = [torch.stack([x[w.picture, :, slice_of(rows), slice_of(columns)]
                              for w, (rows, columns) in self._places(group, 0)]) for group in self.groups]
        parts = [part if i < self.text else part.detach() for i, part in enumerate(parts)]
        for level, block in enumerate(self.decoder.up_blocks):
            parts = self._level(level, block, parts)
        for group, part in zip(self.groups, parts, strict=False):
            for (window, (rows, columns)), pixels in zip(self._places(group, -1), part, strict=True):
                yield window, pixels[:, window.rows.within(rows), window.columns.within(columns)]

    def _places(self, group: Sequence[Window], level: int) -> list[tuple[Window, tuple[Span, Span]]]:
        """Rows and columns of each window's surroundings, in cells of a level."""
        stride, (height, width) = self.strides[level], self.size
        return [(window, (window.rows.around(stride, self.margin, height // stride),
                          window.columns.around(stride, self.margin, width // stride))) for window in group]

    def _level(self, level: int, block: nn.Module, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        """Parts on the next level; on the last one the pixels of the text."""
        background: list[torch.Tensor] = []

        def compute(*text: torch.Tensor) -> tuple[torch.Tensor, ...]:
            again = block.resnets[0].norm1 in self.affine  # in the backward pass: all statistics are known
            found = self._through(level, block, [*text] if again else [*text, *parts[self.text:]])
            background.extend(part.detach() for part in found[self.text:])
            return tuple(found[: self.text])

        return [*recomputed(self.decoder, compute, *parts[: self.text]), *background]

    def _through(self, level: int, block: nn.Module, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        for resnet in block.resnets:
            parts = self._resnet(level, resnet, parts)
        if level + 1 < len(self.strides):
            return self._upsampled(level, block.upsamplers[0].conv, parts)
        parts = self._normalised(level, self.decoder.conv_norm_out, parts)[: self.text]
        return [self.decoder.conv_out(self.decoder.conv_act(part)) for part in parts]

    def _resnet(self, level: int, resnet: ResnetBlock2D, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        inside = parts
        for norm, conv in ((resnet.norm1, resnet.conv1), (resnet.norm2, resnet.conv2)):
            inside = [conv(resnet.nonlinearity(part)) for part in self._normalised(level, norm, inside)]
        beside = parts if resnet.conv_shortcut is None else [resnet.conv_shortcut(part) for part in parts]
        return [(a + b) / resnet.output_scale_factor for a, b in zip(beside, inside, strict=True)]

    def _upsampled(self, level: int, conv: nn.Conv2d, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        kernel, found = upsampling_kernel(conv.weight), []
        for group, part in zip(self.groups, parts, strict=False):
            below, above = self._places(group, level), self._places(group, level + 1)
            chosen = [tuple(_source(fine, coarse) for fine, coarse in zip(a[1], b[1], strict=True))
                      for a, b in zip(above, below, strict=True)]
            cut = torch.stack([x[:, rows.within(b[1][0]), columns.within(b[1][1])]
                               for x, (rows, columns), b in zip(part, chosen, below, strict=True)])
            wide = F.conv_transpose2d(cut, kernel, conv.bias, stride=2, padding=1)
            found.append(torch.stack([x[:, a[1][0].within(rows.finer()), a[1][1].within(columns.finer())]
                                      for x, (rows, columns), a in zip(wide, chosen, above, strict=True)]))
        return found

    def _normalised(self, level: int, norm: nn.GroupNorm, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        if norm not in self.affine:
            self.affine[norm] = self._statistics(level, norm, parts)
        sizes = [len(group) for group in self.groups]
        scales, shifts = (table[..., None, None].split(sizes) for table in self.affine[norm])
        return [(part.float() * scale + shift).to(part.dtype)
                for part, scale, shift in zip(parts, scales, shifts, strict=False)]

    @torch.no_grad()
    def _statistics(self, level: int, norm: nn.GroupNorm,
                    parts: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift (P, C) of a group norm for each window, as its whole picture would have them."""
        found = []
        for group, part in zip(self.groups, parts, strict=True):
            for (window, (rows, columns)), x in zip(self._places(group, level), part, strict=True):
                inside = (window.rows.cells(self.strides[level]).within(rows),
                          window.columns.cells(self.strides[level]).within(columns))
                cells = x[:, inside[0], inside[1]].reshape(norm.num_groups, -1).float()
                found.append(torch.stack(torch.var_mean(cells, dim=1, correction=0)))
        variance, mean = torch.stack(found).unbind(1)  # (P, groups)
        last = max(window.picture for group in self.groups for window in group)
        shares, empty = self.shares[:, None], mean.new_zeros(last + 1, norm.num_groups)
        means = empty.index_add(0, self.pictures, shares * mean)[self.pictures]
        spread = empty.index_add(0, self.pictures, shares * (variance + (mean - means).square()))[self.pictures]
        each = norm.num_channels // norm.num_groups
        scale = (spread + norm.eps).rsqrt().repeat_interleave(each, dim=1) * norm.weight.float()
        return scale, norm.bias.float() - means.repeat_interleave(each, dim=1) * scale


def _source(fine: Span, coarse: Span) -> Span:
    """The cells of ``coarse`` that the cells ``fine`` of the next level are made of; as many for all of one length."""
    size = min(len(coarse), -(-len(fine) // 2) + 3)
    start = max(coarse.start, min(fine.start // 2 - 1, coarse.stop - size))
    return Span(start, start + size)
