"""Fonts: those of the course by name and others by file, what each can write, and the choice of one for a text."""

from __future__ import annotations

import functools
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anytext_lib.data.anyword import languages
from anytext_lib.data.texts import CHINESE, JOINERS, normal_text
from anytext_lib.errors import AnyTextError, MissingFileError, OptionError
from anytext_lib.files import data_folder

LANGUAGES = ("Latin", "Chinese", "Japanese", "Korean", "Arabic", "Hindi", "Bangla", "Thai")


class UnknownFontError(AnyTextError, KeyError):
    """No font of that name; the message lists the names."""

    def __str__(self) -> str:
        return self.args[0]


class MissingGlyphError(AnyTextError, ValueError):
    """A font has no glyph for some characters; the message names them and the fonts that have them."""


class FontWarning(UserWarning):
    """A font that was asked for lacks characters of a text, which is drawn in another one; the message names them."""


@dataclass(frozen=True)
class FontFace:
    """One font file of data_samples/fonts.

    Attributes:
        name: short name used everywhere in the library, e.g. 'OpenSans'.
        path: the file.
        family, style, character: e.g. 'Open Sans', 'Regular', 'sans serif'.
        licence, licence_path, source: SPDX name, text of the licence, package that it was taken from.
        languages: what it is drawn for, of ``LANGUAGES``, as ('Latin',); all others hold ASCII as well.
        characters: every character that it has a glyph for.
    """

    name: str
    path: Path
    family: str
    style: str
    character: str
    licence: str
    licence_path: Path
    source: str
    languages: tuple[str, ...]
    characters: frozenset[str]

    def missing(self, text: str) -> str:
        """The characters of ``text`` that this font has no glyph for, each once, in order; joiners need none."""
        return "".join(dict.fromkeys(c for c in text if c not in self.characters and c not in JOINERS))


def load_fonts(folder: str | os.PathLike | None = None) -> dict[str, FontFace]:
    """All fonts by name, in the order of fonts.json.

    Args:
        folder: the folder data_samples; by default see ``data_folder``.

    Raises:
        MissingFileError: the folder, fonts.json or one of the files is missing.
    """
    return dict(_read_fonts(data_folder(folder) / "fonts"))


@functools.lru_cache(maxsize=8)
def _read_fonts(folder: Path) -> dict[str, FontFace]:
    index = folder / "fonts.json"
    if not index.is_file():
        raise MissingFileError(f"the list of fonts {index} is missing: restore the folder data_samples/fonts")
    faces = {}
    for row in json.loads(index.read_text(encoding="utf-8")):
        face = FontFace(row["name"], folder / row["file"], row["family"], row["style"], row["character"],
                        row["licence"], folder / row["licence_file"], row["source"], tuple(row["languages"]),
                        frozenset(row["characters"]))
        if not face.path.is_file():
            raise MissingFileError(f"{index} names {face.path.name}, which is missing: restore data_samples/fonts")
        faces[face.name] = face
    return faces


def font_face(name: str) -> FontFace:
    """The font called ``name``; UnknownFontError lists the names if there is none."""
    fonts = load_fonts()
    if name not in fonts:
        raise UnknownFontError(f"there is no font {name!r}; the fonts are {', '.join(fonts)}")
    return fonts[name]


def font_path(name: str) -> Path:
    """The file of the font called ``name``."""
    return font_face(name).path


def fonts_for(text_or_language: str) -> list[str]:
    """Return the names of the fonts for a language, or that have all glyphs of a text.

    The names of ``LANGUAGES`` stand for the languages; every other string is a text.  A text that a Latin font can
    write gives only Latin fonts: the Latin letters of other fonts are an afterthought.  One that a Chinese font can
    write gives no Japanese ones, whose characters have other forms.

    Raises:
        MissingGlyphError: no font can write the whole text.
    """
    fonts = load_fonts()
    text_or_language = normal_text(text_or_language)
    if text_or_language in LANGUAGES:
        return [name for name, face in fonts.items() if text_or_language in face.languages]
    able = [name for name, face in fonts.items() if not face.missing(text_or_language)]
    if not able:
        raise MissingGlyphError(_describe_gap(text_or_language, None))
    preferred = ([name for name in able if language in fonts[name].languages] for language in ("Latin", "Chinese"))
    return next(filter(None, preferred), able)


