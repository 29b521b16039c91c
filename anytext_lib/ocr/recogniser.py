"""PP-OCRv3 as a differentiable reader with frozen weights, the eye of AnyText2's losses, and its characters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from anytext_lib.data.texts import visible_text
from anytext_lib.ocr.crops import Shortened, frames_of_padded
from anytext_lib.ocr.network import PPOCRv3Network, RecognizerOutput, check_crops, linear
from anytext_lib.ocr.onnx_weights import characters_of, load_onnx, recognizer_path

LOCAL = 12  # stages (stem to block11) that see a small surrounding only; squeeze and excite sees the whole crop
BLANK = 0


class Reading(NamedTuple):
    """Text and confidence read from one crop.

    ``confidence`` is in [0, 1]: the mean probability of the characters read, 0 if nothing was read.
    """

    text: str
    confidence: float


@dataclass(frozen=True)
class Charset:
    """Class 0 is the blank of CTC, 1 to N the ``characters`` in order, N + 1 the space.

    PP-OCR has N = 6623, hence 6625 classes.  A character that it does not know becomes the last class, the space:
    this is what AnyText2's training targets do (``cldm/recognizer.py``, ``get_text_ids``), so a text with unknown
    characters can never be read back exactly; ``unknown`` tells.  Texts are taken in their one normal form
    (``normal_text``): composed and decomposed letters (NFC, NFD) give the same classes, invisible characters
    (zero-width spaces, soft hyphens, joiners) none, and every other kind of space is the space.
    """

    characters: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        if not self.characters:
            raise ValueError("a character set needs at least one character")
        object.__setattr__(self, "characters", tuple(self.characters))
        index = {character: i for i, character in enumerate(self.characters, start=1)}
        object.__setattr__(self, "_index", {**index, " ": self.space})

    @classmethod
    def from_metadata(cls, lines: str) -> Charset:
        """From the ``character`` entry in the metadata of PP-OCR's ONNX files: one character a line."""
        return cls(tuple(lines.split("\n")))

    def __len__(self) -> int:
        """Number of classes, with blank and space."""
        return len(self.characters) + 2

    @property
    def space(self) -> int:
        """Class of the space and of every unknown character: the last one."""
        return len(self.characters) + 1

    def encode(self, text: str) -> list[int]:
        """Class of each character of ``text`` in its normal form; unknown characters become the last class."""
        return self.classes(visible_text(text))

    def classes(self, text: str) -> list[int]:
        """Class of each character of ``text`` as it stands: what upstream's NED compares."""
        return [self._index.get(character, self.space) for character in text]

    def unknown(self, text: str) -> list[str]:
        """The characters of ``text`` in its normal form that have no class of their own, each once, in order."""
        return list(dict.fromkeys(character for character in visible_text(text) if character not in self._index))

    def known(self, text: str) -> str:
        """``text`` in its normal form without the characters that have no class of their own."""
        return "".join(character for character in visible_text(text) if character in self._index)

    def symbol(self, index: int) -> str:
        """The character of a class; '' for the blank."""
        if not 0 <= index < len(self):
            raise IndexError(f"class {index} is not one of the {len(self)} classes 0..{len(self) - 1}")
        if index == BLANK:
            return ""
        return " " if index == self.space else self.characters[index - 1]

    def decode(self, ids: Iterable[int]) -> str:
        """Greedy CTC decoding of one class per frame: merge repeats, then drop blanks."""
        ids = np.asarray([int(i) for i in ids], dtype=np.int64)
        return "".join(self.symbol(int(i)) for i in ids[kept_frames(ids)])

    def read_probabilities(self, probabilities: np.ndarray) -> list[Reading]:
        """Greedy readings of a batch: (L, frames, classes) probabilities -> L readings."""
        best, peak = probabilities.argmax(axis=-1), probabilities.max(axis=-1)
        return [self._reading(ids, p) for ids, p in zip(best, peak, strict=True)]

    def _reading(self, ids: np.ndarray, peak: np.ndarray) -> Reading:
        kept = kept_frames(ids)
        return Reading(self.decode(ids), float(peak[kept].mean()) if kept.any() else 0.0)


