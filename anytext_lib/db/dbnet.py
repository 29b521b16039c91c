r"""A small detector: network, boxes from its probability map, and files.

Strided convolutions, a feature pyramid and DB's two heads, about 0.3 M parameters.  The head is DB's (Liao et al. 2020,
figure 3): pyramid features of a quarter of the size, concatenated; a convolution and two transposed convolutions for P,
and the same for T; B from both.  The backbone is small enough for a CPU.

The network shows kernels, which are thinner than the texts: each is thresholded, outlined by a rectangle, and grown by

.. math:: d = A' \cdot ratio / L'

with area and perimeter of the kernel and a ratio of 1.5 (Liao et al.) or 1.6 (PP-OCRv3).  That is a rule of thumb;
``unclip_ratio=None`` undoes the shrinking of a rectangle exactly (``unshrink_distance``).  On label maps the exact one
fits better (mean IoU 0.91 against 0.88), on P > 0.3 of a trained network the rule (0.80 against 0.73): there the
kernels are fatter than their labels, which the smaller offset makes up for.
Source: Liao et al. 2020, section 3.5; PaddleOCR ``ppocr/postprocess/db_postprocess.py``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.db.labels import SHRINK_RATIO, offset_polygon, unshrink_distance
from anytext_lib.db.loss import STEEPNESS, binarize
from anytext_lib.errors import AnyTextError, OptionError
from anytext_lib.files import atomic_path
from anytext_lib.ocr.detector import Detection, as_uint8, mean_inside, reading_order, smallest_box

MULTIPLE = 32  # the deepest features are smaller than the image by this
MIN_SIDE = 3.0  # pixels: smaller kernels are noise
MIN_SCORE = 0.5


class DetectorFileError(AnyTextError, ValueError):
    """A file holds no small DB detector, or a damaged one; the message names it and says what to do."""


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


# boxes

def find_boxes(probability: torch.Tensor | np.ndarray, *, threshold: float = 0.3, min_score: float = 0.5,
               unclip_ratio: float | None = 1.5, shrink_ratio: float = SHRINK_RATIO,
               dilate: bool = False) -> list[Detection]:
    """Boxes of one probability map.

    Args:
        probability: (H, W) in [0, 1].
        threshold: P above it belongs to a kernel.
        min_score: boxes with a lower mean P inside the kernel's rectangle are dropped.
        unclip_ratio: 1.5 for the original, 1.6 for PP-OCRv3; None undoes the shrinking by ``shrink_ratio``.
        dilate: widen the kernels by a pixel first, as PP-OCRv3 as packaged in RapidOCR does.

    Returns:
        boxes with their scores, in no special order; corners in pixels of the map, inside it, tl, tr, br, bl.

    Raises:
        ValueError: it is not one map.
    """
    array, outlines = kernel_outlines(probability, threshold, dilate)
    found = []
    for outline in outlines:
        rectangle, side = smallest_box(outline)
        if side < MIN_SIDE or (score := mean_inside(array, rectangle)) < min_score:
            continue
        grown, side = smallest_box(unclip(rectangle, unclip_ratio, shrink_ratio))
        if side >= MIN_SIDE + 2:
            corners = np.clip(grown, 0, np.float32(array.shape[::-1]))
            found.append(Detection(torch.from_numpy(corners.astype(np.float32)), score))
    return found


def kernel_outlines(probability: torch.Tensor | np.ndarray, threshold: float,
                    dilate: bool) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """A probability map as (H, W) float32, and the outlines (P, 1, 2) int32 of its kernels; see ``find_boxes``."""
    import cv2

    array = torch.as_tensor(probability).detach().float().cpu().numpy()
    if array.ndim != 2:
        raise ValueError(f"kernels are found in one map (H, W), got {array.shape}: give each image's own")
    kernels = (array > threshold).astype(np.uint8)
    if dilate:
        kernels = cv2.dilate(kernels, np.ones((2, 2), np.uint8))
    return array, cv2.findContours(kernels, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0]


def unclip(rectangle: np.ndarray, ratio: float | None = 1.5, shrink_ratio: float = SHRINK_RATIO) -> np.ndarray:
    """A rectangle (4, 2) grown to the size of its text: polygon (P, 2) int32 with rounded corners."""
    width = float(np.linalg.norm(rectangle[1] - rectangle[0]))
    height = float(np.linalg.norm(rectangle[3] - rectangle[0]))
    distance = (unshrink_distance(width, height, shrink_ratio) if ratio is None
                else width * height * ratio / (2 * (width + height)))
    return offset_polygon(rectangle.round(), distance)[0]


# detector

class DBDetector:
    """Finds lines of text, with the interface of ``anytext_lib.ocr.TextDetector``.

    Args:
        network: trained; it is put into eval mode.
        unclip_ratio: the original's 1.5 goes with its threshold of 0.3, where the kernels are fatter than their
            labels; None undoes the shrinking exactly, of kernels as they are labelled.
    """

    def __init__(self, network: DBNet, threshold: float = 0.3, min_score: float = MIN_SCORE,
                 unclip_ratio: float | None = 1.5):
        self.network = network.eval()
        self.threshold, self.min_score, self.unclip_ratio = threshold, min_score, unclip_ratio

    def probability(self, images: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Probability of a kernel at every pixel, (B, 1, H, W) float32 in [0, 1]; images as in ``detect``."""
        pixels = torch.from_numpy(np.stack(as_uint8(images))).permute(0, 3, 1, 2).float() / 127.5 - 1
        weight = next(self.network.parameters())
        return self.network.probability(pixels.to(weight)).cpu()

    def detect(self, image: np.ndarray | torch.Tensor) -> list[Detection]:
        """The lines of one image, (H, W, 3) uint8 RGB or (3, H, W) in [-1, 1], in reading order."""
        maps = self.probability(image)
        if len(maps) != 1:
            raise ValueError(f"detect takes one image at a time, got a batch of {len(maps)}: call it for each")
        found = find_boxes(maps[0, 0], threshold=self.threshold, min_score=self.min_score,
                           unclip_ratio=self.unclip_ratio)
        return [found[i] for i in reading_order([detection.quad for detection in found])]


def save_network(network: DBNet, path: str | Path) -> None:
    """Weights and sizes in one safetensors file."""
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, temporary,
                  metadata={"dbnet": json.dumps(network.options)})


def load_network(path: str | Path) -> DBNet:
    """A network that ``save_network`` wrote, in eval mode.

    Raises:
        DetectorFileError: no such file, another file, a damaged one, or weights that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    remedy = "write one by `anytext db train`"
    try:
        with safe_open(path, "pt") as file:
            options = (file.metadata() or {}).get("dbnet")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise DetectorFileError(f"there is no file {path}: {remedy}") from error
    except (SafetensorError, OSError) as error:
        raise DetectorFileError(f"{path} is no safetensors file, or a damaged one ({error}): {remedy}") from error
    if options is None:
        raise DetectorFileError(f"{path} holds no small DB detector: {remedy}")
    if odd := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
        raise DetectorFileError(f"{path}: the tensor {odd[0]} holds NaN or infinite numbers ({len(odd)} such tensors): "
                                f"training diverged, or the file is damaged; {remedy}")
    try:
        network = DBNet(**json.loads(options))
        network.load_state_dict(weights)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DetectorFileError(f"{path} is of another version of the small DB detector: {remedy}") from error
    return network.eval()
