"""Regions of lines: boxes, quads, polygons and painted masks become polygons, in reading order.

Source: AnyText2 ``ms_wrapper.py`` (``separate_pos_imgs``, ``find_polygon``).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from anytext_lib.generation.input_images import is_mask, read_mask
from anytext_lib.generation.request import RequestError, RequestWarning

SMALLEST_AREA = 20  # pixels: a smaller blot of paint is no region
OUTLINE = 0.01  # of a contour's length: how closely a polygon follows it


def region_polygon(region: Any, size: tuple[int, int], who: str) -> np.ndarray:
    """A region as a polygon (P, 2) float64 in pixels.

    Args:
        region: see ``request.Line``. ``size``: (H, W) of the picture. ``who``: the line, for the message of an error.

    Raises:
        RequestError: too few corners, crossing sides, no area, an empty mask, or a mask of another size.
    """
    if not is_mask(region):
        return _corners(region, who)
    mask = read_mask(region, f"{who}: its mask")
    _check_size(mask, size, f"the mask of {who}")
    if not mask.any():
        raise RequestError(f"{who}: its mask is empty: paint the region white on black")
    areas = len(_areas(mask)[0])
    if areas > 1:
        warnings.warn(f"{who}: its mask has {areas} areas, the largest is taken: for several lines give one mask "
                      "without a line (--mask, Request.mask)", RequestWarning, stacklevel=2)
    return mask_polygon(mask)


def painted_regions(mask: Any, size: tuple[int, int], order: str = "rows", what: str = "the mask"
                    ) -> list[np.ndarray]:
    """The connected areas of one painted mask as polygons, in reading order; blots under 20 pixels are left out.

    Args:
        mask: see ``input_images.read_mask``. ``size``: (H, W) of the picture. ``order``: see ``reading_order``.
        what: the mask, for the message of an error.
    """
    painted = read_mask(mask, what)
    _check_size(painted, size, what)
    kept, labels, boxes = _areas(painted)
    return [mask_polygon(labels == kept[i]) for i in reading_order(boxes, order)]


def reading_order(boxes: np.ndarray, order: str = "rows") -> list[int]:
    """Indices of boxes (n, 4) of (x, y, width, height) in the order in which they are read.

    A box belongs to the row whose first box reaches over its centre; rows go from top to bottom and are read from the
    left. "columns" exchanges the two directions.  Upstream sorts centres into bins of 102 pixels, whose borders tear
    rows apart.
    """
    along, across = (0, 1) if order == "rows" else (1, 0)
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    rows: list[list[int]] = []
    for i in np.argsort(centres[:, across], kind="stable").tolist():
        first = rows[-1][0] if rows else None
        if first is not None and centres[i, across] < boxes[first, across] + boxes[first, 2 + across]:
            rows[-1].append(i)
        else:
            rows.append([i])
    return [i for row in rows for i in sorted(row, key=lambda i: centres[i, along])]


def mask_polygon(mask: np.ndarray) -> np.ndarray:
    """Outline of the largest area of a mask (H, W) bool: (P, 2) float64; its box where it is a mere stroke."""
    import cv2

    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contour = max(contours, key=cv2.contourArea)
    polygon = cv2.approxPolyDP(contour, OUTLINE * cv2.arcLength(contour, True), True).reshape(-1, 2)
    if len(polygon) < 3:
        polygon = cv2.boxPoints(cv2.minAreaRect(contour))
    return polygon.astype(np.float64)


def turned_box(x: float, y: float, width: float, height: float, angle: float = 0.0) -> list[list[float]]:
    """Corners (4, 2) of a box, turned by ``angle`` degrees clockwise, as one sees it, around its middle."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, height / 2)
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return (corners @ np.array([[c, s], [-s, c]]) + (x + width / 2, y + height / 2)).tolist()


def _areas(mask: np.ndarray) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Connected areas of a mask (H, W) bool, blots left out: their numbers in the labels (H, W), and boxes (n, 4)."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    kept = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= SMALLEST_AREA]
    return kept, labels, stats[kept, :4]


def _corners(region: Any, who: str) -> np.ndarray:
    from shapely import Polygon

    try:
        polygon = np.asarray(region, np.float64)
    except (TypeError, ValueError):
        polygon = np.zeros(0)
    if polygon.ndim != 2 or polygon.shape[1:] != (2,) or len(polygon) < 3 or not np.isfinite(polygon).all():
        raise RequestError(f"{who}: a region is a list of at least three corners (x, y) in pixels, or a painted mask; "
                           f"got {region!r}")
    shape = Polygon(polygon)
    if not shape.is_valid:
        raise RequestError(f"{who}: the sides of its region cross, or two corners coincide: give the corners in order "
                           "around it (top left, top right, bottom right, bottom left)")
    if shape.area < 1:
        raise RequestError(f"{who}: its region has no area: {polygon.tolist()}")
    return polygon


def _check_size(mask: np.ndarray, size: tuple[int, int], what: str) -> None:
    if mask.shape != tuple(size):
        raise RequestError(f"{what} has {mask.shape[1]} x {mask.shape[0]} pixels, the picture {size[1]} x {size[0]}: "
                           "paint it at the size of the picture")
