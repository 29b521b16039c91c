"""Fonts by name or by file, kept open, and the font that a line of text is drawn with."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from anytext_lib.data.check_schema import languages
from anytext_lib.data.chinese import CHINESE
from anytext_lib.data.errors import DataOptionError
from anytext_lib.data.fonts import MissingGlyphError, UnknownFontError, fonts_for, load_fonts
from anytext_lib.data.texts import normal_text


class FontWarning(UserWarning):
    """A font that was asked for lacks characters of a text, which is drawn in another one; the message names them."""


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

    try:
        return frozenset(map(chr, FT2Font(str(_font_file(font))).get_charmap()))
    except (RuntimeError, OSError) as error:
        raise UnknownFontError(f"{font!r} is not a font file that can be read ({error}): give a .ttf, .otf or "
                               ".ttc") from error


def _font_file(font: str) -> Path:
    faces = load_fonts()
    if font in faces:
        return faces[font].path
    if not os.path.isfile(font):
        raise UnknownFontError(f"{font!r} is neither a font of the course ({', '.join(faces)}) nor a font file")
    return Path(font)


def check_fonts(font: str | None, fonts: Mapping[str, str | Sequence[str]] | None) -> dict[str, list[str]] | None:
    """The options ``font`` and ``fonts`` of samples, with a list for every language.

    Raises:
        UnknownFontError: a font is neither one of the course nor a font file.
        DataOptionError: a key is no language, or ``fonts`` is no mapping.
    """
    if fonts is not None and not isinstance(fonts, Mapping):
        raise DataOptionError(f"fonts names fonts by language, as '{{Japanese: font.ttf}}', got {fonts!r}")
    if unknown := [name for name in fonts or {} if name not in languages()]:
        raise DataOptionError(f"fonts: there is no language {unknown[0]!r}; the languages are {', '.join(languages())}")
    lists = {name: [own] if isinstance(own, str) else list(own) for name, own in (fonts or {}).items()}
    for name in ([] if font is None else [font]) + sum(lists.values(), []):
        characters_of(str(name))  # opens it
    return {name: [str(one) for one in own] for name, own in lists.items()} or None


_told: set[tuple[str, str]] = set()


def _warn_once(font: str, where: str, text: str) -> None:
    """Warn that a font cannot write a text, at the first such text."""
    if (font, where) in _told:
        return
    _told.add((font, where))
    missing = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in dict.fromkeys(text) if c not in characters_of(font))
    warnings.warn(f"{where}: {font} cannot write {text!r}, it lacks {missing}; such texts are drawn in other fonts",
                  FontWarning, stacklevel=4)


def choose_font(text: str, language: str, rng: np.random.Generator | None = None, preferred: str | None = None,
                fonts: Mapping[str, Sequence[str]] | None = None) -> str:
    """A font that can write the whole of ``text`` in its one form (``normal_text``).

    Args:
        language: as in AnyWord; 'Chinese_sim' and 'Chinese_tra' fall back on 'Chinese'.
        rng: draw one at random (``rand_font``); None takes ``preferred`` if it can, else the first that can.
        fonts: names or files by language, for data beyond the fonts of the course; these are asked first, and those of
            the course after them.

    Raises:
        MissingGlyphError: no font has all characters; the message names the characters.

    Warns:
        FontWarning: ``preferred``, or every font of the language, lacks characters; of each at the first such text.
    """
    text = normal_text(text)
    own = (fonts or {}).get(language) or (fonts or {}).get("Chinese" if language in CHINESE else language) or ()
    able = [font for font in own if set(text) <= characters_of(font)]
    if own and not able:
        _warn_once(own[0], f"fonts for {language}", text)
    if rng is None and preferred is not None:
        if set(text) <= characters_of(preferred):
            return preferred
        _warn_once(preferred, "font", text)
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
