"""Glyph images, which show the model what to write: each line alone, and each line inside its polygon.

Source: AnyText2 ``t3_dataset.py`` (``draw_glyph``, ``draw_glyph2``) for sizes, angles and spacing.  The font size is
found from the metrics of a few sizes near the one that proportion predicts, and only the pixels around the line are
drawn; upstream opens the font at each step of a search, tries up to 99 widths of spacing, and draws and turns a whole
layer for each line.  Upstream's letters may leave the polygon where they start left of their origin or are stacked;
here they stay inside.

Latin, Chinese, Japanese and Korean letters stand side by side as their widths say (Pillow's basic layout, the same on
every machine); texts that need it are shaped, see ``shaping``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from anytext_lib.data.fonts import typeface
from anytext_lib.data.shaping import draw_shaped, shape
from anytext_lib.data.texts import joins, needs_shaping, normal_text, pieces

LINE_SIZE = (80, 512)  # height and width of the picture of a line alone
FILL = 0.9  # how much of it the text may take
NEAR_VERTICAL = 10.0  # degrees within which a line taller than wide is written downwards, character by character
DARKEST = 10  # colours are raised to this, so that black letters can be told from the black ground
_REFERENCE = 48  # pixels per em at which a text is measured first


@dataclass(frozen=True)
class GlyphBox:
    """Box that a line is drawn into: the minimum-area rectangle of its polygon.

    Attributes:
        center: (x, y) in pixels. ``width``, ``height``: along and across the direction of writing, in pixels.
        angle: direction of writing in degrees clockwise, in (-90, 90]; in (80, 100) if ``vertical``.
        vertical: whether characters are stacked, upright, from top to bottom.
    """

    center: tuple[float, float]
    width: float
    height: float
    angle: float
    vertical: bool


def glyph_box(polygon: np.ndarray) -> GlyphBox:
    """Minimum-area rectangle of a polygon (P, 2) in pixels, and how a line is written into it."""
    import cv2

    points = np.asarray(polygon, np.float32)
    center, (a, b), angle = cv2.minAreaRect(points)
    while angle <= 0:  # OpenCV 5 counts from -90 up to 0, OpenCV 4 from 0 to 90
        a, b, angle = b, a, angle + 90
    direction = angle if a >= b else angle - 90
    extent = np.ptp(np.trunc(cv2.boxPoints((center, (a, b), angle))), axis=0)
    upright = abs(direction % 180 - 90) < NEAR_VERTICAL  # a box that is nearly square may lie, rounded as its extent is
    vertical = upright and extent[1] >= extent[0]
    return GlyphBox(tuple(map(float, center)), max(a, b), min(a, b), float(direction % 180 if vertical else direction),
                    bool(vertical))


def render_glyph_line(text: str, font: str) -> np.ndarray:
    """One line alone: centred, as large as fits into 90% of the picture.

    Args:
        text: at least one visible character; drawn in its one form (``normal_text``).
        font: a name of ``load_fonts()`` or a font file.

    Returns:
        (80, 512) uint8 in {0, 1}, without grey levels, as the recogniser of upstream's glyphs is given it.
    """
    from PIL import Image, ImageDraw

    height, width = LINE_SIZE
    text = normal_text(text)
    size = line_font_size(text, font)
    left, top, right, bottom = text_box(text, font, size)
    picture = Image.new("1", (width, height))
    origin = ((width - (right - left)) // 2 - left, (height - (bottom - top)) // 2 - top)
    draw_text(ImageDraw.Draw(picture), origin, text, font, size, 1)
    return np.array(picture, np.uint8)


def text_box(text: str, font: str, size: int) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a line in pixels, from the place at which ``draw_text`` is told to draw it.

    Args:
        font: a name of ``load_fonts()`` or a font file. ``size``: pixels per em.
    """
    if needs_shaping(text):
        height, width = shape(text, font, size).ink.shape
        return 0.0, 0.0, float(width), float(height)
    return typeface(font, size).getbbox(text)


def text_width(text: str, font: str, size: int) -> float:
    """Pixels that a line takes."""
    return text_box(text, font, size)[2] if needs_shaping(text) else typeface(font, size).getlength(text)