def check_coverage(text: str, name: str) -> None:
    """Raise MissingGlyphError if the font called ``name`` lacks a character of ``text``."""
    if font_face(name).missing(text):
        raise MissingGlyphError(_describe_gap(text, name))


def pil_font(font: str, size: float):
    """The font as a ``PIL.ImageFont`` of ``size`` pixels per em, set without kerning (the same on every machine).

    Args:
        font: a name of ``load_fonts()``, or the path of a .ttf, .otf or .ttc file.

    Raises:
        UnknownFontError: it is neither.
    """
    from PIL import ImageFont

    return ImageFont.truetype(str(font_file(font)), size, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=512)
def typeface(font: str, size: int):
    """``pil_font``, kept open: opening is slower than drawing a line."""
    return pil_font(font, size)


def _describe_gap(text: str, name: str | None) -> str:
    fonts = load_fonts()
    if name is None:
        missing = "".join(dict.fromkeys(text))
        who = f"no font of the course can write the whole of {text!r}"
    else:
        missing = fonts[name].missing(text)
        who = f"the font {name} cannot write {text!r}"
    parts = []
    for character in missing:
        holders = [n for n, face in fonts.items() if character in face.characters]
        if character in JOINERS or name is None and len(holders) == len(fonts):
            continue
        parts.append(f"{character!r} (U+{ord(character):04X}) is in {', '.join(holders) or 'no font'}")
    return f"{who}: {'; '.join(parts)}. Choose another font or leave these characters out"


@functools.lru_cache(maxsize=64)
def characters_of(font: str) -> frozenset[str]:
    """Every character that a font, given by name or by file, has a glyph for."""
    faces = load_fonts()
    if font in faces:
        return faces[font].characters
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(str(font_file(font))).get_charmap()))
    except (RuntimeError, OSError) as error:
        raise UnknownFontError(f"{font!r} is not a font file that can be read ({error}): give a .ttf, .otf or "
                               ".ttc") from error


def font_file(font: str) -> Path:
    """The file of a font that is given by name or by file; UnknownFontError if it is neither."""
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
        OptionError: a key is no language, or ``fonts`` is no mapping.
    """
    if fonts is not None and not isinstance(fonts, Mapping):
        raise OptionError(f"fonts names fonts by language, as '{{Japanese: font.ttf}}', got {fonts!r}")
    if unknown := [name for name in fonts or {} if name not in languages()]:
        raise OptionError(f"fonts: there is no language {unknown[0]!r}; the languages are {', '.join(languages())}")
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
    needed = frozenset(text) - JOINERS
    able = [font for font in own if needed <= characters_of(font)]
    if own and not able:
        _warn_once(own[0], f"fonts for {language}", text)
    if rng is None and preferred is not None:
        if needed <= characters_of(preferred):
            return preferred
        _warn_once(preferred, "font", text)
    if not able:
        able = _course_fonts_for(text, "Chinese" if language in CHINESE else language)
    return able[0] if rng is None else able[int(rng.integers(len(able)))]


@functools.lru_cache(maxsize=4096)
def _course_fonts_for(text: str, language: str) -> tuple[str, ...]:
    """Fonts of the course for a text; those of the language, where it is no Latin text and they can write it."""
    if text in LANGUAGES:  # fonts_for takes these words for the languages
        return tuple(fonts_for("Latin"))
    try:
        found, fonts = fonts_for(text), load_fonts()
        if "Latin" in fonts[found[0]].languages:
            return tuple(found)
        return tuple(name for name in fonts_for(language) if not fonts[name].missing(text)) or tuple(found)
    except MissingGlyphError as error:
        raise MissingGlyphError(f"{error}, or give fonts that have them (fonts: language -> font files)") from None
