"""Where text stands in an image: the detector of PP-OCRv3 (DB, differentiable binarisation), run by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from anytext_lib.ocr.onnx_weights import WeightsError, detector_path, open_session

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])  # in the network's channel order, BGR
LONGEST = 2048  # pixels: enlarging stops when the longer side reaches this
MULTIPLE = 32  # the network needs sides that are multiples of this
THRESHOLD = 0.3  # of the probability: the kernel of a text
MIN_SCORE = 0.5  # mean probability inside a box
UNCLIP = 1.6  # the kernel is thinner than the text: grow it by area * UNCLIP / perimeter
MIN_SIDE = 3  # pixels: smaller boxes are noise


class Detection(NamedTuple):
    """``quad`` (4, 2) float32 in pixels, order tl, tr, br, bl; ``score`` mean probability inside it, in [0, 1]."""

    quad: torch.Tensor
    score: float


class TextDetector:
    """Finds lines of text.  Images are (H, W, 3) uint8 RGB, or tensors (3, H, W) or (B, 3, H, W) in [-1, 1].

    ``min_side``: images whose shorter side is smaller are enlarged to it (PP-OCR's default), in pixels.

    Raises:
        WeightsError: the file is missing, damaged or of another network, or its weights are not finite.
    """

    def __init__(self, path: str | Path, threads: int = 1, min_side: int = 736):
        self._session, self.min_side = open_session(path, threads), min_side
        shapes = [len(end.shape) for end in (*self._session.get_inputs(), *self._session.get_outputs())]
        if shapes != [4, 4]:
            raise WeightsError(f"{path} is no detector of PP-OCR, from pictures (B, 3, H, W) to maps (B, 1, H, W): "
                               "take the file of the package rapidocr-onnxruntime")

    @classmethod
    def from_pretrained(cls, threads: int = 1, min_side: int = 736) -> TextDetector:
        """The real weights, in the package rapidocr-onnxruntime; WeightsError if that is not installed."""
        return cls(detector_path(), threads, min_side)

    def probability(self, images: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Probability of text at every pixel: (B, 1, H, W) float32 in [0, 1], on the CPU."""
        import cv2

        maps = [cv2.resize(self._run(image), image.shape[1::-1]) for image in as_uint8(images)]
        return torch.from_numpy(np.stack(maps))[:, None]

    def detect(self, image: np.ndarray | torch.Tensor) -> list[Detection]:
        """The lines of one image in reading order: rows from top to bottom, each from left to right."""
        pictures = as_uint8(image)
        if len(pictures) != 1:
            raise ValueError(f"detect takes one image at a time, got a batch of {len(pictures)}: call it for each")
        found = boxes(self._run(pictures[0]), pictures[0].shape[:2])
        return [found[i] for i in reading_order([d.quad for d in found])]

    def _run(self, image: np.ndarray) -> np.ndarray:
        import cv2

        height, width = image.shape[:2]
        scale = max(1.0, min(self.min_side / min(height, width), LONGEST / max(height, width)))
        size = [max(MULTIPLE, round(side * scale / MULTIPLE) * MULTIPLE) for side in (width, height)]
        bgr = cv2.resize(image, size)[..., ::-1].astype(np.float32) / 255
        network_input = np.ascontiguousarray(((bgr - MEAN) / STD).transpose(2, 0, 1)[None])
        (probability,) = self._session.run(None, {self._session.get_inputs()[0].name: network_input})
        return probability[0, 0]


def as_uint8(images: np.ndarray | torch.Tensor) -> list[np.ndarray]:
    """Images as a list of (H, W, 3) uint8 RGB arrays; ValueError for anything that is not an image."""
    if isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim == 3 and images.shape[2] == 3:
        if min(images.shape[:2]) > 0:
            return [images]
    elif isinstance(images, torch.Tensor) and images.is_floating_point() and images.ndim in (3, 4):
        batch = images[None] if images.ndim == 3 else images
        if batch.shape[1] == 3 and 0 not in batch.shape:
            pixels = ((batch.detach().float().clamp(-1, 1) + 1) * 127.5).round().byte()
            return list(pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy())
    raise ValueError("an image is a uint8 array (H, W, 3) in RGB, or a floating-point tensor (3, H, W) or "
                     f"(B, 3, H, W) in [-1, 1]; got {type(images).__name__} {getattr(images, 'dtype', '')} "
                     f"{tuple(getattr(images, 'shape', ()))}")


def boxes(probability: np.ndarray, size: tuple[int, int]) -> list[Detection]:
    """Minimum-area boxes of a probability map (h, w), scaled to an image of ``size`` (H, W), in no special order."""
    import cv2

    kernel = cv2.dilate((probability > THRESHOLD).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(kernel, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.float32([size[1] / probability.shape[1], size[0] / probability.shape[0]])
    found = []
    for contour in contours:
        box, side = smallest_box(contour)
        if side < MIN_SIDE or (score := mean_inside(probability, box)) < MIN_SCORE:
            continue
        grown, side = smallest_box(_unclip(box))
        if side < MIN_SIDE + 2:
            continue
        quad = np.clip(grown * scale, 0, np.float32(size[::-1]))
        found.append(Detection(torch.from_numpy(quad.astype(np.float32)), score))
    return found


def reading_order(quads: list[torch.Tensor]) -> list[int]:
    """Order of boxes (4, 2): by rows, a box joins the row above if its centre is within half of its height."""
    centres = [quad.mean(dim=0).tolist() for quad in quads]
    heights = [(quad[:, 1].max() - quad[:, 1].min()).item() for quad in quads]
    rows: list[list[int]] = []
    for i in sorted(range(len(quads)), key=lambda i: centres[i][1]):
        last = rows[-1][-1] if rows else None
        if last is not None and centres[i][1] - centres[last][1] < 0.5 * min(heights[i], heights[last]):
            rows[-1].append(i)
        else:
            rows.append([i])
    return [i for row in rows for i in sorted(row, key=lambda i: centres[i][0])]


def smallest_box(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Minimum-area rectangle around points: corners (4, 2) as tl, tr, br, bl, and its shorter side."""
    import cv2

    rectangle = cv2.minAreaRect(points)
    by_x = sorted(cv2.boxPoints(rectangle).tolist())
    (tl, bl), (tr, br) = (sorted(pair, key=lambda point: point[1]) for pair in (by_x[:2], by_x[2:]))
    return np.float32([tl, tr, br, bl]), min(rectangle[1])


def mean_inside(probability: np.ndarray, box: np.ndarray) -> float:
    import cv2

    inside = np.zeros(probability.shape, np.uint8)
    cv2.fillPoly(inside, [box.astype(np.int32)], 1)
    return float(cv2.mean(probability, inside)[0])


def _unclip(box: np.ndarray) -> np.ndarray:
    import pyclipper
    from shapely.geometry import Polygon

    polygon = Polygon(box)
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(box.round().astype(int).tolist(), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    (grown, *_) = offset.Execute(polygon.area * UNCLIP / polygon.length)
    return np.int32(grown)