def draw_text(pen, place: tuple[float, float], text: str, font: str, size: int, fill, baseline: bool = False) -> None:
    """Draw a line with a ``PIL.ImageDraw``; one that is shaped begins on a whole pixel.

    Args:
        place: (x, y) that ``text_box`` counts from; with ``baseline``, of the left end of the baseline.
        fill: as of Pillow.
    """
    if needs_shaping(text):
        shaped = shape(text, font, size)
        draw_shaped(pen, (place[0], place[1] - shaped.ascent * baseline), shaped, fill)
    else:
        pen.text(place, text, font=typeface(font, size), fill=fill, anchor="ls" if baseline else None)


def line_font_size(text: str, font: str) -> int:
    """Font size of ``render_glyph_line`` in whole pixels per em, in proportion to the extent at 50, as upstream.

    Letters stand on whole pixels, so that a line may come out a few per cent wider than proportion says: the 90% leave
    room for it.  Where they do not, the size is lowered until the line fits into the picture.
    """
    width, height = _extent(text, font, 50)
    size = max(1, int(50 * min(FILL * LINE_SIZE[1] / max(width, 5), FILL * LINE_SIZE[0] / max(height, 5))))
    while size > 1 and not _within(_extent(text, font, size), LINE_SIZE[::-1]):
        size -= 1
    return size


def fit_size(text: str, font: str, box: GlyphBox) -> int:
    """The largest font size, in whole pixels per em, at which ``text`` fits into ``box``; 1 if none does.

    Upstream searches sizes up to one less than the height of the box, and so does this.
    """
    cap = max(1, int(box.height - 1))
    if not stacked(text, box):
        return _largest(lambda size: _extent(text, font, size), (box.width, box.height), cap)

    def measure(size: int) -> tuple[float, float]:
        extents = [_character_extent(character, font, size) for character in pieces(text)]
        return sum(h for _, h in extents), max(max(extent) for extent in extents)

    return _largest(measure, (box.width, box.height), cap)


def stacked(text: str, box: GlyphBox) -> bool:
    """Whether the characters are set upright, one below the other; where letters join, the line is turned instead."""
    return box.vertical and not joins(text)


def fit_spaces(text: str, font: str, size: int, box: GlyphBox) -> int:
    """How many spaces go between the ``pieces`` of a line that is not stacked: as many as fit into ``box``."""
    def fits(count: int) -> bool:
        return _within(_extent(stretch(text, count), font, size), (box.width, box.height))

    gap = (len(pieces(text)) - 1) * text_width(" ", font, size)
    if gap <= 0:
        return 0
    count = max(0, int((box.width - _extent(text, font, size)[0]) / gap))
    while count and not fits(count):
        count -= 1
    while fits(count + 1):
        count += 1
    return count


def stretch(text: str, spaces: int) -> str:
    """``text`` with ``spaces`` spaces between its characters; between its words, where letters join."""
    return (" " * spaces).join(pieces(text))


