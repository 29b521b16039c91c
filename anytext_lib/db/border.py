r"""The threshold map: high on the border of a text, falling to both sides.

.. math:: T^*(p) = 0.3 + 0.4 \, \max(0, 1 - dist(p, border) / D)

It is learnt only where the mask is 1, inside the polygon grown by D.  Source: Liao et al. 2020, section 3.4;
PaddleOCR ``ppocr/data/imaug/make_border_map.py``, after WenmuZhou/DBNet.pytorch.
"""

from __future__ import annotations

import numpy as np

from anytext_lib.db.polygons import SHRINK_RATIO, offset_distance, offset_polygon, signed_area


def draw_border(polygon: np.ndarray, closeness: np.ndarray, mask: np.ndarray, ratio: float = SHRINK_RATIO,
                upstream_rounding: bool = False) -> None:
    """Draw the border of one polygon (P, 2) into ``closeness`` and ``mask``, both (H, W) float32, in place.

    ``closeness`` is 1 on the border and 0 at the distance D; where texts meet, the larger value stays.  ``mask``
    becomes 1 inside the grown polygon.  A polygon without area draws nothing.

    Args:
        upstream_rounding: True as upstream, with corners in float32: a pixel on an edge is left out where
            its distance is the root of a negative number or 0 / 0, and others are off by up to 0.002.  That happens
            with fractional corners, or where a corner is repeated.  False computes in float64 and fills the holes.
    """
    import cv2

    if signed_area(polygon) == 0 or (distance := offset_distance(polygon, ratio)) <= 0:
        return
    if not (pieces := offset_polygon(polygon, distance)):
        return  # a sliver, whose corners fall together when they lose their fractions
    grown = pieces[0]
    origin = grown.min(axis=0)
    left, top = np.maximum(origin, 0)
    right, bottom = np.minimum(grown.max(axis=0) + 1, mask.shape[::-1])
    if left >= right or top >= bottom:
        return  # the text stands outside the image
    cv2.fillPoly(mask, [grown], 1.0)
    x, y = (np.arange(*ends, dtype=np.float64) - start
            for ends, start in zip(((left, right), (top, bottom)), origin, strict=True))
    corners = polygon.astype(np.float32 if upstream_rounding else np.float64) - origin.astype(np.float32)
    edges = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    to_border = np.stack([edge_distance(x, y[:, None], *edge) for edge in edges])
    if not upstream_rounding:
        to_border = np.nan_to_num(to_border, nan=0)
    here = closeness[top:bottom, left:right]
    np.fmax(here, 1 - np.clip(to_border / distance, 0, 1).astype(np.float32).min(axis=0), out=here)


def edge_distance(x: np.ndarray, y: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Upstream's distance of points to an edge of a polygon; NaN for some points that lie exactly on it.

    Inside the circle that has the edge as its diameter, where the edge is seen under an obtuse angle, it is the
    distance to the line through the edge; elsewhere it is the distance to the nearer end.  (Outside the circle, near
    the ends, the true distance to the edge is a little smaller.)

    Args:
        x, y: pixels, they broadcast against each other; ``start``, ``end`` (2,).
    """
    to_start, to_end = ((x - p[0]) ** 2 + (y - p[1]) ** 2 for p in (start, end))  # a^2, b^2
    length = ((start - end) ** 2).sum()  # c^2
    with np.errstate(divide="ignore", invalid="ignore"):
        minus_cosine = (length - to_start - to_end) / (2 * np.sqrt(to_start * to_end))
        square_of_sine = np.nan_to_num(1 - minus_cosine**2)
        to_line = np.sqrt(to_start * to_end * square_of_sine / length)
    return np.where(minus_cosine < 0, np.sqrt(np.minimum(to_start, to_end)), to_line)
