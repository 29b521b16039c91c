"""PP-OCRv3's recogniser as it is trained and stored: with batch norms, dropout and upstream's names of tensors.

``network.PPOCRv3Network`` is the same network with its batch norms folded: faster, and what the losses use.  This one
exists for two purposes.  AnyText2's style recogniser is trained, so it needs batch norms and dropout; and both
recognisers inside AnyText2's checkpoints must come back bit for bit.  Its 228 tensors have the names and the order of
``text_predictor.*`` there (``ocr_recog/RecModel.py``, ``RecMv1_enhance.py``, ``RNN.py``, ``RecSVTR.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.ocr.charset import Charset
from anytext_lib.ocr.network import BLOCKS, PPOCRv3Network
from anytext_lib.ocr.recogniser import PPOCRv3Recognizer, RecognizerOutput, check_crops
from anytext_lib.ocr.weights import Layer, WeightsError, load_layers, load_onnx, read_layers, recognizer_path

CLASSES = 6625  # blank, 6623 characters, space
DROPOUT = 0.1  # of attention weights, attention outputs and both layers of the feed-forward part, in training mode
LAYER_KEYS = ("weight", "bias", "scale", "shift", "mean", "variance")  # in the order in which a module stores them
COUNTER = "num_batches_tracked"


class ContiguousGradient(torch.autograd.Function):
    """The identity, whose incoming gradient is laid out in memory afresh.

    The backward of ``BatchNorm2d`` in torch 2.13 on the CPU is wrong (by 100% and more, in both modes) for a batch of
    one whose gradient arrives transposed, as it does from a neck that works on (line, frame, channel).
    """

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.contiguous()


class BatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` with the right gradient for a batch of one as well."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ContiguousGradient.apply(super().forward(x))


class BackboneConv(nn.Module):
    """Convolution without bias, batch norm, hard swish: the backbone's naming."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int | tuple[int, int] = 1, groups: int = 1):
        super().__init__()
        self._conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
        self._batch_norm = BatchNorm(outside)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.hardswish(self._batch_norm(self._conv(x)))


class NeckConv(nn.Module):
    """Convolution without bias, batch norm, swish: the neck's naming."""

    def __init__(self, inside: int, outside: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False)
        self.norm = BatchNorm(outside)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(self.norm(self.conv(x)))


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate in [0, 1] computed from the channel means of the whole crop."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels // 4, 1)
        self.conv2 = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = x.mean(dim=(2, 3), keepdim=True)
        return x * F.hardsigmoid(self.conv2(F.relu(self.conv1(gate))))


class SeparableBlock(nn.Module):
    """A convolution within each channel, then one across channels; sizes as in ``network.BLOCKS``."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: tuple[int, int], excite: bool):
        super().__init__()
        self._depthwise_conv = BackboneConv(inside, inside, kernel, stride, inside)
        if excite:
            self._se = SqueezeExcite(inside)
        self._pointwise_conv = BackboneConv(inside, outside, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self._depthwise_conv(x)
        return self._pointwise_conv(self._se(x) if hasattr(self, "_se") else x)


class Backbone(nn.Module):
    """MobileNetV1Enhance at half width: crops (L, 3, 48, W) -> (L, 512, 1, W/8)."""

    def __init__(self):
        super().__init__()
        self.conv1 = BackboneConv(3, 16, 3, 2)
        self.block_list = nn.Sequential(*(SeparableBlock(*sizes) for sizes in BLOCKS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(self.block_list(self.conv1(x)), 2)


class Attention(nn.Module):
    """Self-attention over the frames of a line: (L, frames, width) -> the same."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (L, heads, frames, width / heads)
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=DROPOUT if self.training else 0.0)
        return F.dropout(self.proj(mixed.transpose(1, 2).flatten(2)), DROPOUT, self.training)


