"""The fonts that come with the course, what they can write, and clear errors for what they cannot."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path

from anytext_lib.data.folder import DataNotFoundError, data_folder
from anytext_lib.errors import AnyTextError

LANGUAGES = ("Latin", "Chinese")


class UnknownFontError(AnyTextError, KeyError):
    """No font of that name; the message lists the names."""

    def __str__(self) -> str:
        return self.args[0]


class MissingGlyphError(AnyTextError, ValueError):
    """A font has no glyph for some characters; the message names them and the fonts that have them."""


@dataclass(frozen=True)
class FontFace:
    """One font file of data_samples/fonts.

    Attributes:
        name: short name used everywhere in the library, e.g. 'OpenSans'.
        path: the file.
        family, style, character: e.g. 'Open Sans', 'Regular', 'sans serif'.
        licence, licence_path, source: SPDX name, text of the licence, package that it was taken from.
        languages: what it is drawn for: ('Latin',) or ('Chinese',); Chinese fonts hold ASCII as well.
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
        """The characters of ``text`` that this font has no glyph for, each once, in order."""
        return "".join(dict.fromkeys(c for c in text if c not in self.characters))


def load_fonts(folder: str | os.PathLike | None = None) -> dict[str, FontFace]:
    """All fonts by name, in the order of fonts.json.

    Args:
        folder: the folder data_samples; by default see ``data_folder``.

    Raises:
        DataNotFoundError: the folder, fonts.json or one of the files is missing.
    """
    return dict(_read_fonts(data_folder(folder) / "fonts"))


@functools.lru_cache(maxsize=8)
def _read_fonts(folder: Path) -> dict[str, FontFace]:
    index = folder / "fonts.json"
    if not index.is_file():
        raise DataNotFoundError(f"the list of fonts {index} is missing: restore the folder data_samples/fonts")
    faces = {}
    for row in json.loads(index.read_text(encoding="utf-8")):
        face = FontFace(row["name"], folder / row["file"], row["family"], row["style"], row["character"],
                        row["licence"], folder / row["licence_file"], row["source"], tuple(row["languages"]),
                        frozenset(row["characters"]))
        if not face.path.is_file():
            raise DataNotFoundError(f"{index} names {face.path.name}, which is missing: restore data_samples/fonts")
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
    """Names of the fonts for a language ('Latin' or 'Chinese'), or of those that can write a text.

    The two names of languages stand for the languages; every other string is a text.  A text that a Latin font can
    write gives only Latin fonts: the Latin letters of Chinese fonts are an afterthought.

    Raises:
        MissingGlyphError: no font can write the whole text.
    """
    fonts = load_fonts()
    if text_or_language in LANGUAGES:
        return [name for name, face in fonts.items() if text_or_language in face.languages]
    able = [name for name, face in fonts.items() if not face.missing(text_or_language)]
    if not able:
        raise MissingGlyphError(_describe_gap(text_or_language, None))
    latin = [name for name in able if "Latin" in fonts[name].languages]
    return latin or able


def check_coverage(text: str, name: str) -> None:
    """Raise MissingGlyphError if the font called ``name`` lacks a character of ``text``."""
    if font_face(name).missing(text):
        raise MissingGlyphError(_describe_gap(text, name))


def pil_font(name: str, size: float):
    """The font as a ``PIL.ImageFont`` of ``size`` pixels per em, set without kerning (the same on every machine)."""
    from PIL import ImageFont

    return ImageFont.truetype(str(font_path(name)), size, layout_engine=ImageFont.Layout.BASIC)


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
        if name is None and len(holders) == len(fonts):
            continue
        parts.append(f"{character!r} (U+{ord(character):04X}) is in {', '.join(holders) or 'no font'}")
    return f"{who}: {'; '.join(parts)}. Choose another font or leave these characters out"
