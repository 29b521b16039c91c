"""The one form of a text, however it was typed, and the script that its Chinese is written in."""

from __future__ import annotations

import functools
import unicodedata

INVISIBLE = frozenset("\u00ad\u200b\u2060\ufeff" "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Soft hyphen, zero-width space, word joiner, byte order mark, and marks of direction: they have no ink."""
SIMPLIFIED, TRADITIONAL = "Chinese_sim", "Chinese_tra"
CHINESE = (SIMPLIFIED, TRADITIONAL)


def normal_text(text: str) -> str:
    """``text`` in Unicode's form NFC, without invisible characters, every kind of space or line break as a space.

    "Cafe\\u0301" (NFD, as macOS names files) becomes "Café", and "Tea\\u00a0time" has a plain space.  Characters that
    look different stay different: ligatures, full-width letters and superscripts are not replaced (that would be NFKC).
    The joiners U+200C and U+200D stay, since they belong to the spelling of Persian and Hindi.  The length may change;
    doing it twice is doing it once.

    Source: Unicode Standard Annex #15.
    """
    if text.isascii() and text.isprintable():
        return text
    kept = (" " if c.isspace() else c for c in text if c not in INVISIBLE)
    return unicodedata.normalize("NFC", "".join(kept))


def text_fault(text: str) -> str:
    """Describe the first control character or half of a UTF-16 pair in a text in its one form; '' if there is none."""
    bad = [] if text.isprintable() else [c for c in text if unicodedata.category(c) in ("Cc", "Cs")]
    return f"has a character that is no text, U+{ord(bad[0]):04X}: remove it, or write it anew" if bad else ""


@functools.lru_cache(maxsize=1)
def _converter():
    from opencc import OpenCC

    return OpenCC("t2s")


def is_traditional(text: str) -> bool:
    """Whether ``text`` holds a character that simplified Chinese writes differently."""
    return not text.isascii() and _converter().convert(text) != text


def split_chinese(language: str, text: str) -> str:
    """'Chinese' becomes 'Chinese_sim' or 'Chinese_tra'; every other language stays as it is."""
    if language != "Chinese":
        return language
    return TRADITIONAL if is_traditional(text) else SIMPLIFIED


def guess_language(text: str) -> str:
    """AnyWord's name of the language that the characters of ``text`` belong to; 'Latin' unless they tell otherwise."""
    for language, ranges in (("Japanese", ((0x3040, 0x30ff),)), ("Korean", ((0xac00, 0xd7af),)),
                             ("Chinese", ((0x3400, 0x9fff), (0xf900, 0xfaff)))):
        if any(low <= ord(character) <= high for character in text for low, high in ranges):
            return split_chinese(language, text)
    return "Latin"
