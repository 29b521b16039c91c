"""Two ways of cutting a line out of a picture; the number that a recogniser gives depends on which.

    upright   the smallest turned rectangle around the polygon, put upright by a similarity transform, turned if tall:
              as in AnyText2's losses and evaluation (``anytext_lib.ocr.crops``)
    box       the rows and columns that the polygon spans, as they are: UDiffText ``test.py``
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
import torch.nn.functional as F

from anytext_lib.data.anyword import Annotation
from anytext_lib.data.lines import BadLineError, BadLineWarning, TextLines
from anytext_lib.ocr.crops import crop_lines

HEIGHT, WIDTH = 48, 320  # what the recognisers take


def cut_line(picture: torch.Tensor, line: Annotation, crop: str = "upright") -> torch.Tensor:
    """One line, ready for a recogniser.

    Args:
        picture: (3, H, W) in [-1, 1], RGB. ``line``: its polygon is in pixels of the picture.
        crop: a name of ``CROPS``.

    Returns:
        (3, 48, 320) in [-1, 1], padded on the right with 0.

    Raises:
        BadLineError: the line has no area inside the picture; the message says why.
    """
    if crop not in CROPS:
        raise ValueError(f"there is no crop {crop!r}: choose one of {sorted(CROPS)}")
    return CROPS[crop](picture, line)


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 to (3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 127.5 - 1


def _upright(picture: torch.Tensor, line: Annotation) -> torch.Tensor:
    size = tuple(picture.shape[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadLineWarning)
        lines = TextLines.from_polygons([line.polygon], [0], [line.text], [line.language], size)
    return crop_lines(picture[None], lines, HEIGHT, WIDTH)[0]


def _box(picture: torch.Tensor, line: Annotation) -> torch.Tensor:
    _, height, width = picture.shape
    (left, top), (right, bottom) = np.floor(line.polygon.min(axis=0)), np.ceil(line.polygon.max(axis=0))
    left, right = (int(np.clip(x, 0, width)) for x in (left, right))
    top, bottom = (int(np.clip(y, 0, height)) for y in (top, bottom))
    if right <= left or bottom <= top:
        raise BadLineError(f"line {line.text!r} spans x {left} to {right}, y {top} to {bottom} of a picture of "
                           f"{width} x {height} pixels: nothing is left of it")
    piece = picture[None, :, top:bottom, left:right]
    fitted = min(WIDTH, math.ceil(HEIGHT * (right - left) / (bottom - top)))
    resized = F.interpolate(piece, (HEIGHT, fitted), mode="bilinear", align_corners=False, antialias=True)[0]
    return F.pad(resized, (0, WIDTH - fitted))


CROPS = {"upright": _upright, "box": _box}
