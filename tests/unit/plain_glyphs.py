"""The glyph image of a line as upstream draws it: the yardstick of the fast one, written to be slow in the same places.

The font is opened anew at each step of a binary search, spaces are added one by one, each line has a layer of the whole
picture that is turned and pasted, and each line gives a floating point picture of its own.  Two corrections are made
as in the library: words that start left of their origin ('jog') are centred by their ink, and stacked letters are
centred one by one on the axis of the polygon, at a size at which they stay inside it.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from anytext_lib.data.fonts import font_path


def base_font(name: str):
    """The font as upstream keeps it: opened once, at a size that is never used."""
    return ImageFont.truetype(str(font_path(name)), 60, layout_engine=ImageFont.Layout.BASIC)


def plain_line(font, text: str) -> tuple[np.ndarray, int]:
    """The line alone (80, 512, 1) float64, and its font size: proportional to the metrics at 50 pixels per em."""
    height, width = 80, 512
    left, top, right, bottom = font.font_variant(size=50).getbbox(text)
    size = int(50 * min(width * 0.9 / max(right - left, 5), height * 0.9 / max(bottom - top, 5)))
    font = font.font_variant(size=size)
    picture = Image.new("1", (width, height))
    left, top, right, bottom = font.getbbox(text)
    origin = ((width - (right - left)) // 2 - left, (height - (bottom - top)) // 2 - top)
    ImageDraw.Draw(picture).text(origin, text, font=font, fill="white")
    return np.array(picture)[..., None].astype(np.float64), size


def plain_glyphs(font, text: str, polygon: np.ndarray, color, scale: int, size: tuple[int, int]):
    """One line in its polygon, (H, W, 3) float64 in [0, 1], its font size and the number of spaces."""
    rect = cv2.minAreaRect(np.asarray(polygon, np.float32))
    corners = np.trunc(cv2.boxPoints(rect))
    long, short = max(rect[1]), min(rect[1])
    exact = cv2.boxPoints(rect)
    along = max((exact[1] - exact[0], exact[2] - exact[1]), key=lambda side: math.hypot(*side))
    angle = math.degrees(math.atan2(along[1], along[0]))
    angle = (angle + 90) % 180 - 90  # in [-90, 90)
    extent = np.ptp(corners, axis=0)
    vertical = min(abs(angle), 90 - abs(angle)) < 10 and extent[1] >= extent[0]
    whole = size[1] * scale, size[0] * scale
    pen = ImageDraw.Draw(Image.new("RGB", whole, "white"))

    def fits(number: int) -> bool:
        face = font.font_variant(size=number)
        if not vertical:
            left, top, right, bottom = pen.textbbox((0, 0), text, font=face)
            return right - left <= long and bottom - top <= short
        boxes = [pen.textbbox((0, 0), c, font=face) for c in text]
        return sum(b[3] - b[1] for b in boxes) <= long and max(max(b[2] - b[0], b[3] - b[1]) for b in boxes) <= short

    low, high = 1, short
    while low < high:
        middle = (low + high) // 2
        if fits(int(middle)):
            low = middle + 1
        else:
            high = middle
    number = max(1, int(high - 1))
    face = font.font_variant(size=number)
    layer = Image.new("RGBA", whole, (0, 0, 0, 0))
    ink = ImageDraw.Draw(layer)
    fill = tuple(int(v) for v in np.clip(color, 10, 255)) + (255,)
    spaces = 0
    if vertical:
        _stack(ink, text, face, fill, rect[0], long, 1 / math.tan(math.radians(angle)))
    else:
        spaces = _add_spaces(pen, text, face, long, short) if len(text) > 1 else 0
        spaced = (" " * spaces).join(text)
        left, top, right, bottom = pen.textbbox((0, 0), spaced, font=face)
        ink.text((rect[0][0] - (left + right) / 2, rect[0][1] - (top + bottom) / 2), spaced, font=face, fill=fill)
        layer = layer.rotate(-angle, center=rect[0])
    picture = Image.new("RGB", whole)
    picture.paste(layer, (0, 0), layer)
    return np.array(picture).astype(np.float64) / 255, number, spaces


def _add_spaces(pen, text: str, face, long: float, short: float) -> int:
    for spaces in range(1, 1000):
        left, top, right, bottom = pen.textbbox((0, 0), (" " * spaces).join(text), font=face)
        if right - left > long or bottom - top > short:
            return spaces - 1
    raise AssertionError("spaces without end")


def _stack(ink, text: str, face, fill, center, long: float, slant: float) -> None:
    boxes = [ink.textbbox((0, 0), c, font=face) for c in text]
    total = sum(b[3] - b[1] for b in boxes)
    gap = max(0, long - total) / (len(text) - 1) if len(text) > 1 else 0
    y = center[1] - (total + gap * (len(text) - 1)) / 2
    for character, (left, top, right, bottom) in zip(text, boxes, strict=True):
        x = center[0] + slant * (y + (bottom - top) / 2 - center[1]) - (left + right) / 2
        ink.text((math.floor(x + 0.5), math.floor(y + 0.5) - top), character, font=face, fill=fill)
        y += bottom - top + gap
