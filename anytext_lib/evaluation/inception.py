"""The Inception v3 whose features FID compares, without torchvision.

This is the network of 2015 in TensorFlow, as pytorch-fid ports it: average pooling does not count its padding, and the
last block takes the maximum where other Inceptions average.  Names of parameters are those of pytorch-fid's file.
Source: pytorch-fid ``inception.py``; Szegedy et al. 2016, "Rethinking the Inception Architecture".
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.evaluation.weights import KnownWeights, load_into, load_tensors

SIDE, FEATURES = 299, 2048
WEIGHTS = KnownWeights("FID", "pt_inception-2015-12-05-6726825d.pth", "https://github.com/mseitzer/pytorch-fid/"
                       "releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth")


class Conv(nn.Module):
    """Convolution, batch norm, ReLU.  Stride 2 has no padding; stride 1 keeps the size unless ``padded`` is False."""

    def __init__(self, inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, padded: bool = True):
        super().__init__()
        h, w = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        padding = (h // 2, w // 2) if padded and stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, (h, w), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def average(x: torch.Tensor) -> torch.Tensor:
    """Mean over 3 x 3, of the pixels inside the map only."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def maximum(x: torch.Tensor) -> torch.Tensor:
    """Maximum over 3 x 3."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


def halve(x: torch.Tensor) -> torch.Tensor:
    """Maximum over 3 x 3 at every second pixel."""
    return F.max_pool2d(x, 3, stride=2)


class Mixed(nn.Module):
    """Branches side by side, whose outputs are concatenated.

    Args:
        inputs: channels.
        branches: each a row of steps (name, outputs, kernel[, stride]); a last step that is a list of steps is
            computed side by side as well.
        pool: of the last branch. ``pooled``: channels of the convolution ``branch_pool`` behind it, 0 for none.
    """

    def __init__(self, inputs: int, branches: Sequence[Sequence], pool, pooled: int):
        super().__init__()
        self.pool, self.rows = pool, []
        for branch in branches:
            channels, names = inputs, []
            for step in branch:
                steps = step if isinstance(step, list) else [step]
                for name, outputs, *shape in steps:
                    self.add_module(name, Conv(channels, outputs, *shape))
                names.append([name for name, *_ in steps])
                channels = steps[0][1]
            self.rows.append(names)
        self.branch_pool = Conv(inputs, pooled, 1) if pooled else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = []
        for names in self.rows:
            y = x
            for step in names[:-1]:
                y = self.get_submodule(step[0])(y)
            found += [self.get_submodule(name)(y) for name in names[-1]]
        return torch.cat([*found, self.branch_pool(self.pool(x))], dim=1)


def _a(inputs: int, pooled: int) -> Mixed:
    return Mixed(inputs, [
        [("branch1x1", 64, 1)], [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)]], average, pooled)


def _b(inputs: int) -> Mixed:
    return Mixed(inputs, [
        [("branch3x3", 384, 3, 2)],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)]], halve, 0)


def _c(inputs: int, c: int) -> Mixed:
    row, column = (1, 7), (7, 1)
    return Mixed(inputs, [
        [("branch1x1", 192, 1)], [("branch7x7_1", c, 1), ("branch7x7_2", c, row), ("branch7x7_3", 192, column)],
        [("branch7x7dbl_1", c, 1), ("branch7x7dbl_2", c, column), ("branch7x7dbl_3", c, row),
         ("branch7x7dbl_4", c, column), ("branch7x7dbl_5", 192, row)]], average, 192)


def _d(inputs: int) -> Mixed:
    return Mixed(inputs, [
        [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)],
        [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1)),
         ("branch7x7x3_4", 192, 3, 2)]], halve, 0)


def _e(inputs: int, pool) -> Mixed:
    def split(name: str) -> list:
        return [(f"{name}a", 384, (1, 3)), (f"{name}b", 384, (3, 1))]

    return Mixed(inputs, [
        [("branch1x1", 320, 1)], [("branch3x3_1", 384, 1), split("branch3x3_2")],
        [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3), split("branch3x3dbl_3")]], pool, 192)


class FIDInception(nn.Sequential):
    """Images (B, 3, H, W) in [0, 1], RGB, of any size, to features (B, 2048)."""

    num_features = FEATURES

    def __init__(self):
        super().__init__()
        for name, layer in (
            ("Conv2d_1a_3x3", Conv(3, 32, 3, 2)), ("Conv2d_2a_3x3", Conv(32, 32, 3, padded=False)),
            ("Conv2d_2b_3x3", Conv(32, 64, 3)), ("maxpool1", nn.MaxPool2d(3, 2)), ("Conv2d_3b_1x1", Conv(64, 80, 1)),
            ("Conv2d_4a_3x3", Conv(80, 192, 3, padded=False)), ("maxpool2", nn.MaxPool2d(3, 2)),
            ("Mixed_5b", _a(192, 32)), ("Mixed_5c", _a(256, 64)), ("Mixed_5d", _a(288, 64)), ("Mixed_6a", _b(288)),
            ("Mixed_6b", _c(768, 128)), ("Mixed_6c", _c(768, 160)), ("Mixed_6d", _c(768, 160)),
            ("Mixed_6e", _c(768, 192)), ("Mixed_7a", _d(768)), ("Mixed_7b", _e(1280, average)),
            ("Mixed_7c", _e(2048, maximum)),
        ):
            self.add_module(name, layer)
        self.requires_grad_(False).eval()

    @classmethod
    def from_file(cls, path: str | os.PathLike | None = None) -> FIDInception:
        """With pytorch-fid's weights, from ``path`` or the folder that ANYTEXT_WEIGHTS names.

        Raises:
            MetricWeightsError: they are not there, damaged, or of another network.
        """
        place = WEIGHTS.find(path)
        network = cls()
        tensors = {name: tensor for name, tensor in load_tensors(place).items() if not name.startswith("fc.")}
        load_into(network, tensors, str(place))
        return network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = 2 * F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False) - 1
        return super().forward(x).mean(dim=(2, 3))