def draw_glyphs(canvas: np.ndarray, text: str, font: str, polygon: np.ndarray,
                color: Sequence[float] | None = None, spread: bool = True) -> None:
    """Draw a line into its polygon, in place; of overlapping lines the lighter colour shows.

    Args:
        canvas: (H, W, 3) uint8, RGB.
        polygon: (P, 2) in pixels of ``canvas``; parts outside of it are cut off.
        color: RGB in 0..255; None, or values above 255 as AnyWord's 500, give white.
        spread: stretch the letter spacing until the line fills the box.
    """
    text, box = normal_text(text), glyph_box(polygon)
    size = fit_size(text, font, box)
    draw = _draw_stacked if stacked(text, box) else _draw_along
    ink, (x, y) = draw(text, font, size, box, spread)
    (top, bottom), (left, right) = (max(0, y), min(canvas.shape[0], y + ink.shape[0])), \
        (max(0, x), min(canvas.shape[1], x + ink.shape[1]))
    if bottom <= top or right <= left:
        return
    ink = ink[top - y : bottom - y, left - x : right - x, None]
    rgb = np.clip(np.asarray((255,) * 3 if color is None else color, np.float32), DARKEST, 255).astype(np.uint16)
    part = canvas[top:bottom, left:right]
    np.maximum(part, ((ink * rgb + 127) // 255).astype(np.uint8), out=part)


def _draw_along(text: str, font: str, size: int, box: GlyphBox, spread: bool) -> tuple[np.ndarray, tuple[int, int]]:
    """Ink (h, w) uint16 in 0..255 of a line along the box and the pixel (x, y) of its first one."""
    from PIL import Image, ImageDraw

    spaced = stretch(text, fit_spaces(text, font, size, box)) if spread else text
    left, top, right, bottom = text_box(spaced, font, size)
    x, y = box.center[0] - (left + right) / 2, box.center[1] - (top + bottom) / 2
    first = math.floor(x + min(0, left)) - 2, math.floor(y + min(0, top)) - 2  # Pillow cuts text at negative fractions
    ink = Image.new("L", (math.ceil(x + right) + 2 - first[0], math.ceil(y + bottom) + 2 - first[1]))
    draw_text(ImageDraw.Draw(ink), (x - first[0], y - first[1]), spaced, font, size, 255)
    if box.angle:
        ink, first = _turn(ink, first, box)
    return np.asarray(ink, np.uint16), first


def _turn(ink, first: tuple[int, int], box: GlyphBox):
    """Turn a picture, whose first pixel lies at ``first``, around the centre of the box; nearest pixel, as upstream."""
    from PIL import Image

    c, s = math.cos(math.radians(box.angle)), math.sin(math.radians(box.angle))
    cx, cy = box.center
    sides = [np.array([first[i], first[i] + ink.size[i]]) - box.center[i] for i in (0, 1)]
    x, y = (grid.ravel() for grid in np.meshgrid(*sides))
    turned = np.stack([c * x - s * y + cx, s * x + c * y + cy])
    low, high = np.floor(turned.min(axis=1)).astype(int), np.ceil(turned.max(axis=1)).astype(int)
    dx, dy = low[0] - cx, low[1] - cy
    back = (c, s, c * dx + s * dy + cx - first[0], -s, c, -s * dx + c * dy + cy - first[1])
    size = int(high[0] - low[0]), int(high[1] - low[1])
    return ink.transform(size, Image.Transform.AFFINE, back, Image.Resampling.NEAREST), (int(low[0]), int(low[1]))


def _draw_stacked(text: str, font: str, size: int, box: GlyphBox, spread: bool) -> tuple[np.ndarray, tuple[int, int]]:
    """Ink of upright characters one below the other, centred on the axis of the box, and its first pixel (x, y)."""
    from PIL import Image, ImageDraw

    parts = pieces(text)
    boxes = [text_box(character, font, size) for character in parts]
    heights = [bottom - top for _, top, _, bottom in boxes]
    gap = max(0.0, box.width - sum(heights)) / (len(parts) - 1) if spread and len(parts) > 1 else 0.0
    extent = sum(heights) + gap * (len(parts) - 1)
    slant = 1 / math.tan(math.radians(box.angle))  # x along the axis for each pixel down
    half = box.height / 2 + abs(slant) * extent / 2
    first = math.floor(box.center[0] - half) - 2, math.floor(box.center[1] - extent / 2) - 2
    ink = Image.new("L", (math.ceil(2 * half) + 5, math.ceil(extent) + 5))
    pen, y = ImageDraw.Draw(ink), -extent / 2
    for character, (left, top, right, _), height in zip(parts, boxes, heights, strict=True):
        x = box.center[0] + slant * (y + height / 2) - (left + right) / 2
        place = math.floor(x + 0.5) - first[0], math.floor(box.center[1] + y + 0.5) - first[1] - top
        draw_text(pen, place, character, font, size, 255)
        y += height + gap
    return np.asarray(ink, np.uint16), first


def _largest(measure: Callable[[int], tuple[float, float]], room: tuple[float, float], cap: int) -> int:
    """The largest size in 1..cap whose (width, height) fits into ``room``, starting near the proportional guess."""
    def fits(size: int) -> bool:
        return _within(measure(size), room)

    width, height = measure(min(_REFERENCE, cap))
    share = min(room[0] / max(width, 1e-3), room[1] / max(height, 1e-3))
    size = int(np.clip(share * min(_REFERENCE, cap), 1, cap))
    while size > 1 and not fits(size):
        size -= 1
    while size < cap and fits(size + 1):
        size += 1
    return size


def _within(extent: tuple[float, float], room: tuple[float, float]) -> bool:
    return extent[0] <= room[0] and extent[1] <= room[1]


def _extent(text: str, font: str, size: int) -> tuple[float, float]:
    left, top, right, bottom = text_box(text, font, size)
    return right - left, bottom - top


@functools.lru_cache(maxsize=65536)
def _character_extent(character: str, font: str, size: int) -> tuple[float, float]:
    return _extent(character, font, size)
