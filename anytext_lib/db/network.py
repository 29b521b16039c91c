"""A small detector: strided convolutions, a feature pyramid, and DB's two heads.  About 0.3 M parameters.

The head is DB's (Liao et al. 2020, figure 3): pyramid features of a quarter of the size, concatenated; a convolution
and two transposed convolutions for P, and the same for T; B from both.  The backbone is small enough for a CPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.db.binarization import STEEPNESS, binarize
from anytext_lib.errors import OptionError

MULTIPLE = 32  # the deepest features are smaller than the image by this


class DBOutput(NamedTuple):
    """``maps`` (B, 3, H, W): P, T and B in [0, 1]; ``logits`` (B, H, W) of P before the sigmoid."""

    maps: torch.Tensor
    logits: torch.Tensor


class DBNet(nn.Module):
    """Images (B, 3, H, W) in [-1, 1], RGB, sides multiples of 32, to the three maps of DB at the same size.

    Args:
        widths: channels at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size. neck: channels of the pyramid, a multiple of 4.
        head: channels of the heads. k: steepness of the binarisation.
    """

    def __init__(self, widths: tuple[int, ...] = (16, 24, 32, 48, 64), neck: int = 48, head: int = 16,
                 k: float = STEEPNESS):
        super().__init__()
        self.options = {"widths": list(widths), "neck": neck, "head": head, "k": k}
        self.stem = conv_block(3, widths[0], stride=2)
        self.stages = nn.ModuleList(nn.Sequential(conv_block(before, width, stride=2), Residual(width))
                                    for before, width in zip(widths, widths[1:], strict=False))
        self.lateral = nn.ModuleList(nn.Conv2d(width, neck, 1, bias=False) for width in widths[1:])
        self.smooth = nn.ModuleList(conv_block(neck, neck // 4) for _ in widths[1:])
        joined = neck // 4 * len(widths[1:])
        self.probability_head, self.threshold_head = map_head(joined, head), map_head(joined, head)
        self.k = k

    def forward(self, images: torch.Tensor) -> DBOutput:
        """All three maps; ValueError for sides that are no multiples of 32."""
        features = self.features(images)
        logits, threshold = self.probability_head(features), self.threshold_head(features).sigmoid()
        probability = logits.sigmoid()
        return DBOutput(torch.cat([probability, threshold, binarize(probability, threshold, self.k)], dim=1),
                        logits[:, 0])

    @torch.no_grad()
    def probability(self, images: torch.Tensor) -> torch.Tensor:
        """P alone, (B, 1, H, W) float32 in [0, 1], which is all that finding boxes needs; any size of image."""
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % MULTIPLE, 0, -height % MULTIPLE), mode="replicate")
        return self.probability_head(self.features(padded)).float().sigmoid()[:, :, :height, :width]

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Pyramid features (B, C, H / 4, W / 4)."""
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % MULTIPLE or images.shape[3] % MULTIPLE:
            raise OptionError(f"images are (B, 3, H, W) with sides that are multiples of {MULTIPLE}, got "
                             f"{tuple(images.shape)}: pad them, or use probability(), which does")
        levels, x = [], self.stem(images)
        for stage in self.stages:
            levels.append(x := stage(x))
        top, pyramid = None, []
        for lateral, smooth, level in list(zip(self.lateral, self.smooth, levels, strict=True))[::-1]:
            side = lateral(level)
            top = side if top is None else side + F.interpolate(top, scale_factor=2.0)
            pyramid.append(smooth(top))
        return torch.cat([F.interpolate(level, size=pyramid[-1].shape[2:]) for level in pyramid], dim=1)


class Residual(nn.Module):
    """x + two convolutions of x."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(conv_block(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False),
                                  nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


def conv_block(before: int, width: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(before, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width),
                         nn.ReLU(inplace=True))


def map_head(before: int, width: int) -> nn.Sequential:
    """From (B, before, h, w) to logits (B, 1, 4 h, 4 w)."""
    return nn.Sequential(conv_block(before, width), nn.ConvTranspose2d(width, width, 2, 2, bias=False),
                         nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.ConvTranspose2d(width, 1, 2, 2))
