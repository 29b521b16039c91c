"""Pictures of single lines, brought to the form in which the recogniser of PP-OCRv3 reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from anytext_lib.data.lines import TextLines
from anytext_lib.ocr.crops import TALL, crop_lines
from anytext_lib.ocr.network import HEIGHT

WIDTH = 320  # pixels of a crop; 8 for each frame


def line_crop(picture: torch.Tensor) -> torch.Tensor:
    """One line as a crop: upright, 48 pixels high, at most 320 wide, padded on the right with 0.

    Args:
        picture: (h, w) or (1 or 3, h, w) in [0, 1], floating point.

    Returns:
        (3, 48, 320) in [-1, 1].

    Raises:
        ValueError: another shape.
    """
    if picture.ndim == 2:
        picture = picture[None]
    if picture.ndim != 3 or picture.shape[0] not in (1, 3) or not picture.is_floating_point():
        raise ValueError("the picture of a line is (h, w), (1, h, w) or (3, h, w), floating point in [0, 1]; got "
                         f"{picture.dtype} {tuple(picture.shape)}")
    if picture.shape[1] > TALL * picture.shape[2]:
        picture = picture.transpose(1, 2).flip(1)
    return glyph_crops(picture[None])[0]


def glyph_crops(pictures: torch.Tensor) -> torch.Tensor:
    """Several lines of one size as crops, without turning tall ones: (L, 1 or 3, h, w) in [0, 1] -> (L, 3, 48, 320)."""
    height, width = pictures.shape[2:]
    new_width = min(WIDTH, math.ceil(HEIGHT * width / height))
    if len(pictures) == 0:
        return pictures.new_zeros(0, 3, HEIGHT, WIDTH)
    resized = F.interpolate(pictures, size=(HEIGHT, new_width), mode="bilinear", align_corners=True)
    return F.pad(2 * resized - 1, (0, WIDTH - new_width)).expand(-1, 3, -1, -1)


def style_crops(font_hints: torch.Tensor, lines: TextLines,
                style_images: Sequence[torch.Tensor | None] | None = None) -> torch.Tensor:
    """Where the style of each line is seen: (L, 3, 48, 320) in [-1, 1].

    Args:
        font_hints: (B, 1, H, W) in [0, 1], ink of all lines of an image; 0 where there is no hint.
        lines: L lines. ``style_images``: L pictures as for ``line_crop``, or None for a line whose style is seen in
            its place of the font hint ("mimic" a font that stands elsewhere).

    Raises:
        ValueError: another number of pictures than of lines.
    """
    if style_images is not None and len(style_images) != len(lines):
        raise ValueError(f"got {len(style_images)} style images for {len(lines)} lines: give one, or None, for each")
    crops = crop_lines((2 * font_hints.float() - 1).expand(-1, 3, -1, -1), lines)
    if style_images is None:
        return crops
    given = [None if image is None else line_crop(image.to(crops)) for image in style_images]
    rows = [crop if new is None else new for crop, new in zip(crops, given, strict=True)]
    return torch.stack(rows) if rows else crops


def has_ink(crops: torch.Tensor) -> torch.Tensor:
    """Which crops (L, 3, 48, 320) show anything: (L,) bool. Padding is 0 and paper is -1."""
    ink = (crops > -0.999) & (crops != 0)  # resizing leaves rounding errors on paper
    return ink.flatten(1).any(dim=1)
