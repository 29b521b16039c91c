"""Label maps of DB: from the polygons of an image to what the three maps of the network shall show.

The probability map P and the binary map B learn the *kernels*, polygons shrunk until neighbours cannot touch; the
threshold map T learns the borders.  Texts that are to be ignored, or too small, are masked out.
Source: PaddleOCR ``ppocr/data/imaug/make_shrink_map.py`` and ``make_border_map.py``; MhLiao/DB.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from anytext_lib.db.border import draw_border
from anytext_lib.db.polygons import (
    SHRINK_RATIO,
    SMALLEST,
    as_polygon,
    clip_polygon,
    shrink_polygon,
    signed_area,
    simple_polygon,
)

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
    """Polygons without spikes; those that cross themselves are ignored, and stand for all that they may mean."""
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
