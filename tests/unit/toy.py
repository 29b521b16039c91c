"""A small differentiable reader with the recogniser's interface, for tests that need no real weights."""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F

FRAMES, CHANNELS, CLASSES = 40, 6, 30


class ToyCharset:
    def encode(self, text: str) -> list[int]:
        return [1 + ord(c) % (CLASSES - 1) for c in text]


class ToyReader:
    """Averages a crop into 40 frames and mixes them with fixed random weights."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.mix = torch.randn(9, CHANNELS, generator=generator)
        self.head = torch.randn(CHANNELS, CLASSES, generator=generator)
        self.charset = ToyCharset()

    def __call__(self, crops: torch.Tensor) -> SimpleNamespace:
        bands = F.adaptive_avg_pool2d(crops, (3, FRAMES)).flatten(1, 2).transpose(1, 2)
        features = torch.tanh(bands @ self.mix.to(crops))
        return SimpleNamespace(features=features, logits=features @ self.head.to(crops))


def decode(z: torch.Tensor) -> torch.Tensor:
    """Four latent channels to RGB, eight times larger."""
    return F.interpolate(z[:, :3] * 0.5, scale_factor=8, mode="bilinear")


ABAR = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, dim=0).float()
