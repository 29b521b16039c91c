"""PP-OCRv3 as a differentiable reader with frozen weights: the eye of AnyText2's losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from anytext_lib.ocr.charset import Charset, Reading
from anytext_lib.ocr.network import HEIGHT, STRIDE, PPOCRv3Network
from anytext_lib.ocr.weights import WeightsError, load_layers, load_onnx, read_layers, recognizer_path


class RecognizerOutput(NamedTuple):
    """``features`` (L, W/8, 64): input of the last layer; ``logits`` (L, W/8, 6625), before the softmax."""

    features: torch.Tensor
    logits: torch.Tensor


class PPOCRv3Recognizer(nn.Module):
    """Reads crops of lines; gradients flow to the crops and never to the weights.

    Crops are (L, 3, 48, W) in [-1, 1], padded on the right with 0, W a multiple of 8: W/8 frames, 40 for the usual
    320.  The channel order of the losses is RGB.  A batch of one or of none is fine.  Move it as any module
    (``.to(device)``, ``.double()``).  The weights lie in ``channels_last``, and so do all intermediate maps, whatever
    the layout of the crops: faster on the CPU.

    Under autocast, crops of any floating dtype are welcome, but the network computes in the dtype of its own weights
    (float32) and returns that.  It has to: the padding is flat, and the frames that look at it sit on a knife edge,
    so that bfloat16 changes the features of short words by 60% on average and turns the gradient of the OCR loss to
    a cosine of 0.5 (the readings stay the same).  Where only readings matter, ``.to(torch.bfloat16)`` is there.
    """

    skips_padding = True  # can be told the widths of its crops, see ``forward``

    def __init__(self, network: PPOCRv3Network, charset: Charset):
        super().__init__()
        if network.head.out_features != len(charset):
            raise ValueError(f"the network has {network.head.out_features} classes, the charset {len(charset)}")
        self.network, self.charset = network, charset
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> PPOCRv3Recognizer:
        """The real weights, without a download.

        Args:
            path: an ONNX file of PP-OCRv3's recogniser; None takes the one in the package rapidocr-onnxruntime.

        Raises:
            WeightsError: no such file, a damaged one, or one that holds another network.
        """
        path = recognizer_path() if path is None else Path(path)
        model = load_onnx(path)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        if "character" not in metadata:
            raise WeightsError(f"{path} has no entry 'character' in its metadata (found: {sorted(metadata)}): "
                               "it is not a recogniser of PP-OCR, or its end is cut off")
        charset = Charset.from_metadata(metadata["character"])
        network = PPOCRv3Network(len(charset))
        load_layers(network.layers(), read_layers(model), str(path))
        return cls(network, charset)

    def forward(self, crops: torch.Tensor, widths: Sequence[int] | None = None) -> RecognizerOutput:
        """Features and logits.

        Args:
            crops: (L, 3, 48, W) in [-1, 1].
            widths: L pixels, where it is known that crop i is zero from column ``widths[i]`` on and nobody asks for
                a gradient there (``crop_widths`` tells): gives the same output in less time.

        Raises:
            ValueError: another shape, dtype or device.
        """
        features = self.features(crops, widths)
        with torch.autocast(crops.device.type, enabled=False):
            return RecognizerOutput(features, self.network.head(features))

    def features(self, crops: torch.Tensor, widths: Sequence[int] | None = None) -> torch.Tensor:
        """Only the features (L, W/8, 64): enough for the OCR loss, and cheaper where no logits are needed."""
        crops = self._accept(crops)
        if widths is not None and (len(widths) != len(crops) or not all(0 < w <= crops.shape[3] for w in widths)):
            raise ValueError(f"widths are {len(crops)} numbers of pixels in 1..{crops.shape[3]}, got {list(widths)}")
        with torch.autocast(crops.device.type, enabled=False):
            return self.network.features(crops, widths)

    def feature_maps(self, crops: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every stage's output by name, in order; all differentiable in ``crops``.

        ``stem`` (L, 16, 24, W/2), ``block1`` .. ``block13`` (L, C, h, w), ``pool`` (L, 512, 1, W/8), ``neck``
        (L, W/8, 64) which are the features, ``head`` (L, W/8, 6625) which are the logits.
        """
        maps, x = {}, self._accept(crops)
        with torch.autocast(x.device.type, enabled=False):
            for name, stage in self.network.named_children():
                maps[name] = x = stage(x)
        return maps

    @torch.no_grad()
    def read_scored(self, crops: torch.Tensor) -> list[Reading]:
        """Text and confidence of each crop, by greedy decoding."""
        probabilities = self(crops).logits.softmax(dim=-1)
        return self.charset.read_probabilities(probabilities.float().cpu().numpy())

    def read(self, crops: torch.Tensor) -> list[str]:
        """Text of each crop, by greedy decoding."""
        return [reading.text for reading in self.read_scored(crops)]

    def _accept(self, crops: torch.Tensor) -> torch.Tensor:
        """Checked crops; under autocast also converted to the dtype of the weights."""
        check_crops(crops)
        weight = self.network.head.weight
        if crops.device != weight.device:
            raise ValueError(f"the crops are on {crops.device}, the recogniser on {weight.device}: "
                             "move one of them with .to(device)")
        if crops.dtype != weight.dtype and not torch.is_autocast_enabled(crops.device.type):
            raise ValueError(f"the crops are {crops.dtype}, the recogniser is {weight.dtype}: convert one of them "
                             "with .to(dtype), or use torch.autocast")
        return crops.to(weight.dtype)


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
