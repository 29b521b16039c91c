r"""From a probability map to boxes: threshold, outline, rectangle, score, unclip.

The network shows kernels, which are thinner than the texts; each is grown by

.. math:: d = A' \cdot ratio / L'

with area and perimeter of the kernel and a ratio of 1.5 (Liao et al.) or 1.6 (PP-OCRv3).  That is a rule of thumb;
``unclip_ratio=None`` undoes the shrinking of a rectangle exactly (``unshrink_distance``).  On label maps the exact one
fits better (mean IoU 0.91 against 0.88), on P > 0.3 of a trained network the rule (0.80 against 0.73): there the
kernels are fatter than their labels, which the smaller offset makes up for.
Source: Liao et al. 2020, section 3.5; PaddleOCR ``ppocr/postprocess/db_postprocess.py``.
"""

from __future__ import annotations

import numpy as np
import torch

from anytext_lib.db.polygons import SHRINK_RATIO, offset_polygon, unshrink_distance
from anytext_lib.ocr.detector import Detection, mean_inside, smallest_box

MIN_SIDE = 3.0  # pixels: smaller kernels are noise


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
    """
    import cv2

    array = torch.as_tensor(probability).detach().float().cpu().numpy()
    if array.ndim != 2:
        raise ValueError(f"find_boxes takes one map (H, W), got {array.shape}: call it for each image")
    kernels = (array > threshold).astype(np.uint8)
    if dilate:
        kernels = cv2.dilate(kernels, np.ones((2, 2), np.uint8))
    found = []
    for outline in cv2.findContours(kernels, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0]:
        rectangle, side = smallest_box(outline)
        if side < MIN_SIDE or (score := mean_inside(array, rectangle)) < min_score:
            continue
        grown, side = smallest_box(unclip(rectangle, unclip_ratio, shrink_ratio))
        if side >= MIN_SIDE + 2:
            corners = np.clip(grown, 0, np.float32(array.shape[::-1]))
            found.append(Detection(torch.from_numpy(corners.astype(np.float32)), score))
    return found


def unclip(rectangle: np.ndarray, ratio: float | None = 1.5, shrink_ratio: float = SHRINK_RATIO) -> np.ndarray:
    """A rectangle (4, 2) grown to the size of its text: polygon (P, 2) int32 with rounded corners."""
    width = float(np.linalg.norm(rectangle[1] - rectangle[0]))
    height = float(np.linalg.norm(rectangle[3] - rectangle[0]))
    distance = (unshrink_distance(width, height, shrink_ratio) if ratio is None
                else width * height * ratio / (2 * (width + height)))
    return offset_polygon(rectangle.round(), distance)[0]
