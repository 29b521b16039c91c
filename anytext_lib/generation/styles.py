"""Letters to imitate, from a picture and a region in it: what the style part of the text embedding is shown.

Source: AnyText2 ``ms_wrapper.py`` (``font_hint_image``, ``font_hint_mask``), ``t3_dataset.py`` (``draw_font_hint``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from anytext_lib.data.hints import font_hint
from anytext_lib.data.lines import BadLineError, TextLines
from anytext_lib.generation.input_images import read_picture
from anytext_lib.generation.regions import region_polygon
from anytext_lib.generation.request import Line, RequestError
from anytext_lib.ocr.crops import crop_lines, crop_widths


class StylePicture(NamedTuple):
    """A picture (H, W, 3) uint8 with letters, and the polygon (P, 2) around them in its pixels; None: all of it."""

    picture: np.ndarray
    polygon: np.ndarray | None


def read_style(line: Line, edited: np.ndarray | None, who: str) -> StylePicture | None:
    """The letters that a line imitates, or None.

    Args:
        edited: the picture to edit (H, W, 3) uint8, for a region without a picture of its own.

    Raises:
        RequestError: a picture or mask cannot be read, or the region lies outside the picture or is none.
    """
    if line.style_image is None and line.style_region is None:
        return None
    if line.style_image is None and edited is None:
        raise RequestError(f"{who}: it has a style region and no picture: give a style_image, or a picture to edit")
    picture = edited if line.style_image is None else read_picture(line.style_image, f"{who}: its style image")
    if line.style_region is None:
        return StylePicture(picture, None)
    polygon = region_polygon(line.style_region, picture.shape[:2], f"{who}, the style")
    height, width = picture.shape[:2]
    if (polygon.max(axis=0) < 0).any() or (polygon.min(axis=0) > (width - 1, height - 1)).any():
        raise RequestError(f"{who}: its style region lies outside of the style's picture of {width} x {height} pixels")
    return StylePicture(picture, polygon)


def style_ink(style: StylePicture) -> torch.Tensor:
    """Strokes (h, w) float32 in [0, 1] of the letters, upright, as the font hint of training has them: what is darker
    than its neighbourhood.

    Raises:
        RequestError: the region has no area.
    """
    height, width = style.picture.shape[:2]
    whole = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
    polygon = whole if style.polygon is None else style.polygon
    hint = torch.from_numpy(font_hint(style.picture, polygon, np.random.default_rng(0), (1.0, 1.0)).astype(np.float32))
    if style.polygon is None:
        return hint
    try:
        lines = TextLines.from_polygons([polygon], [0], ["style"], ["Latin"], (height, width))
        crop = crop_lines((2 * hint - 1).expand(1, 3, -1, -1), lines)
    except BadLineError as error:
        raise RequestError(f"a style region cannot be cut out of its picture: {error}") from error
    return (crop[0, 0, :, : crop_widths(lines, (height, width))[0]] + 1) / 2