def kept_frames(ids: np.ndarray) -> np.ndarray:
    """Which frames (T,) bool carry a character: not blank, and not a repeat of the frame before."""
    ids = np.asarray(ids)
    return (ids != BLANK) & (np.append(-1, ids[:-1])[: len(ids)] != ids)


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
        self.network, self.charset = nn.Sequential(OrderedDict(network.folded().stages())), charset
        if self.network.head.out_features != len(charset):
            raise ValueError(f"the network has {self.network.head.out_features} classes, the charset {len(charset)}")
        self._blanks: dict[tuple, list[torch.Tensor]] = {}
        self.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> PPOCRv3Recognizer:
        """The real weights, without a download.

        Args:
            path: an ONNX file of PP-OCRv3's recogniser; None takes the one in the package rapidocr-onnxruntime.

        Raises:
            WeightsError: no such file, a damaged one, or one that holds another network.
        """
        charset = pretrained_charset(path)  # first: its error says more about a file that is no recogniser
        return cls(PPOCRv3Network.from_pretrained(path), charset)

    def train(self, mode: bool = True) -> PPOCRv3Recognizer:
        """Evaluation mode, always: it is frozen."""
        return super().train(False)

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
            return RecognizerOutput(features, linear(features, self.network.head.weight, self.network.head.bias))

    def features(self, crops: torch.Tensor, widths: Sequence[int] | None = None) -> torch.Tensor:
        """Only the features (L, W/8, 64): enough for the OCR loss, and cheaper where no logits are needed."""
        crops = self._accept(crops)
        if widths is not None and (len(widths) != len(crops) or not all(0 < w <= crops.shape[3] for w in widths)):
            raise ValueError(f"widths are {len(crops)} numbers of pixels in 1..{crops.shape[3]}, got {list(widths)}")
        with torch.autocast(crops.device.type, enabled=False):
            if widths is None or len(crops) == 0:
                return self.network.neck(self._global(self._local(crops)))
            return self.network.neck(frames_of_padded(self._local_stages(), self._global, crops, widths,
                                                      self._blank(crops)))

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

    def _local_stages(self) -> list[nn.Module]:
        return list(self.network)[:LOCAL]

    def _local(self, crops: torch.Tensor) -> torch.Tensor:
        for stage in self._local_stages():
            crops = stage(crops)
        return crops

    def _global(self, maps: torch.Tensor, short: Shortened | None = None) -> torch.Tensor:
        """Block12 to pool; block13 leaves out its last row, which the pooling of three rows to one never reads."""
        network = self.network
        return network.pool(network.block13(network.block12(maps, short=short), rows=2, short=short))

    @torch.no_grad()
    def _blank(self, crops: torch.Tensor) -> list[torch.Tensor]:
        """Output of each local stage for a crop of zeros like ``crops``; kept for the next call."""
        key = (crops.shape[3], crops.dtype, crops.device)
        if key not in self._blanks:
            maps = [torch.zeros_like(crops[:1])]
            for stage in self._local_stages():
                maps.append(stage(maps[-1]))
            self._blanks[key] = maps[1:]
        return self._blanks[key]

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


def pretrained_charset(path: str | Path | None = None) -> Charset:
    """Characters of PP-OCRv3's recogniser, from the metadata of its ONNX file (None: the package's)."""
    path = recognizer_path() if path is None else Path(path)
    return Charset.from_metadata(characters_of(load_onnx(path), path))


def reader_of(network: PPOCRv3Network) -> PPOCRv3Recognizer:
    """Fold ``network`` into a reader, in float32 (half precision spoils the features of short words), on its device.

    The reader is kept with the network until its weights are moved, converted or loaded.
    """
    if "reader" not in network.derived:
        with torch.no_grad():
            network.derived["reader"] = PPOCRv3Recognizer(network, pretrained_charset()).float()
    return network.derived["reader"]
