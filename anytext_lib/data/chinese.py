"""Simplified or traditional: AnyText2 renames the language 'Chinese' by the characters of the text."""

from __future__ import annotations

import functools

SIMPLIFIED, TRADITIONAL = "Chinese_sim", "Chinese_tra"
CHINESE = (SIMPLIFIED, TRADITIONAL)


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
