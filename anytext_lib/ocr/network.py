"""The recogniser of PP-OCRv3 as a PyTorch network, its batch norms folded into the convolutions.

MobileNetV1Enhance (scale 0.5) -> SVTR neck (two transformer blocks of width 120) -> linear.  Source: PaddleOCR
``ppocr/modeling/backbones/rec_mv1_enhance.py`` and ``necks/rnn.py`` (``EncoderWithSVTR``).  Sizes below are for a
crop of 48 x 320: the image loses height in four steps and is 40 frames wide at the end.

There is no batch norm and no dropout, so training and evaluation mode are the same.  Folding is exact, about twice
as fast, and avoids a wrong gradient: the backward of ``BatchNorm2d`` in torch 2.13 on the CPU is off by 100% and
more for a batch of one whose gradient arrives transposed, which is what the neck below sends to the backbone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.ocr.padding import maps_of_padded

HEIGHT = 48  # pixels: the only height that leaves one row of frames
STRIDE = 8  # pixels of width for each frame
LOCAL = 12  # stages (stem to block11) that see a small surrounding only; squeeze and excite sees the whole crop

# (channels in, channels out, kernel of the depthwise convolution, its stride (down, across), squeeze and excite)
BLOCKS = (
    (16, 32, 3, (1, 1), False),
    (32, 64, 3, (1, 1), False),
    (64, 64, 3, (1, 1), False),
    (64, 128, 3, (2, 1), False),
    (128, 128, 3, (1, 1), False),
    (128, 256, 3, (2, 1), False),
    *((256, 256, 5, (1, 1), False),) * 5,
    (256, 512, 5, (2, 1), True),
    (512, 512, 5, (1, 2), True),
)


Seams = tuple[torch.Tensor, torch.Tensor]  # columns (S,) and the values (1, C, h, S) they have, see ``padding``


class FrozenConvolution(torch.autograd.Function):
    """``F.conv2d`` for a constant weight: its backward needs no input, so the input is not kept.

    ``nn.Conv2d`` keeps its input for the weight's gradient even when nobody asks for that.  Without it the graph of
    the recogniser is half as large, and the time that the CPU spends on fresh memory falls with it.

    ``seams`` (columns, values) are written into the input, in place: it is a fresh activation that nobody else reads.
    """

    @staticmethod
    def forward(x, weight, bias, stride, padding, groups, seams=None):
        if seams is not None:
            x.index_copy_(3, *seams)
        return F.conv2d(x, weight, bias, stride, padding, 1, groups)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, _, stride, padding, groups, *seams = inputs
        ctx.geometry = stride, padding, groups
        ctx.columns = seams[0][0] if seams and seams[0] else None
        ctx.size = x.shape
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx, gradient):
        (weight,), (stride, padding, groups) = ctx.saved_tensors, ctx.geometry
        left = [n + 2 * p - k - (m - 1) * s for n, m, k, s, p in
                zip(ctx.size[2:], gradient.shape[2:], weight.shape[2:], stride, padding, strict=True)]
        back = F.conv_transpose2d(gradient, weight.to(gradient.dtype), None, stride, padding, left, groups)
        if ctx.columns is not None:
            back.index_fill_(3, ctx.columns, 0)
        return back, None, None, None, None, None, None


class Conv2d(nn.Conv2d):
    """A convolution with "same" padding that keeps no input while its weight is frozen."""

    def __init__(self, inside: int, outside: int, kernel: int, stride=1, groups: int = 1):
        super().__init__(inside, outside, kernel, stride, kernel // 2, groups=groups)

    def forward(self, x: torch.Tensor, seams: Seams | None = None) -> torch.Tensor:
        if self.weight.requires_grad or self.bias.requires_grad:
            return super().forward(x if seams is None else x.index_copy(3, *seams))
        return FrozenConvolution.apply(x, self.weight, self.bias, self.stride, self.padding, self.groups, seams)


class ConvAct(nn.Module):
    """Convolution, then an activation."""

    def __init__(self, inside: int, outside: int, kernel: int, stride=1, groups: int = 1, activation=F.silu):
        super().__init__()
        self.conv = Conv2d(inside, outside, kernel, stride, groups)
        self.activation = activation

    def forward(self, x: torch.Tensor, seams: Seams | None = None) -> torch.Tensor:
        y = self.conv(x) if seams is None else self.conv(x, seams)
        return self.activation(y, inplace=not torch.is_grad_enabled())


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate in [0, 1] computed from the channel means of the whole crop."""

    def __init__(self, channels: int):
        super().__init__()
        self.squeeze = Conv2d(channels, channels // 4, 1)
        self.excite = Conv2d(channels // 4, channels, 1)

    def forward(self, x: torch.Tensor, rows: int | None = None) -> torch.Tensor:
        """Only the first ``rows`` of the output, if that is all that is needed."""
        gate = x.mean(dim=(2, 3), keepdim=True)
        return x[:, :, :rows] * F.hardsigmoid(self.excite(F.relu(self.squeeze(gate))))


class SeparableBlock(nn.Module):
    """A convolution within each channel, then one across channels."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: tuple[int, int], excite: bool):
        super().__init__()
        self.depthwise = ConvAct(inside, inside, kernel, stride, inside, F.hardswish)
        self.excite = SqueezeExcite(inside) if excite else nn.Identity()
        self.pointwise = ConvAct(inside, outside, 1, activation=F.hardswish)

    def forward(self, x: torch.Tensor, seams: Seams | None = None) -> torch.Tensor:
        return self.pointwise(self.excite(self.depthwise(x, seams)))


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward: (L, frames, width) -> the same."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (L, heads, frames, width / heads)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.proj(mixed)
        return x + self.fc2(F.silu(self.fc1(self.norm2(x))))


class Neck(nn.Module):
    """Lets every frame see the whole line: (L, 512, 1, frames) -> features (L, frames, 64)."""

    def __init__(self, channels: int = 512, width: int = 120, depth: int = 2, heads: int = 8, out: int = 64):
        super().__init__()
        self.reduce = nn.Sequential(ConvAct(channels, channels // 8, 3), ConvAct(channels // 8, width, 1))
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = ConvAct(width, channels, 1)
        self.fuse = nn.Sequential(ConvAct(2 * channels, channels // 8, 3), ConvAct(channels // 8, out, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.reduce(x).squeeze(2).transpose(1, 2)
        tokens = self.norm(self.blocks(tokens))
        wide = self.widen(tokens.transpose(1, 2).unsqueeze(2))
        return self.fuse(torch.cat([x, wide], dim=1)).squeeze(2).transpose(1, 2)


class PPOCRv3Network(nn.Sequential):
    """Crops (L, 3, 48, W) -> logits (L, W / 8, classes), as a plain sequence of named stages.

    ``stem`` (L, 16, 24, W/2), ``block1`` ... ``block13`` (L, 512, 3, W/4), ``pool`` (L, 512, 1, W/8),
    ``neck`` (L, W/8, 64): the features of the OCR loss, ``head`` (L, W/8, classes).
    """

    def __init__(self, classes: int = 6625):
        stages = OrderedDict(stem=ConvAct(3, 16, 3, stride=2, activation=F.hardswish))
        stages |= {f"block{i}": SeparableBlock(*sizes) for i, sizes in enumerate(BLOCKS, start=1)}
        stages |= {"pool": nn.AvgPool2d(2), "neck": Neck(), "head": nn.Linear(64, classes)}
        super().__init__(stages)
        self._blanks: dict[tuple, list[torch.Tensor]] = {}

    def features(self, crops: torch.Tensor, widths: Sequence[int] | None = None) -> torch.Tensor:
        """All stages but the head: (L, 3, 48, W) -> (L, W/8, 64); for ``widths`` see ``padding.maps_of_padded``."""
        if widths is None or len(crops) == 0:
            return self._global(self._local(crops))
        return self._global(maps_of_padded(list(self)[:LOCAL], crops, widths, self._blank(crops)))

    def _local(self, crops: torch.Tensor) -> torch.Tensor:
        for stage in list(self)[:LOCAL]:
            crops = stage(crops)
        return crops

    def _global(self, maps: torch.Tensor) -> torch.Tensor:
        """Block12 to neck; block13 leaves out its last row, which the pooling of three rows to one never reads."""
        last = self.block13
        scaled = last.excite(last.depthwise(self.block12(maps)), rows=2)
        return self.neck(self.pool(last.pointwise(scaled)))

    @torch.no_grad()
    def _blank(self, crops: torch.Tensor) -> list[torch.Tensor]:
        """Output of each local stage for a crop of zeros like ``crops``; kept for the next call."""
        key = (crops.shape[3], crops.dtype, crops.device)
        if key not in self._blanks:
            maps = [torch.zeros_like(crops[:1])]
            for stage in list(self)[:LOCAL]:
                maps.append(stage(maps[-1]))
            self._blanks[key] = maps[1:]
        return self._blanks[key]

    def layers(self) -> list[tuple[str, nn.Module]]:
        """Names and modules that hold weights, in the order of computation."""
        return [(name, m) for name, m in self.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.LayerNorm))]
