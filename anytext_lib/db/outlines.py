r"""Texts in a picture as polygons: the outlines of the kernels, grown, for texts that are bent.

A kernel's outline with area A and perimeter L is grown by d = A ratio / L, the usual rule, which gives long texts too
little, or by what undoes the shrinking of its label: the grown shape, with rounded corners, has area A + L d + pi d^2
and perimeter L + 2 pi d, and was shrunk by d = s (A + L d + pi d^2) / (L + 2 pi d), s = 1 - r^2, so that

.. math:: \pi (2 - s) d^2 + (1 - s) L d - s A = 0

Source: PaddleOCR ``ppocr/postprocess/db_postprocess.py`` (``polygons_from_bitmap``).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from anytext_lib.db.dbnet import MIN_SIDE, kernel_outlines
from anytext_lib.db.labels import SHRINK_RATIO, offset_polygon
from anytext_lib.ocr.detector import mean_inside, smallest_box

PRECISION = 0.002  # of an outline's length: how closely its polygon follows it


class TextOutline(NamedTuple):
    """``polygon`` (P, 2) float32, pixels, P >= 3, clockwise on the screen or not; ``score`` mean probability inside the
    kernel, in [0, 1]."""

    polygon: torch.Tensor
    score: float


def find_polygons(probability: torch.Tensor | np.ndarray, *, threshold: float = 0.3, min_score: float = 0.5,
                  unclip_ratio: float | None = 1.5, shrink_ratio: float = SHRINK_RATIO,
                  dilate: bool = False) -> list[TextOutline]:
    """Outlines of the texts of one probability map (H, W) in [0, 1], in no special order.

    Args:
        threshold, min_score, dilate: see ``dbnet.find_boxes``.
        unclip_ratio: of the rule; None undoes the shrinking by ``shrink_ratio``. Outlines that fall apart when they are
            grown are left out, as are those of fewer than four corners and those thinner than 5 pixels.

    Raises:
        ValueError: it is not one map.
    """
    import cv2
    from shapely.geometry import Polygon

    array, outlines = kernel_outlines(probability, threshold, dilate)
    found = []
    for contour in outlines:
        corners = cv2.approxPolyDP(contour, PRECISION * cv2.arcLength(contour, True), True)[:, 0]
        if len(corners) < 4 or (score := mean_inside(array, corners)) < min_score:
            continue
        shape = Polygon(corners)
        grown = offset_polygon(corners, unshrink_outline(shape.area, shape.length, shrink_ratio)
                               if unclip_ratio is None else shape.area * unclip_ratio / shape.length)
        if len(grown) != 1 or smallest_box(grown[0])[1] < MIN_SIDE + 2:
            continue
        inside = np.clip(grown[0], 0, np.array(array.shape[::-1]))
        found.append(TextOutline(torch.from_numpy(inside.astype(np.float32)), score))
    return found


def unshrink_outline(area: float, perimeter: float, ratio: float = SHRINK_RATIO) -> float:
    """How far a kernel must grow, in pixels, to be the shape that it was shrunk from; see the module."""
    s = 1 - ratio**2
    a, b = math.pi * (2 - s), (1 - s) * perimeter
    return (math.sqrt(b * b + 4 * a * s * area) - b) / (2 * a)
