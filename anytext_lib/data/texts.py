"""The one form of a text, however it was typed; its parts, and the language that its script points to.

Every text and caption of the library comes through ``normal_text``: annotations, requests, classes for CTC.
"""

from __future__ import annotations

import functools
import re
import unicodedata

INVISIBLE = frozenset("\u00ad\u200b\u2060\ufeff" "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Soft hyphen, zero-width space, word joiner, byte order mark, and marks of direction: they have no ink."""
JOINERS = frozenset("\u200c\u200d")
"""Zero-width non-joiner and joiner: without ink of their own, but letters beside them look different."""
SIMPLIFIED, TRADITIONAL = "Chinese_sim", "Chinese_tra"
CHINESE = (SIMPLIFIED, TRADITIONAL)


def normal_text(text: str) -> str:
    """``text`` in Unicode's form NFC, without invisible characters, every kind of space or line break as a space.

    "Cafe\\u0301" (NFD, as macOS names files) becomes "Café", and "Tea\\u00a0time" has a plain space.  Characters that
    look different stay different: ligatures, full-width letters and superscripts are not replaced (that would be NFKC).
    The joiners U+200C and U+200D stay, since they belong to the spelling of Persian and Hindi.  Order and composition
    of combining marks become one: Hangul of parts becomes syllables, the dotted letters of Devanagari that NFC excludes
    from composition become letter and dot.  The length may change; doing it twice is doing it once.

    Source: Unicode Standard Annex #15.
    """
    if text.isascii() and text.isprintable():
        return text
    kept = (" " if c.isspace() else c for c in text if c not in INVISIBLE)
    return composed("".join(kept))


def composed(text: str) -> str:
    """``text`` in Unicode's form NFC alone: for scores, where upstream compares spaces as they are."""
    return unicodedata.normalize("NFC", text)


def visible_text(text: str) -> str:
    """``text`` in its normal form without joiners: what can be read of it, character by character."""
    text = normal_text(text)
    return text if text.isascii() else "".join(character for character in text if character not in JOINERS)


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
    """``detect_language``, with Chinese split into Chinese_sim and Chinese_tra."""
    return split_chinese(detect_language(text), text)


def detect_language(text: str) -> str:
    """The language that the script of ``text`` points to, by AnyWord's name, or Thai; Latin if none does."""
    seen = {language for low, high, language in _SCRIPTS if any(low <= c <= high for c in text)}
    return next((language for language in _DECIDING if language in seen), "Latin")


def other_script(text: str) -> bool:
    """Whether a text has letters of another script than Latin."""
    return not text.isascii() and any(
        char.isalpha() and not unicodedata.name(char, "").startswith(("LATIN", "FULLWIDTH LATIN")) for char in text)


_DECIDING = ("Japanese", "Korean", "Arabic", "Bangla", "Hindi", "Thai", "Chinese")  # kana before Chinese signs
_SCRIPTS = [(chr(low), chr(high), language) for low, high, language in (
    (0x0600, 0x06FF, "Arabic"), (0x0750, 0x077F, "Arabic"), (0x0900, 0x097F, "Hindi"), (0x0980, 0x09FF, "Bangla"),
    (0x0E00, 0x0E7F, "Thai"), (0x1100, 0x11FF, "Korean"), (0x3040, 0x30FF, "Japanese"), (0x3130, 0x318F, "Korean"),
    (0x3400, 0x9FFF, "Chinese"), (0xAC00, 0xD7AF, "Korean"), (0xF900, 0xFAFF, "Chinese"), (0xFB50, 0xFDFF, "Arabic"),
    (0xFE70, 0xFEFC, "Arabic"), (0x20000, 0x3FFFF, "Chinese"))]


# parts


_SHAPED = re.compile("[\u0590-\u109f\u1780-\u18af\ufb1d-\ufdff\ufe70-\ufefc]|[\u200c\u200d]")
_JOINED = re.compile("[\u0600-\u07ff\u0840-\u08ff\u0900-\u0a7f\u1800-\u18af\ufb50-\ufdff\ufe70-\ufefc]")


def needs_shaping(text: str) -> bool:
    """Whether the letters of ``text`` join, stack, take marks or run from right to left: one by one, as Latin and
    Chinese letters are set, they would be wrong."""
    if text.isascii():
        return False
    return _SHAPED.search(text) is not None or any(unicodedata.category(c)[0] == "M" for c in text)


def joins(text: str) -> bool:
    """Whether the letters of ``text`` touch within a word (Arabic, and scripts with a headline, as Devanagari and
    Bengali): they can be neither spaced out nor stacked."""
    return _JOINED.search(text) is not None


def clusters(text: str) -> list[str]:
    """What a reader takes for one character each: a letter with its marks, and letters that a virama or a joiner ties
    together.  Joined, they are ``text`` again.

    Source: the rules of Unicode Standard Annex #29 that concern letters (its extended grapheme clusters).
    """
    if text.isascii():
        return list(text)
    found: list[str] = []
    for character in text:
        if found and (_extends(character) or _ties(found[-1][-1])):
            found[-1] += character
        else:
            found.append(character)
    return found


def _extends(character: str) -> bool:
    """Whether a character belongs to the one before: marks, joiners, and the vowels AM of Thai and Lao."""
    return character in JOINERS or character in "\u0e33\u0eb3" or unicodedata.category(character)[0] == "M"


def _ties(character: str) -> bool:
    """Whether the next letter belongs to this one: after a virama or a zero-width joiner."""
    return character == "\u200d" or unicodedata.combining(character) == 9


def cut(text: str, most: int) -> str:
    """The beginning of ``text``, at most ``most`` code points (but at least one cluster), in whole clusters."""
    if len(text) <= most:
        return text
    kept, length = [], 0
    for cluster in clusters(text):
        length += len(cluster)
        if kept and length > most:
            break
        kept.append(cluster)
    return "".join(kept)


def pieces(text: str) -> list[str]:
    """The parts of a line between which space can be put: its clusters, or whole words where letters join."""
    return re.findall(" |[^ ]+", text) if joins(text) else clusters(text)
