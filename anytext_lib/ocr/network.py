"""The recogniser of PP-OCRv3 as a PyTorch network, with batch norms or with these folded into the convolutions.

MobileNetV1Enhance (scale 0.5) -> SVTR neck (two transformer blocks of width 120) -> linear.  Source: PaddleOCR
``ppocr/modeling/backbones/rec_mv1_enhance.py`` and ``necks/rnn.py`` (``EncoderWithSVTR``).  Sizes below are for a
crop of 48 x 320: the image loses height in four steps and is 40 frames wide at the end.

With batch norms it is trained and stored: AnyText2's style recogniser is trained, and both recognisers inside
AnyText2's checkpoints must come back bit for bit.  Its 228 tensors have the names and the order of
``text_predictor.*`` there (``ocr_recog/RecModel.py``, ``RecMv1_enhance.py``, ``RNN.py``, ``RecSVTR.py``).

Folded it is what the losses use.  Folding is exact, about twice as fast, and avoids a wrong gradient: the backward of
``BatchNorm2d`` in torch 2.13 on the CPU is off by 100% and more, in both modes, for a batch of one whose gradient
arrives transposed, which is what the neck sends to the backbone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from anytext_lib.ocr.onnx_weights import load_onnx, read_layers, recognizer_path, state_from_layers

if TYPE_CHECKING:
    from anytext_lib.ocr.crops import Shortened

HEIGHT = 48  # pixels: the only height that leaves one row of frames
STRIDE = 8  # pixels of width for each frame
CLASSES = 6625  # blank, 6623 characters, space
DROPOUT = 0.1  # of attention weights, attention outputs and both layers of the feed-forward part, in training mode

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

Seams = tuple[torch.Tensor, torch.Tensor]  # columns (S,), their values (1, C, h, S); see ``crops.frames_of_padded``


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """``F.linear``, of the same values: a bias added to a product that was just written is in the processor's cache.

    torch's own first copies the bias to every row of fresh memory, and then adds the product to it.
    """
    return F.linear(x, weight).add_(bias)


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
        back = convolve_back(gradient, weight, ctx.size, stride, padding, groups, ctx.columns)
        return back, None, None, None, None, None, None


def convolve_back(gradient: torch.Tensor, weight: torch.Tensor, size: torch.Size, stride, padding, groups: int,
                  columns: torch.Tensor | None) -> torch.Tensor:
    """The gradient of a convolution's input of ``size``, zero in the ``columns`` (S,) of its seams."""
    left = [n + 2 * p - k - (m - 1) * s for n, m, k, s, p in
            zip(size[2:], gradient.shape[2:], weight.shape[2:], stride, padding, strict=True)]
    back = F.conv_transpose2d(gradient, weight.to(gradient.dtype), None, stride, padding, left, groups)
    return back if columns is None else back.index_fill_(3, columns, 0)


class FrozenPointwise(torch.autograd.Function):
    """``F.conv2d`` for a constant kernel of one pixel: a product of matrices, over channels that lie side by side.

    That is what it is in ``channels_last``.  torch's own convolution takes a path through copies there, on one thread
    and for fewer than 16 crops.
    """

    @staticmethod
    def forward(x, weight, bias):
        return linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, gradient):
        (weight,), rows = ctx.saved_tensors, gradient.permute(0, 2, 3, 1)
        back = rows.flatten(0, 2) @ weight.flatten(1).to(gradient.dtype)
        return back.unflatten(0, rows.shape[:3]).permute(0, 3, 1, 2), None, None


