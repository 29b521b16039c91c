"""What the recogniser of the losses cannot read: characters that PP-OCRv3's dictionary lacks.

It has 6,623 characters: Chinese, English, some accents, signs, and few letters of other scripts.  CTC takes every other
character for a space; the OCR loss compares what the recogniser makes of such letters; and no reading of them is right.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable

from anytext_lib.data.texts import visible_text
from anytext_lib.ocr.onnx_weights import characters_of, load_onnx, recognizer_path


def unreadable(texts: Iterable[str]) -> Counter[str]:
    """The characters of ``texts`` that PP-OCRv3 has no class for, with the number of texts that hold each."""
    odd = [text for text in texts if not text.isascii()]  # all of printable ASCII is in its dictionary
    return Counter(character for text in odd for character in dict.fromkeys(visible_text(text))
                   if character not in readable())


def named(characters: Iterable[str], most: int = 8) -> str:
    """Characters with their code points, for messages; of more than ``most`` the first ones, and how many more."""
    found = list(characters)
    shown = [f"{character!r} (U+{ord(character):04X})" for character in found[:most]]
    return ", ".join(shown) + (f" and {len(found) - most} more" if len(found) > most else "")


def unreadable_note(who: str, characters: Iterable[str]) -> str:
    """What to know about ``who``, a line or lines, with such characters."""
    return (f"{who}: the recogniser of the losses (PP-OCRv3) cannot read {named(characters)}, which its dictionary "
            "lacks: no loss teaches them by name, and no reading of them is right")


@functools.cache
def readable() -> frozenset[str]:
    """The characters of PP-OCRv3's dictionary, and the space."""
    path = recognizer_path()
    return frozenset(characters_of(load_onnx(path), path).split("\n")) | {" "}