class FeedForward(nn.Module):
    """Two linear layers with a swish between them."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.dropout(F.silu(self.fc1(x)), DROPOUT, self.training)
        return F.dropout(self.fc2(x), DROPOUT, self.training)


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.mixer = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = FeedForward(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """Lets every frame see the whole line: (L, 512, 1, frames) -> features (L, frames, 64)."""

    def __init__(self, channels: int = 512, width: int = 120, depth: int = 2, heads: int = 8, out: int = 64):
        super().__init__()
        self.conv1 = NeckConv(channels, channels // 8, 3)
        self.conv2 = NeckConv(channels // 8, width, 1)
        self.svtr_block = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.conv3 = NeckConv(width, channels, 1)
        self.conv4 = NeckConv(2 * channels, channels // 8, 3)
        self.conv1x1 = NeckConv(channels // 8, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.conv2(self.conv1(x)).squeeze(2).transpose(1, 2)
        for block in self.svtr_block:
            tokens = block(tokens)
        wide = self.conv3(self.norm(tokens).transpose(1, 2).unsqueeze(2))
        return self.conv1x1(self.conv4(torch.cat([x, wide], dim=1))).squeeze(2).transpose(1, 2)


class TrainableRecognizer(nn.Module):
    """Crops (L, 3, 48, W) in [-1, 1] -> features (L, W/8, 64) and logits (L, W/8, classes); all weights trainable.

    In training mode it is upstream's style recogniser: batch norms take the statistics of the crops at hand and
    update their running ones, and dropout of 0.1 is on in the neck.  In evaluation mode it equals ``folded()`` up to
    rounding.  A new one has random weights and is in training mode, as any module.
    """

    def __init__(self, classes: int = CLASSES):
        super().__init__()
        self.backbone = Backbone()
        self.neck = nn.ModuleDict({"encoder": Encoder()})
        self.head = nn.ModuleDict({"fc": nn.Linear(64, classes)})

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> TrainableRecognizer:
        """With PP-OCRv3's real weights, without a download, in evaluation mode.

        Args:
            path: an ONNX file of PP-OCRv3's recogniser; None takes the one in the package rapidocr-onnxruntime.

        Raises:
            WeightsError: no such file, a damaged one, or one that holds another network.
        """
        path = recognizer_path() if path is None else Path(path)
        layers = read_layers(load_onnx(path))
        network = cls(classes=len(layers[-1]["weight"]) if layers else CLASSES)
        network.load_state_dict(state_from_layers(network.state_dict(), layers, str(path)))
        return network.eval()

    def forward(self, crops: torch.Tensor) -> RecognizerOutput:
        """Features and logits; ValueError for crops of another shape."""
        features = self.features(crops)
        return RecognizerOutput(features, self.head["fc"](features))

    def features(self, crops: torch.Tensor) -> torch.Tensor:
        """Only the features (L, W/8, 64); (0, W/8, 64) for no crops, in both modes."""
        check_crops(crops)
        if len(crops) == 0:
            return crops.new_zeros(0, crops.shape[3] // 8, 64)
        return self.neck["encoder"](self.backbone(crops))

    def layers(self) -> list[Layer]:
        """The weights layer by layer in the order of computation, in the form of ``weights.read_layers``."""
        layers, names = [], {COUNTER: None, "running_mean": "mean", "running_var": "variance"}
        for module in self.modules():
            own = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
            own = {name: value.detach().clone() for name, value in own.items()}
            if isinstance(module, nn.BatchNorm2d):
                names_here = {"weight": "scale", "bias": "shift", **names}
                layers[-1].update({names_here[name]: value for name, value in own.items() if names_here[name]})
            elif own:
                layers.append(own)
        return layers

    def folded(self) -> PPOCRv3Network:
        """A copy of the present weights with batch norms folded in; same device and dtype, no gradient to this one."""
        weight = self.head["fc"].weight
        network = PPOCRv3Network(len(weight)).to(weight.device, weight.dtype)
        load_layers(network.layers(), self.layers(), "the trainable recogniser")
        return network

    def recognizer(self, charset: Charset | None = None) -> PPOCRv3Recognizer:
        """A frozen, folded reader with the present weights; by default with the characters of PP-OCRv3."""
        return PPOCRv3Recognizer(self.folded(), charset or pretrained_charset())


def pretrained_charset(path: str | Path | None = None) -> Charset:
    """The characters that PP-OCRv3's recogniser knows, from the metadata of its ONNX file (None: the package's)."""
    path = recognizer_path() if path is None else Path(path)
    metadata = {entry.key: entry.value for entry in load_onnx(path).metadata_props}
    if "character" not in metadata:
        raise WeightsError(f"{path} has no entry 'character' in its metadata (found: {sorted(metadata)})")
    return Charset.from_metadata(metadata["character"])


def state_from_layers(like: Mapping[str, torch.Tensor], layers: list[Layer], source: str) -> dict[str, torch.Tensor]:
    """A state dict with the names of ``like`` (in the order of computation) and the tensors of ``layers``.

    Counters of batches are 0. WeightsError: the number of tensors or a shape differs, ``source`` holds another network.
    """
    tensors = [layer[key] for layer in layers for key in LAYER_KEYS if key in layer]
    names = [name for name in like if not name.endswith(COUNTER)]
    if len(tensors) != len(names):
        raise WeightsError(f"{source} has {len(tensors)} tensors of weights, PP-OCRv3's recogniser {len(names)}: "
                           "it is another network")
    found = dict(zip(names, tensors, strict=True))
    for name in names:
        if found[name].shape != like[name].shape:
            raise WeightsError(f"{source} does not fit PP-OCRv3's recogniser at {name}: it holds "
                               f"{tuple(found[name].shape)}, expected {tuple(like[name].shape)}")
    return {name: found.get(name, torch.tensor(0)) for name in like}