class FrozenSeparable(torch.autograd.Function):
    """A convolution within each channel, hard swish, one across channels, hard swish; of constant weights.

    The same as the four one after the other, in one step of the graph.  What goes into each hard swish is kept, and
    what comes out of the first one is not.  Without a gradient nothing is, and both are computed in place.
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, depthwise: nn.Conv2d, pointwise: nn.Conv2d, seams: Seams | None) -> torch.Tensor:
        """Maps (L, D, h', w') of maps (L, C, h, w), into which ``seams`` are written as by FrozenConvolution."""
        if seams is not None:
            x.index_copy_(3, *seams)
        keeps = ctx.needs_input_grad[0]
        inner = F.conv2d(x, depthwise.weight, depthwise.bias, depthwise.stride, depthwise.padding, 1, depthwise.groups)
        rows = inner.permute(0, 2, 3, 1)
        outer = linear(F.hardswish(rows, inplace=not keeps), pointwise.weight.flatten(1), pointwise.bias)
        if keeps:
            ctx.depthwise, ctx.pointwise, ctx.size = depthwise, pointwise, x.shape
            ctx.columns = None if seams is None else seams[0]
            ctx.save_for_backward(rows, outer)
        return F.hardswish(outer, inplace=not keeps).permute(0, 3, 1, 2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: torch.Tensor):
        """The four gradients in turn; each map is let go as soon as the next one is there."""
        rows, outer = ctx.saved_tensors
        depthwise, weight = ctx.depthwise, ctx.pointwise.weight.flatten(1)
        back = torch.ops.aten.hardswish_backward(gradient.permute(0, 2, 3, 1), outer)
        back = (back.flatten(0, 2) @ weight.to(back.dtype)).view_as(rows)
        back = torch.ops.aten.hardswish_backward(back, rows).permute(0, 3, 1, 2)
        return convolve_back(back, depthwise.weight, ctx.size, depthwise.stride, depthwise.padding, depthwise.groups,
                             ctx.columns), None, None, None


class Conv2d(nn.Conv2d):
    """A convolution with "same" padding that keeps no input while weight and bias are there and frozen."""

    def __init__(self, inside: int, outside: int, kernel: int, stride=1, groups: int = 1, bias: bool = True):
        super().__init__(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=bias)

    @property
    def frozen(self) -> bool:
        """Whether a bias is there, and neither it nor the weight is trained."""
        return self.bias is not None and not (self.weight.requires_grad or self.bias.requires_grad)

    def forward(self, x: torch.Tensor, seams: Seams | None = None) -> torch.Tensor:
        if not self.frozen:
            return super().forward(x if seams is None else x.index_copy(3, *seams))
        if self.kernel_size == (1, 1) and self.stride == (1, 1) and self.groups == 1 and seams is None:
            return FrozenPointwise.apply(x, self.weight, self.bias)
        return FrozenConvolution.apply(x, self.weight, self.bias, self.stride, self.padding, self.groups, seams)


class ContiguousGradient(torch.autograd.Function):
    """The identity, whose incoming gradient is laid out in memory afresh."""

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


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, swish; ``fold`` makes it a convolution with bias, and swish."""

    names = "conv", "norm"
    activation: Callable = staticmethod(F.silu)

    def __init__(self, inside: int, outside: int, kernel: int, stride: int | tuple[int, int] = 1, groups: int = 1):
        super().__init__()
        conv, norm = self.names
        setattr(self, conv, Conv2d(inside, outside, kernel, stride, groups, bias=False))
        setattr(self, norm, BatchNorm(outside))

    def fold(self) -> None:
        """Fold the batch norm, with its running statistics, into the convolution; computed in float64."""
        conv, norm = (getattr(self, name) for name in self.names)
        dtype = conv.weight.dtype
        setattr(self, self.names[0], fuse_conv_bn_eval(conv.double(), norm.double().eval()).to(dtype))
        delattr(self, self.names[1])

    @property
    def frozen(self) -> bool:
        """Whether it is folded, and not trained."""
        return getattr(self, self.names[0]).frozen and not hasattr(self, self.names[1])

    def forward(self, x: torch.Tensor, seams: Seams | None = None) -> torch.Tensor:
        conv, norm = (getattr(self, name, None) for name in self.names)
        y = conv(x) if seams is None else conv(x, seams)
        return self.activation(y if norm is None else norm(y), inplace=not torch.is_grad_enabled())


class BackboneConv(ConvNorm):
    """The same with hard swish, under the backbone's names."""

    names = "_conv", "_batch_norm"
    activation = staticmethod(F.hardswish)


