r"""Polygons of text made smaller and larger: the offset that DB shrinks, grows and un-shrinks by.

.. math:: D = \frac{A (1 - r^2)}{L}

A is the area of the polygon, L its perimeter, r the shrink ratio (0.4).  Coordinates are pixels (x, y).  The offset
itself is Vatti clipping (pyclipper), which works on integers: coordinates lose their fractions.
Source: Liao et al. 2020, section 3.4; PaddleOCR ``ppocr/data/imaug/make_shrink_map.py``.
"""

from __future__ import annotations

import math

import numpy as np

SHRINK_RATIO = 0.4
SMALLEST = 1.0  # square pixels: a polygon that encloses less is none


def as_polygon(points) -> np.ndarray:
    """Points as an array (P, 2) float32, P >= 3; ValueError for anything that is not a polygon."""
    polygon = np.array(points, np.float32)
    if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3:
        raise ValueError(f"a polygon needs at least three (x, y) points, got shape {polygon.shape}")
    if not np.isfinite(polygon).all():
        raise ValueError(f"the polygon {polygon.tolist()} has a coordinate that is not finite")
    return polygon


def simple_polygon(polygon: np.ndarray) -> np.ndarray | None:
    """The polygon (P, 2) without spikes and loops of less than a square pixel; None if its sides cross otherwise.

    A bow tie, whose corners are out of order, encloses two areas that run in opposite directions.  Nobody knows which
    of them holds the text, and area and perimeter, from which the offset is computed, are those of neither.  (PaddleOCR
    drops it only where the two cancel to less than a square pixel, and teaches a kernel of a wrong size elsewhere.)
    """
    from shapely import Polygon, get_parts, make_valid

    shape = Polygon(polygon)
    if shape.is_valid:
        return polygon
    parts = [part for part in get_parts(make_valid(shape)) if part.geom_type == "Polygon" and part.area >= SMALLEST]
    if len(parts) != 1 or any(Polygon(hole).area >= SMALLEST for hole in parts[0].interiors):
        return None
    return np.array(parts[0].exterior.coords[:-1], polygon.dtype)


def signed_area(polygon: np.ndarray) -> float:
    """Area of a polygon (P, 2) by the shoelace formula: negative where it runs clockwise on the screen."""
    before = np.roll(polygon, 1, axis=0).astype(np.float64)
    return float((polygon[:, 0] * before[:, 1] - polygon[:, 1] * before[:, 0]).sum()) / 2


def clip_polygon(polygon: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Corners moved into an image of ``size`` (H, W), and turned to run clockwise on the screen."""
    clipped = np.clip(polygon, 0, np.float32([size[1] - 1, size[0] - 1]))
    return clipped[::-1] if signed_area(clipped) > 0 else clipped


def offset_distance(polygon: np.ndarray, ratio: float = SHRINK_RATIO) -> float:
    """D = A (1 - r^2) / L in pixels."""
    from shapely.geometry import Polygon

    shape = Polygon(polygon)
    return shape.area * (1 - ratio**2) / shape.length


def offset_polygon(polygon: np.ndarray, distance: float) -> list[np.ndarray]:
    """The polygon grown by ``distance`` pixels (shrunk if negative), corners rounded.

    Returns:
        arrays (P, 2) int32: none if nothing is left, several if the polygon falls apart.
    """
    import pyclipper

    offset = pyclipper.PyclipperOffset()
    offset.AddPath([tuple(point) for point in polygon], pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    return [np.array(path, np.int32).reshape(-1, 2) for path in offset.Execute(distance)]


def shrink_polygon(polygon: np.ndarray, ratio: float = SHRINK_RATIO) -> list[np.ndarray]:
    """The kernel of a polygon: its inside at least D away from the border.

    A polygon with a narrow waist falls apart; then 2 r, 3 r, ... below 1 are tried, which shrink less, until one piece
    is left.  Where no ratio gives one piece, all pieces of the last one count, as in PaddleOCR: a network that learns
    them finds as many boxes as pieces in that text.  (The code of DB's authors keeps the first piece only, and so
    teaches that the rest of the text is ground.)  ``make_label_maps`` warns of it.

    Returns:
        arrays (P, 2) int32, none if nothing is left.
    """
    pieces: list[np.ndarray] = []
    for attempt in np.arange(ratio, 1, ratio):
        pieces = offset_polygon(polygon, -offset_distance(polygon, attempt))
        if len(pieces) == 1:
            break
    return pieces


def unshrink_distance(width: float, height: float, ratio: float = SHRINK_RATIO) -> float:
    r"""How far a kernel of width x height pixels must grow to be the rectangle that it was shrunk from.

    The rectangle has area A + L d + 4 d^2 and perimeter L + 8 d, with A and L of the kernel.  It was shrunk by
    d = s (A + L d + 4 d^2) / (L + 8 d), s = 1 - r^2, so that

    .. math:: (8 - 4 s) d^2 + (1 - s) L d - s A = 0

    The usual rule, d = A * 1.5 / L of the kernel, gives long lines too little: two thirds of this.
    """
    s, area, perimeter = 1 - ratio**2, width * height, 2 * (width + height)
    a, b = 8 - 4 * s, (1 - s) * perimeter
    return (math.sqrt(b * b + 4 * a * s * area) - b) / (2 * a)
