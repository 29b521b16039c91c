"""From a position mask to the four corners of its line of text.

The box is not differentiable and does not depend on the model, so it is computed once, in the data, and never
inside a training step.  Source: AnyText2 ``cldm/recognizer.py`` (``min_bounding_rect``).
"""

from __future__ import annotations

import numpy as np
import torch

from anytext_lib.errors import AnyTextError

_FARTHEST = 1e6  # pixels; OpenCV draws with integers of 32 bits
MASK_THRESHOLD = 127 / 255  # upstream thresholds the 0..255 mask at 127


class BadLineError(AnyTextError, ValueError):
    """A line of text has no area to read: the message names the line, the reason and the remedy."""


class BadLineWarning(UserWarning):
    """Lines were skipped because ``on_bad_line="skip"`` was asked for; the message counts and names them."""


def line_quad(position_mask: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Four corners of the largest blob of a position mask.

    Threshold, largest external contour, minimum-area rectangle, corners truncated to integers (not rounded: that
    is what the upstream weights saw; it makes the box of a mask ``w`` pixels wide ``w - 1`` wide).

    Args:
        position_mask: (H, W) mask of one line, floating point or bool in [0, 1], or uint8 in 0..255.

    Returns:
        (4, 2) float32, pixels (x, y), in the order top-left, top-right, bottom-right, bottom-left.

    Raises:
        BadLineError: the mask is empty, or so thin that the box has no area.
    """
    import cv2

    binary = _binarise(position_mask)
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        raise BadLineError(
            f"the position mask of {binary.shape[0]} x {binary.shape[1]} pixels is empty (nothing above one half): "
            "give the line a region, or leave the line out"
        )
    corners = cv2.boxPoints(cv2.minAreaRect(max(contours, key=cv2.contourArea)))
    quad = _in_reading_order(np.trunc(corners).astype(np.float32))
    width, height = quad_size(torch.from_numpy(quad))
    if min(width, height) < 1:
        raise BadLineError(
            f"the position mask spans a box of {width:.0f} x {height:.0f} pixels, which has no area: "
            "a line needs a region of at least 2 x 2 pixels"
        )
    return torch.from_numpy(quad)


def quad_size(quad: torch.Tensor) -> tuple[float, float]:
    """Width and height in pixels of a (4, 2) quad: the longer of each pair of opposite sides."""
    tl, tr, br, bl = quad.double()
    width = max((tr - tl).norm().item(), (br - bl).norm().item())
    height = max((bl - tl).norm().item(), (br - tr).norm().item())
    return width, height


def polygon_mask(polygon, size: tuple[int, int]) -> np.ndarray:
    """Fill a polygon: ``polygon`` (P, 2) in pixels, ``size`` (H, W); returns (H, W) uint8 of 0 and 255."""
    import cv2

    points = np.asarray(polygon, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise BadLineError(f"a polygon needs at least three (x, y) points, got shape {points.shape}")
    if not (np.abs(points) <= _FARTHEST).all():  # nor NaN
        raise BadLineError(f"the polygon has a coordinate that is not finite, or more than {_FARTHEST:.0f} pixels away")
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255)
    return mask


def _binarise(mask: torch.Tensor | np.ndarray) -> np.ndarray:
    array = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    if array.ndim != 2:
        raise ValueError(f"a position mask has shape (H, W), got {tuple(array.shape)}")
    if array.dtype == np.uint8 and array.max(initial=0) > 1:
        return (array > 127).astype(np.uint8)
    return (array.astype(np.float32) > MASK_THRESHOLD).astype(np.uint8)


def _in_reading_order(corners: np.ndarray) -> np.ndarray:
    """Two leftmost corners are tl and bl, two rightmost tr and br; the upper of each pair comes first."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left = by_x[:2][np.argsort(by_x[:2, 1], kind="stable")]
    right = by_x[2:][np.argsort(by_x[2:, 1], kind="stable")]
    return np.stack([left[0], right[0], right[1], left[1]])
