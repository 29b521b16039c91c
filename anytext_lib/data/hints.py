"""The font hint: what the letters of the real image look like, as black and white strokes, partly erased.

Source: AnyText2 ``t3_dataset.py`` (``draw_font_hint``).  Strokes are what is darker than its neighbourhood; light
letters on a dark ground therefore show as outlines.
"""

from __future__ import annotations

import numpy as np

from anytext_lib.data.quads import polygon_mask

ROTATION, SHIFT, SCALE = 10.0, 10.0, (0.9, 1.1)  # degrees; pixels of an image of 512; factor
_WINDOW, _OFFSET = 11, 2  # adaptive threshold: pixels, grey levels


def font_hint(image: np.ndarray, polygon: np.ndarray, rng: np.random.Generator, area: tuple[float, float] = (0.7, 1.0),
              augment: bool = False) -> np.ndarray:
    """Strokes of one line.

    Args:
        image: (H, W, 3) uint8, RGB. ``polygon``: (P, 2) in pixels.
        area: how much of the line is kept, drawn uniformly between the two; the rest is erased in one piece, across
            the line.
        augment: move the content of the line by up to 10 degrees, 10 pixels (of 512) and 10% of its size.

    Returns:
        (H, W) uint8 in {0, 1}, zero outside the polygon.
    """
    import cv2

    height, width = image.shape[:2]
    inside = np.clip(np.asarray(polygon, np.float64), 0, (width - 1, height - 1))
    region = polygon_mask(inside, (height, width)) // 255
    x, y, w, h = cv2.boundingRect(np.rint(inside).astype(np.int32))
    crop = image[y : y + h, x : x + w]
    if augment:
        crop = _augment(crop, rng, SHIFT * min(height, width) / 512)
    grey = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY)
    strokes = cv2.adaptiveThreshold(grey, 1, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY_INV, _WINDOW, _OFFSET)
    kept = rng.uniform(*area)
    if kept < 1:
        cv2.fillPoly(region, [_erased(inside, 1 - kept, rng)], 0)
    hint = np.zeros((height, width), np.uint8)
    hint[y : y + h, x : x + w] = strokes * region[y : y + h, x : x + w]
    return hint


def _augment(crop: np.ndarray, rng: np.random.Generator, shift: float) -> np.ndarray:
    """Turn, move and scale in one go; what comes in from outside repeats the border."""
    import cv2

    h, w = crop.shape[:2]
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), rng.uniform(-ROTATION, ROTATION), rng.uniform(*SCALE))
    matrix[:, 2] += rng.uniform(-shift, shift, 2)
    return cv2.warpAffine(crop, matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _erased(polygon: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Corners (4, 2) int32 of ``share`` of the minimum-area rectangle: a piece of its long side, all of the short."""
    import cv2

    box = cv2.boxPoints(cv2.minAreaRect(polygon.astype(np.float32))).astype(np.float64)
    sides = np.roll(box, -1, axis=0) - box
    if np.hypot(*sides[0]) < np.hypot(*sides[1]):
        box, sides = np.roll(box, -1, axis=0), np.roll(sides, -1, axis=0)
    start = rng.uniform(0, 1 - share)  # along sides[0]; sides[1] leads across
    corners = [box[0] + t * sides[0] + across * sides[1]
               for t, across in ((start, 0), (start + share, 0), (start + share, 1), (start, 1))]
    return np.rint(corners).astype(np.int32)
