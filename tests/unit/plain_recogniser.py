"""PP-OCRv3's recogniser the way upstream runs it: batch norms apart from the convolutions, activations written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.ocr.network import ConvNorm, PPOCRv3Network


def plain_network() -> PPOCRv3Network:
    """The network with ordinary convolutions and, behind them where upstream has one, ordinary batch norms.

    Its activations are composed of elementary operations, as upstream's modules Hswish and Swish are.

    Float32, contiguous, evaluation mode; parameters require gradients, as in a freshly built module.
    """
    network = PPOCRv3Network.from_pretrained()
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.activation = {F.hardswish: hard_swish, F.silu: swish}[module.activation]
            getattr(module, module.names[1]).__class__ = nn.BatchNorm2d
    return network


def hard_swish(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    """x relu6(x + 3) / 6, in as many operations; ``inplace`` is not used."""
    return x * F.relu6(x + 3) / 6


def swish(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    """x sigmoid(x), in as many operations; ``inplace`` is not used."""
    return x * torch.sigmoid(x)
