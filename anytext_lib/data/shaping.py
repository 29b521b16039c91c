"""Lines whose letters join, stack, take marks or run from right to left, set by libraqm.

HarfBuzz chooses and places the glyphs, and the order is that of Unicode's bidirectional algorithm.  It is the libraqm
inside matplotlib's wheels.  Pillow has one as well, but looks for FriBiDi on the system; without that it would set such
lines letter by letter, and nobody could read them.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from anytext_lib.data.fonts import font_file


class ShapedText(NamedTuple):
    """``ink``: (h, w) uint8 in 0..255, cut to the letters. ``ascent``: rows of it above the baseline."""

    ink: np.ndarray
    ascent: int


@functools.lru_cache(maxsize=1024)
def shape(text: str, font: str, size: int) -> ShapedText:
    """A line at ``size`` pixels per em; without ink it is (0, 0) pixels large.

    Args:
        font: a name of ``load_fonts()`` or a font file with the tables that shape the script (GSUB, GPOS).
    """
    from matplotlib.ft2font import FT2Font, LoadFlags

    face = FT2Font(str(font_file(font)))
    face.set_size(size, 72)
    face.set_text(text, 0, flags=LoadFlags.NO_HINTING)
    face.draw_glyphs_to_bitmap()
    picture = np.asarray(face.get_image())
    rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
    if not len(rows):
        return ShapedText(np.zeros((0, 0), np.uint8), 0)
    baseline = len(picture) - round(face.get_descent() / 64)
    return ShapedText(picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy(), int(baseline - rows[0]))


def draw_shaped(pen, place: tuple[float, float], text: ShapedText, fill) -> None:
    """Draw with a ``PIL.ImageDraw``, from the whole pixel that is nearest to ``place`` (x, y) of the top left corner.

    Args:
        fill: as of Pillow.
    """
    from PIL import Image

    if text.ink.size:
        ink = 255 * (text.ink > 127).astype(np.uint8) if pen.mode == "1" else text.ink
        pen.bitmap((round(place[0]), round(place[1])), Image.fromarray(ink), fill=fill)
