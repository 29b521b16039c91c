"""Position masks: the polygon of a line, filled, sometimes a little too large or too small."""

from __future__ import annotations

import numpy as np

from anytext_lib.data.quads import polygon_mask

# (share of the masks, number of 3 x 3 dilations; negative: erosions)
JITTER = ((0.70, 0), (0.10, 1), (0.10, -1), (0.05, 2), (0.05, -2))
SMALLEST_TO_ERODE = 20.0  # pixels, shorter side of the minimum-area rectangle


def position_mask(polygon: np.ndarray, size: tuple[int, int], steps: int = 0) -> np.ndarray:
    """Fill a polygon and grow or shrink it.

    Args:
        polygon: (P, 2) in pixels. ``size``: (H, W).
        steps: how many times to dilate (or, below zero, to erode) with 3 x 3 pixels.  Polygons whose minimum-area
            rectangle has a side under 20 pixels are not eroded, and no mask is eroded away.

    Returns:
        (H, W) uint8 in {0, 1}.

    Raises:
        BadLineError: fewer than three points, or a coordinate that is not finite.
    """
    import cv2

    mask = polygon_mask(polygon, size) // 255
    kernel = np.ones((3, 3), np.uint8)
    if steps > 0:
        return cv2.dilate(mask, kernel, iterations=steps)
    if steps < 0 and min(cv2.minAreaRect(np.asarray(polygon, np.float32))[1]) >= SMALLEST_TO_ERODE:
        eroded = cv2.erode(mask, kernel, iterations=-steps)
        return eroded if eroded.any() else mask
    return mask


def draw_jitter(rng: np.random.Generator) -> int:
    """A number of dilations or erosions for ``position_mask``, by the shares of ``JITTER``."""
    shares, steps = zip(*JITTER, strict=True)
    return int(steps[rng.choice(len(steps), p=shares)])
