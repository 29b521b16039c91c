"""LPIPS: how different two pictures look to AlexNet (Zhang et al. 2018), without torchvision.

    LPIPS(a, b) = sum over 5 layers l of mean over pixels of  w_l . (f_l(a) / |f_l(a)| - f_l(b) / |f_l(b)|)^2

The heads w_l come with torchmetrics; the metric of torchmetrics itself insists on torchvision.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from anytext_lib.errors import OptionError
from anytext_lib.evaluation.weights import KnownWeights, load_into, load_tensors

WEIGHTS = KnownWeights("LPIPS", "alexnet-owt-7be5be79.pth",
                       "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth")
CHANNELS = (64, 192, 384, 256, 256)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
SMALLEST = 32  # pixels: below, the last layers have nothing to look at


class AlexNetFeatures(nn.Module):
    """The five stages of torchvision's AlexNet, each ending in its ReLU."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(),
            nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, 1, 1), nn.ReLU(), nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                maps.append(x)
        return maps


class LPIPS(nn.Module):
    """Distances (B,) of images (B, 3, H, W) in [-1, 1], RGB.

    Args:
        backbone: from images to a list of maps (B, C_l, h_l, w_l). ``heads``: a weight (C_l,) for each.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, backbone: nn.Module, heads: list[torch.Tensor]):
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ParameterList(heads)
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None])
        self.requires_grad_(False).eval()

    @classmethod
    def from_file(cls, path: str | os.PathLike | None = None) -> LPIPS:
        """With torchvision's AlexNet weights, from ``path`` or the folder that ANYTEXT_WEIGHTS names.

        Raises:
            MetricWeightsError: they are not there, damaged, or of another network.
        """
        place = WEIGHTS.find(path)
        backbone = AlexNetFeatures()
        tensors = load_tensors(place)
        load_into(backbone, {name: t for name, t in tensors.items() if not name.startswith("classifier.")}, str(place))
        return cls(backbone, published_heads())

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        if first.shape != second.shape or first.ndim != 4 or min(first.shape[2:]) < SMALLEST:
            raise OptionError(f"LPIPS compares images (B, 3, H, W) of one size, at least {SMALLEST} pixels high "
                                  f"and wide; got {tuple(first.shape)} and {tuple(second.shape)}")
        maps = [self.backbone((x - self.shift) / self.scale) for x in (first, second)]
        return sum(((_unit(a) - _unit(b)) ** 2).mul(w[:, None, None]).sum(dim=1).mean(dim=(1, 2))
                   for a, b, w in zip(*maps, self.heads, strict=True))


def published_heads() -> list[torch.Tensor]:
    """The weights (C_l,) of LPIPS 0.1 for AlexNet, from torchmetrics' files."""
    import torchmetrics

    tensors = load_tensors(Path(torchmetrics.__file__).parent / "functional/image/lpips_models/alex.pth")
    return [tensors[f"lin{i}.model.1.weight"].flatten() for i in range(len(CHANNELS))]


def _unit(maps: torch.Tensor) -> torch.Tensor:
    """Each pixel's vector at length one."""
    return maps / (maps.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
