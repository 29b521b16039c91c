"""The two captions: what the image shows, and how many lines of text it has."""

from __future__ import annotations

import re

import numpy as np

from anytext_lib.data.texts import normal_text

PLACEHOLDER = "*"  # its token embedding is replaced by that of a line of text
MAX_WORDS = 128
PHRASES = ("Text says ", "Image with words ", "The picture reads ", "Captions are ", "Texts are ", "Text: ")
WATERMARKED = 0.5  # images with a higher score are said to have watermarks

# a word without spaces is one word; of Chinese, Japanese and Korean each character is one
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
                   r"\uf900-\ufaff]+")
_SENTENCE = re.compile(r"[^.!?\u3002\uff01\uff1f]*[.!?\u3002\uff01\uff1f]*\s*")


def text_caption(lines: int, rng: np.random.Generator) -> str:
    """A phrase with one ``*`` for each line, e.g. 'Texts are * , * . '; the empty string without lines."""
    phrase = PHRASES[int(rng.integers(len(PHRASES)))]
    return phrase + " , ".join([PLACEHOLDER] * lines) + " . " if lines else ""


def image_caption(caption: str, rng: np.random.Generator, max_words: int = MAX_WORDS,
                  wm_score: float | None = None) -> str:
    """The caption of an image, as the model is given it.

    A ``*`` becomes a space, because it would be taken for a line.  A caption that is too long keeps its first
    sentence and as many others, drawn at random and left in their order, as there is room for.

    Args:
        max_words: most words; a Chinese, Japanese or Korean character counts as one.
        wm_score: adds 'with watermarks' above one half, 'no watermarks' up to it; None adds nothing.
    """
    caption = normal_text(caption).replace(PLACEHOLDER, " ").strip()
    if wm_score is not None:
        caption = f"{caption} {'with' if wm_score > WATERMARKED else 'no'} watermarks".strip()
    if count_words(caption) <= max_words:
        return caption
    sentences = [s for s in _SENTENCE.findall(caption) if s.strip()]
    room, kept = max_words - count_words(sentences[0]), {0}
    for i in 1 + rng.permutation(len(sentences) - 1):
        if room <= 0:
            break
        kept.add(int(i))
        room -= count_words(sentences[i])
        if room < 0:  # this one is cut
            sentences[i] = _first_words(sentences[i], room + count_words(sentences[i]))
    return _first_words("".join(_spaced(sentences[i]) for i in sorted(kept)), max_words)


def count_words(text: str) -> int:
    """Words of a text; a Chinese, Japanese or Korean character counts as one."""
    return sum(1 for _ in _WORD.finditer(text))


def _first_words(text: str, count: int) -> str:
    words = list(_WORD.finditer(text))
    return text[: words[count - 1].end()].strip() if count < len(words) else text.strip()


def _spaced(sentence: str) -> str:
    return sentence if sentence.endswith((" ", "\u3002", "\uff01", "\uff1f")) else sentence + " "
