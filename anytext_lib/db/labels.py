r"""Label maps of DB: from the polygons of an image to what the three maps of the network shall show.

The probability map P and the binary map B learn the *kernels*, polygons shrunk until neighbours cannot touch, by

.. math:: D = \frac{A (1 - r^2)}{L}

with A the area of the polygon, L its perimeter, r the shrink ratio (0.4).  The threshold map T learns the borders, high
on the border of a text and falling to both sides,

.. math:: T^*(p) = 0.3 + 0.4 \, \max(0, 1 - dist(p, border) / D)

where its mask is 1, inside the polygon grown by D.  Texts that are to be ignored, or too small, are masked out.
Coordinates are pixels (x, y); the offset itself is Vatti clipping (pyclipper), which works on integers: coordinates
lose their fractions.  Source: Liao et al. 2020, section 3.4; PaddleOCR ``ppocr/data/imaug/make_shrink_map.py`` and
``make_border_map.py``, after WenmuZhou/DBNet.pytorch; MhLiao/DB.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

SHRINK_RATIO = 0.4
SMALLEST = 1.0  # square pixels: a polygon that encloses less is none
THRESHOLD_RANGE = (0.3, 0.7)
MIN_TEXT_SIZE = 8  # pixels: smaller texts are masked out


class PiecesWarning(UserWarning):
    """The kernel of a polygon falls apart: one text is taught as several."""


class LabelMaps(NamedTuple):
    """Maps of one image (H, W) or of a batch (B, H, W), float32.

    ``shrink_map`` 1 inside the kernels, else 0; ``shrink_mask`` 0 where P and B learn nothing; ``threshold_map`` in
    [0.3, 0.7]; ``threshold_mask`` 1 where T learns; ``ignored`` (N,) bool, the polygons that have no kernel (of a
    batch: image after image).
    """

    shrink_map: torch.Tensor
    shrink_mask: torch.Tensor
    threshold_map: torch.Tensor
    threshold_mask: torch.Tensor
    ignored: torch.Tensor

    def to(self, *args, **kwargs) -> LabelMaps:
        """The maps moved by ``Tensor.to``; ``ignored`` stays where it is."""
        return LabelMaps(*(value.to(*args, **kwargs) for value in self[:4]), ignored=self.ignored)


def make_label_maps(polygons: Sequence, size: tuple[int, int], ignore: Sequence[bool] | None = None, *,
                    shrink_ratio: float = SHRINK_RATIO, thresh_min: float = THRESHOLD_RANGE[0],
                    thresh_max: float = THRESHOLD_RANGE[1], min_text_size: float = MIN_TEXT_SIZE,
                    border_first: bool = True, upstream_rounding: bool = False) -> LabelMaps:
    """Label maps of one image.

    A polygon whose sides cross (a bow tie) is ignored, whatever the sizes of its parts, and its convex hull masked out;
    spikes and tiny loops are cut off (``simple_polygon``).  One with waists so narrow that no offset leaves one
    kernel is taught as several, as in PaddleOCR, with a PiecesWarning: cut such a text into several, or let it be
    ignored.

    Args:
        polygons: N polygons (P, 2) in pixels (x, y), P may differ.
        size: (H, W) of the image.
        ignore: N flags, True for a text that must teach nothing (illegible); by default none.
        shrink_ratio: r of the offset A (1 - r^2) / L, in (0, 1).
        thresh_min, thresh_max: the threshold map away from and on the borders.
        min_text_size: texts whose upright box is smaller, in pixels, are ignored.
        border_first: True as PaddleOCR: borders are drawn first, so a text that proves too small still gets one.
            False as the original and mmocr: no text without a kernel has a border.
        upstream_rounding: True as PaddleOCR: some pixels that lie on a border keep ``thresh_min``
            (``draw_border``).  No difference where all corners are integers and no corner is repeated.

    Raises:
        ValueError: sizes and numbers do not agree, or a polygon has fewer than three finite points.
    """
    ignored = [False] * len(polygons) if ignore is None else [bool(flag) for flag in ignore]
    _check(size, len(polygons), len(ignored), shrink_ratio)
    given = [as_polygon(points) for points in polygons]
    drawn, ignored = _simple(given, ignored)
    clipped = [clip_polygon(polygon, size) for polygon in drawn]
    borders = [polygon for polygon, skip in zip(drawn, ignored, strict=True) if not skip]
    shrink_map, shrink_mask, ignored = _kernels(clipped, ignored, size, shrink_ratio, min_text_size)
    if not border_first:
        borders = [polygon for polygon, skip in zip(clipped, ignored, strict=True) if not skip]
    closeness, threshold_mask = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for polygon in borders:
        draw_border(polygon, closeness, threshold_mask, shrink_ratio, upstream_rounding)
    threshold_map = closeness * (thresh_max - thresh_min) + thresh_min
    maps = (torch.from_numpy(value) for value in (shrink_map, shrink_mask, threshold_map, threshold_mask))
    return LabelMaps(*maps, ignored=torch.tensor(ignored, dtype=torch.bool))


def stack_label_maps(maps: Sequence[LabelMaps]) -> LabelMaps:
    """Label maps of images of one size as a batch."""
    if not maps:
        raise ValueError("a batch needs the label maps of at least one image")
    columns = list(zip(*maps, strict=True))
    return LabelMaps(*(torch.stack(column) for column in columns[:4]), ignored=torch.cat(columns[4]))


def _simple(polygons: Sequence[np.ndarray], ignored: Sequence[bool]) -> tuple[list[np.ndarray], list[bool]]:
    """Return polygons without spikes; self-crossing ones are ignored, with every area they may enclose."""
    import cv2

    found = [simple_polygon(polygon) for polygon in polygons]
    crossing = [polygon is None for polygon in found]
    hulls = [cv2.convexHull(polygon)[:, 0] if crossed else simple
             for polygon, simple, crossed in zip(polygons, found, crossing, strict=True)]
    return hulls, [skip or crossed for skip, crossed in zip(ignored, crossing, strict=True)]


def _kernels(polygons, ignored, size, ratio, min_text_size) -> tuple[np.ndarray, np.ndarray, list[bool]]:
    """Kernels and their mask, (H, W) float32 each, and which polygons have no kernel."""
    import cv2

    kernels, mask, without = np.zeros(size, np.float32), np.ones(size, np.float32), []
    for polygon, skip in zip(polygons, ignored, strict=True):
        skip = skip or abs(signed_area(polygon)) < SMALLEST or np.ptp(polygon, axis=0).min() < min_text_size
        pieces = [] if skip else shrink_polygon(polygon, ratio)
        without.append(not pieces)
        if len(pieces) > 1:
            warnings.warn(f"the polygon {polygon.round(1).tolist()} is taught as {len(pieces)} texts: its waists are "
                          "narrower than the kernel's offset. Cut it into several polygons, or let it be ignored",
                          PiecesWarning, stacklevel=3)
        if pieces:
            for piece in pieces:
                cv2.fillPoly(kernels, [piece], 1.0)
        else:
            cv2.fillPoly(mask, [polygon.astype(np.int32)], 0.0)
    return kernels, mask, without


def _check(size, polygons: int, flags: int, ratio: float) -> None:
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size is (H, W) in pixels, both at least 1, got {size}")
    if polygons != flags:
        raise ValueError(f"{polygons} polygons and {flags} flags to ignore do not agree: give one for each polygon")
    if not 0 < ratio < 1:
        raise ValueError(f"shrink_ratio lies in (0, 1), got {ratio}: 1 would leave polygons as they are")


# borders

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


# polygons

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
