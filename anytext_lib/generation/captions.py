"""The captions of a picture, and the lines that are quoted in its prompt.

Words in quotes are lines of text, and each line is a ``*`` in the captions of the model.  Source: AnyText2
``ms_wrapper.py`` (``modify_prompt``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from anytext_lib.data.hints import PLACEHOLDER
from anytext_lib.data.texts import normal_text
from anytext_lib.generation.request import Line

PHRASE = "Texts are "  # one of those that the model is trained with
_QUOTED = re.compile('"([^"]*)"|\u201c([^\u201d]*)\u201d|\u300c([^\u300d]*)\u300d|\u300e([^\u300f]*)\u300f')


def quoted_words(prompt: str) -> list[str]:
    """The texts between double quotes ("...", or typographic ones), in order; a quote without a partner is none.

    Blanks between quotes are the empty text, which erases; nothing between them is no line.
    """
    return [text.strip() for text in map(_within, _QUOTED.finditer(prompt)) if text]


def _within(match: re.Match) -> str:
    return "".join(group or "" for group in match.groups())


def join_lines(prompt: str, lines: Sequence[Line]) -> list[Line]:
    """All lines of a picture, those quoted in the prompt first.

    A quoted word that is the text of a line stands for that line; any other is a new line.  Texts are brought into
    their normal form (``normal_text``).
    """
    rest, found = [replace(line, text=_normal(line.text)) for line in lines], []
    for text in map(_normal, quoted_words(prompt)):
        match = next((i for i, line in enumerate(rest) if line.text == text), None)
        found.append(Line(text) if match is None else rest.pop(match))
    return found + rest


def _normal(text):
    """Return the normal form of a text, "" for blanks; no text, or control characters, are left for the check."""
    if not isinstance(text, str) or any(ord(char) < 32 for char in text):
        return text
    return normal_text(text) if text.strip() else ""


def image_caption(prompt: str, added: str = "", literal: bool = False) -> str:
    """Caption of the UNet: the prompt with a ``*`` for each quoted word (``literal`` keeps them), and ``added``."""
    caption = prompt.replace(PLACEHOLDER, " ")
    if literal:
        caption = _QUOTED.sub(lambda match: match[0] if _within(match).strip() else " ", caption)
    else:
        caption = _QUOTED.sub(lambda match: f" {PLACEHOLDER} " if _within(match) else " ", caption)
        caption = re.sub(r"  +", " ", caption)
    return ", ".join(part for part in (caption.strip(), added.replace(PLACEHOLDER, " ").strip()) if part)


def text_caption(lines: int) -> str:
    """Caption of WriteNet: a ``*`` for each line; the empty string without lines."""
    return PHRASE + " , ".join([PLACEHOLDER] * lines) + " . " if lines else ""
