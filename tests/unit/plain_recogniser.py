"""PP-OCRv3's recogniser the way upstream runs it: batch norms apart from the convolutions, activations written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.ocr.charset import Charset
from anytext_lib.ocr.network import ConvAct, PPOCRv3Network
from anytext_lib.ocr.weights import BATCH_NORM, load_onnx, read_layers, recognizer_path


def plain_network() -> PPOCRv3Network:
    """The network with every convolution an ordinary nn.Conv2d, followed by nn.BatchNorm2d where upstream has one.

    Its activations are composed of elementary operations, as upstream's modules Hswish and Swish are.

    Float32, contiguous, evaluation mode; parameters require gradients, as in a freshly built module.
    """
    model = load_onnx(recognizer_path())
    characters = {entry.key: entry.value for entry in model.metadata_props}["character"]
    network = PPOCRv3Network(len(Charset.from_metadata(characters)))
    for (name, module), layer in zip(network.layers(), read_layers(model), strict=True):
        if isinstance(module, nn.Conv2d):
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, plain_convolution(module, layer))
        else:
            module.load_state_dict(layer)
    for module in network.modules():
        if isinstance(module, ConvAct):
            module.activation = {F.hardswish: hard_swish, F.silu: swish}[module.activation]
    return network.eval()


def hard_swish(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    """x relu6(x + 3) / 6, in as many operations; ``inplace`` is not used."""
    return x * F.relu6(x + 3) / 6


def swish(x: torch.Tensor, inplace: bool = False) -> torch.Tensor:
    """x sigmoid(x), in as many operations; ``inplace`` is not used."""
    return x * torch.sigmoid(x)


def plain_convolution(like: nn.Conv2d, layer: dict) -> nn.Module:
    """nn.Conv2d of the same geometry with the stored weight; with its batch norm behind it if there is one."""
    conv = nn.Conv2d(like.in_channels, like.out_channels, like.kernel_size, like.stride, like.padding,
                     groups=like.groups, bias="bias" in layer)
    if "bias" in layer:
        conv.load_state_dict(layer)
        return conv
    conv.load_state_dict({"weight": layer["weight"]})
    norm = nn.BatchNorm2d(like.out_channels)
    names = ("weight", "bias", "running_mean", "running_var")
    norm.load_state_dict({name: layer[key] for name, key in zip(names, BATCH_NORM, strict=True)}, strict=False)
    return nn.Sequential(conv, norm)
