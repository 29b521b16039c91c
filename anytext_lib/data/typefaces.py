"""Fonts by name or by file, kept open, and the font that a line of text is drawn with."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from anytext_lib.data.chinese import CHINESE
from anytext_lib.data.fonts import MissingGlyphError, UnknownFontError, fonts_for, load_fonts


@functools.lru_cache(maxsize=512)
def typeface(font: str, size: int):
    """The font as a ``PIL.ImageFont`` of ``size`` pixels per em, kept open: opening is slower than drawing a line.

    Args:
        font: a name of ``load_fonts()``, or the path of a .ttf, .otf or .ttc file.

    Raises:
        UnknownFontError: it is neither.
    """
    from PIL import ImageFont

    return ImageFont.truetype(str(_font_file(font)), size, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=64)
def characters_of(font: str) -> frozenset[str]:
    """Every character that a font, given by name or by file, has a glyph for."""
    faces = load_fonts()
    if font in faces:
        return faces[font].characters
    from matplotlib.ft2font import FT2Font

    return frozenset(map(chr, FT2Font(str(_font_file(font))).get_charmap()))


def _font_file(font: str) -> Path:
    faces = load_fonts()
    if font in faces:
        return faces[font].path
    if not os.path.isfile(font):
        raise UnknownFontError(f"{font!r} is neither a font of the course ({', '.join(faces)}) nor a font file")
    return Path(font)


def choose_font(text: str, language: str, rng: np.random.Generator | None = None, preferred: str | None = None,
                fonts: Mapping[str, Sequence[str]] | None = None) -> str:
    """A font that can write the whole of ``text``.

    Args:
        language: as in AnyWord; 'Chinese_sim' and 'Chinese_tra' fall back on 'Chinese'.
        rng: draw one at random (``rand_font``); None takes ``preferred`` if it can, else the first that can.
        fonts: names or files by language, for data beyond the fonts of the course; these are asked first, and those of
            the course after them.

    Raises:
        MissingGlyphError: no font has all characters; the message names the characters.
    """
    own = (fonts or {}).get(language) or (fonts or {}).get("Chinese" if language in CHINESE else language) or ()
    able = [font for font in own if set(text) <= characters_of(font)]
    if rng is None and preferred is not None and set(text) <= characters_of(preferred):
        return preferred
    if not able:
        able = _course_fonts_for(text)
    return able[0] if rng is None else able[int(rng.integers(len(able)))]


@functools.lru_cache(maxsize=4096)
def _course_fonts_for(text: str) -> tuple[str, ...]:
    if text in ("Latin", "Chinese"):  # fonts_for takes these two words for the languages
        return tuple(fonts_for("Latin"))
    try:
        return tuple(fonts_for(text))
    except MissingGlyphError as error:
        raise MissingGlyphError(f"{error}, or give fonts that have them (fonts: language -> font files)") from None
