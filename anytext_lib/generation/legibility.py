"""How small letters may be: measured by letting the real recogniser read ever smaller ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from anytext_lib.data.fonts import typeface
from anytext_lib.data.glyphs import draw_glyphs, fit_size, glyph_box
from anytext_lib.data.lines import TextLines

WORDS = ("Garden", "Station", "Market", "river", "light", "Coffee", "Hotel", "bridge")
FONTS = ("OpenSans", "RobotoSlab", "EBGaramond", "Montserrat")
SIZES = (4, 5, 6, 7, 8, 9, 10)

SMALLEST_LETTERS = 7
"""Pixels per em (about the height of a region that a line fills; a capital letter is 0.7 of it) below which PP-OCRv3
reads fewer than half of ``WORDS`` in ``FONTS``: measured by ``smallest_letters``, which found the shares 0.06, 0.13,
0.38, 0.72 and 1.00 at 4, 5, 6, 7 and 8 pixels.  That is for clean letters: an auto-encoder that shrinks a picture eight
times loses larger ones, too."""


def readable_share(recogniser, size: int, words: Sequence[str] = WORDS, fonts: Sequence[str] = FONTS) -> float:
    """Share of words that are read exactly when drawn in white on black at ``size`` pixels per em, in [0, 1].

    Args:
        recogniser: a ``PPOCRv3Recognizer``, or a judge: whatever has ``read(crops)``.
    """
    from anytext_lib.ocr.crops import crop_lines

    pictures = [_picture(word, font, size) for font in fonts for word in words]
    wanted = [word for _ in fonts for word in words]
    right = 0
    for (picture, quad), word in zip(pictures, wanted, strict=True):
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        lines = TextLines([0], quad[None], [word], ["Latin"])
        right += recogniser.read(crop_lines(image, lines)) == [word]
    return right / len(wanted)


def smallest_letters(recogniser, sizes: Sequence[int] = SIZES, share: float = 0.5) -> tuple[int, dict[int, float]]:
    """The smallest size from which on at least ``share`` of the words are read, and the share for each size.

    Sizes are in pixels per em, rising.  This is how ``SMALLEST_LETTERS`` was found.
    """
    found = {size: readable_share(recogniser, size) for size in sizes}
    failing = [size for size in sizes if found[size] < share]
    return (max(failing) + 1 if failing else min(sizes)), found


def letter_size(text: str, font: str, polygon: np.ndarray) -> int:
    """Pixels per em of the largest letters with which ``text`` fits into a polygon (P, 2)."""
    return fit_size(text, font, glyph_box(polygon))


def size_problem(text: str, font: str, polygon: np.ndarray, who: str, shrink: float = 1.0) -> str | None:
    """What is wrong with a region in which letters come out too small to be read, and how large it has to be.

    Args:
        polygon: (P, 2) in pixels of a picture that is made ``shrink`` times as large before the model sees it.
    """
    size = letter_size(text, font, np.asarray(polygon) * shrink)
    if size >= SMALLEST_LETTERS:
        return None
    box = glyph_box(polygon)
    width, height = (box.height, box.width) if box.vertical else (box.width, box.height)
    wanted = [np.ceil(side / shrink) for side in _needed(text, font, box.vertical)]
    return (f"{who}: its region of {width:.0f} x {height:.0f} pixels has room for letters of {size} pixels per em "
            f"only{'' if shrink == 1 else ' at the size at which the model works'}; below {SMALLEST_LETTERS} the "
            f"recogniser reads fewer than half of the words. Make the region at least {wanted[0]:.0f} x "
            f"{wanted[1]:.0f} pixels, or the text shorter")


def _needed(text: str, font: str, vertical: bool) -> tuple[float, float]:
    """Width and height of a box in which ``text`` has the smallest letters."""
    face = typeface(font, SMALLEST_LETTERS)
    boxes = [face.getbbox(part) for part in (text if vertical else [text])]
    widths, heights = [b[2] - b[0] for b in boxes], [b[3] - b[1] for b in boxes]
    if vertical:
        return max(SMALLEST_LETTERS + 2, *widths, *heights), sum(heights) + 1
    return widths[0] + 1, max(SMALLEST_LETTERS + 2, heights[0] + 1)


def _picture(text: str, font: str, size: int) -> tuple[np.ndarray, torch.Tensor]:
    """A text at one size on black, and the quad (4, 2) around it."""
    left, top, right, bottom = typeface(font, size).getbbox(text)
    width, height = right - left + 3, max(bottom - top + 3, size + 2)
    canvas = np.zeros((height + 8, width + 8, 3), np.uint8)
    quad = np.array([[4, 4], [4 + width, 4], [4 + width, 4 + height], [4, 4 + height]], np.float32)
    draw_glyphs(canvas, text, font, quad, spread=False)
    return canvas, torch.from_numpy(quad)