def means(x: torch.Tensor, short: Shortened | None = None) -> torch.Tensor:
    """(L, C, 1, 1) means of maps (L, C, h, w), or of what was ``crops.Shortened`` to them."""
    return x.mean(dim=(2, 3), keepdim=True) if short is None else short.mean(x)


class FrozenExcite(torch.autograd.Function):
    """A map times a gate for each of its channels, with the way that the gate depends on the map.

    The same as a mean, two convolutions of the mean, and a product, for constant weights; its backward writes the
    gradient of the map in two passes, where theirs take six.
    """

    @staticmethod
    def forward(x, inwards, outwards, rows, short):
        hidden = F.relu(inwards(means(x, short)))
        raw = outwards(hidden)
        return x[:, :, :rows] * F.hardsigmoid(raw), hidden, raw

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.inwards, ctx.outwards, ctx.rows, ctx.short = inputs
        ctx.save_for_backward(x, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient, *_):
        """The product's two gradients, that of the gate by way of the convolutions and the mean."""
        x, hidden, raw = ctx.saved_tensors
        of_gate = (gradient * x[:, :, : ctx.rows]).sum(dim=(2, 3), keepdim=True)
        of_raw = torch.ops.aten.hardsigmoid_backward(of_gate, raw)
        of_hidden = F.conv_transpose2d(of_raw, ctx.outwards.weight) * (hidden > 0)
        of_mean = F.conv_transpose2d(of_hidden, ctx.inwards.weight)
        share = 1 / (x.shape[2] * x.shape[3]) if ctx.short is None else ctx.short.share(x)
        back = torch.empty_like(x).copy_(of_mean * share)
        back[:, :, : ctx.rows].addcmul_(gradient, F.hardsigmoid(raw))
        return back, None, None, None, None


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate in [0, 1] computed from the channel means of the whole crop."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = Conv2d(channels, channels // 4, 1)
        self.conv2 = Conv2d(channels // 4, channels, 1)

    def forward(self, x: torch.Tensor, rows: int | None = None, short: Shortened | None = None) -> torch.Tensor:
        """Only the first ``rows`` of the output, if that is all that is needed; ``short``: of shortened crops."""
        if all(conv.frozen for conv in (self.conv1, self.conv2)):
            return FrozenExcite.apply(x, self.conv1, self.conv2, rows, short)[0]
        gate = F.hardsigmoid(self.conv2(F.relu(self.conv1(means(x, short)))))
        return x[:, :, :rows] * gate


class SeparableBlock(nn.Module):
    """A convolution within each channel, then one across channels."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: tuple[int, int], excite: bool):
        super().__init__()
        self._depthwise_conv = BackboneConv(inside, inside, kernel, stride, inside)
        if excite:
            self._se = SqueezeExcite(inside)
        self._pointwise_conv = BackboneConv(inside, outside, 1)

    def forward(self, x: torch.Tensor, seams: Seams | None = None, rows: int | None = None,
                short: Shortened | None = None) -> torch.Tensor:
        """All rows of the output; ``rows`` and ``short`` are for blocks that squeeze and excite."""
        if not hasattr(self, "_se") and self._depthwise_conv.frozen and self._pointwise_conv.frozen:
            return FrozenSeparable.apply(x, self._depthwise_conv._conv, self._pointwise_conv._conv, seams)
        x = self._depthwise_conv(x, seams)
        return self._pointwise_conv(self._se(x, rows, short) if hasattr(self, "_se") else x)


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
    """A transformer block with norms ahead of attention and feed-forward: (L, frames, width) -> the same."""

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
        self.conv1 = ConvNorm(channels, channels // 8, 3)
        self.conv2 = ConvNorm(channels // 8, width, 1)
        self.svtr_block = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.conv3 = ConvNorm(width, channels, 1)
        self.conv4 = ConvNorm(2 * channels, channels // 8, 3)
        self.conv1x1 = ConvNorm(channels // 8, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.conv2(self.conv1(x)).squeeze(2).transpose(1, 2)
        for block in self.svtr_block:
            tokens = block(tokens)
        wide = self.conv3(self.norm(tokens).transpose(1, 2).unsqueeze(2))
        return self.conv1x1(self.conv4(torch.cat([x, wide], dim=1))).squeeze(2).transpose(1, 2)


class RecognizerOutput(NamedTuple):
    """``features`` (L, W/8, 64): input of the last layer; ``logits`` (L, W/8, 6625), before the softmax."""

    features: torch.Tensor
    logits: torch.Tensor


class PPOCRv3Network(nn.Module):
    """Crops (L, 3, 48, W) in [-1, 1] -> features (L, W/8, 64) and logits (L, W/8, classes); all weights trainable.

    In training mode it is upstream's style recogniser: batch norms take the statistics of the crops at hand and
    update their running ones, and dropout of 0.1 is on in the neck.  In evaluation mode it equals ``folded()`` up to
    rounding.  A new one has random weights and is in training mode, as any module.

    Attributes:
        derived: cache of values computed from the weights, see ``reader_of``; emptied when the weights are moved,
            converted or loaded, and not copied. In-place changes of a weight do not empty it.
    """

    def __init__(self, classes: int = CLASSES):
        super().__init__()
        self.backbone = Backbone()
        self.neck = nn.ModuleDict({"encoder": Encoder()})
        self.head = nn.ModuleDict({"fc": nn.Linear(64, classes)})
        self.derived: dict[str, Any] = {}

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> PPOCRv3Network:
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
            return crops.new_zeros(0, crops.shape[3] // STRIDE, 64)
        return self.neck["encoder"](self.backbone(crops))

    def folded(self) -> PPOCRv3Network:
        """A copy of the present weights with batch norms folded in, in evaluation mode; same device and dtype.

        Subnormal weights (below 1.2e-38 in float32) are zeros in it.  PP-OCRv3 has 628,000 of them, where weight decay
        ate what training did not hold: they change no output by a bit, and a processor takes many times as long for
        a product with one.
        """
        network = copy.deepcopy(self).eval()
        for module in network.modules():
            if isinstance(module, ConvNorm):
                module.fold()
        with torch.no_grad():
            for weight in network.parameters():
                weight.masked_fill_(weight.abs() < torch.finfo(weight.dtype).tiny, 0)
        return network

    def stages(self) -> dict[str, nn.Module]:
        """The network as a plain sequence of modules by name.

        ``stem`` (L, 16, 24, W/2), ``block1`` ... ``block13`` (L, 512, 3, W/4), ``pool`` (L, 512, 1, W/8), ``neck``
        (L, W/8, 64): the features of the OCR loss, ``head`` (L, W/8, classes): the logits.
        """
        blocks = {f"block{i}": block for i, block in enumerate(self.backbone.block_list, start=1)}
        return {"stem": self.backbone.conv1, **blocks, "pool": nn.AvgPool2d(2), "neck": self.neck["encoder"],
                "head": self.head["fc"]}

    def _apply(self, *arguments, **options):
        self.derived.clear()
        return super()._apply(*arguments, **options)

    def _load_from_state_dict(self, *arguments):
        self.derived.clear()
        super()._load_from_state_dict(*arguments)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "derived": {}}


def check_crops(crops: torch.Tensor) -> None:
    """Raise ValueError unless ``crops`` is a floating-point tensor (L, 3, 48, W) with W a multiple of 8."""
    if not isinstance(crops, torch.Tensor):
        raise ValueError(f"crops are a tensor (L, 3, {HEIGHT}, W), got {type(crops).__name__}")
    if not crops.is_floating_point():
        raise ValueError(f"crops are floating point in [-1, 1], got {crops.dtype}: use crops / 127.5 - 1")
    shape = tuple(crops.shape)
    if crops.ndim != 4 or shape[1] != 3:
        raise ValueError(f"crops have shape (L, 3, {HEIGHT}, W), got {shape}")
    if shape[2] != HEIGHT:
        raise ValueError(f"crops must be {HEIGHT} pixels high, got {shape[2]} (shape {shape}): "
                         f"crop_lines(..., height={HEIGHT}) makes them so")
    if shape[3] < STRIDE or shape[3] % STRIDE:
        raise ValueError(f"the width of crops must be a multiple of {STRIDE}, got {shape[3]} (shape {shape}): pad on "
                         "the right with 0")
