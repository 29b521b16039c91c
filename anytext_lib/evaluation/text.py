"""Sen.Acc and NED, the two figures that text rendering is compared by.

    Sen.Acc = share of lines that are read exactly as wanted, case-sensitive, both cut to 20 characters
    NED     = mean over lines of 1 - levenshtein(read, wanted) / (max(len(read), len(wanted)) + 1e-5)

Source: AnyText ``eval/eval_dgocr.py``.  Upstream's NED compares class ids, where all characters that the recogniser
does not know share one id: a wrong rare character then counts as right; and it cuts the wanted text only.  Here
characters are compared, in Unicode's form NFC (a composed and a decomposed letter are the same), and both texts are
cut; ``protocols`` has upstream's rules.  NED is a similarity: 1 is best, and it is never below Sen.Acc.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

MAX_CHARS = 20


class TextScores(NamedTuple):
    """``sentence_accuracy`` and ``ned`` in [0, 1], NaN for no line; ``lines`` counts them."""

    sentence_accuracy: float
    ned: float
    lines: int


def composed(text: str) -> str:
    """``text`` in Unicode's form NFC.  Spaces stay as they are, as upstream compares them."""
    return unicodedata.normalize("NFC", text)


def sentence_accuracy(read: Sequence[str], wanted: Sequence[str], max_chars: int = MAX_CHARS) -> float:
    """Share of lines read exactly as wanted, both cut to ``max_chars``; NaN for no line."""
    return _mean([float(r == w) for r, w in _pairs(read, wanted, max_chars)])


def edit_distance_score(read: str, wanted: str) -> float:
    """NED of one line, as given: 1 for equal texts, about 0 for texts without anything in common."""
    return 1 - Levenshtein.distance(read, wanted) / (max(len(read), len(wanted)) + 1e-5)


def ned(read: Sequence[str], wanted: Sequence[str], max_chars: int = MAX_CHARS) -> float:
    """Mean normalised edit similarity, both texts cut to ``max_chars``; NaN for no line."""
    return _mean([edit_distance_score(r, w) for r, w in _pairs(read, wanted, max_chars)])


def score_texts(read: Sequence[str], wanted: Sequence[str], max_chars: int = MAX_CHARS) -> TextScores:
    """Both figures at once."""
    return TextScores(sentence_accuracy(read, wanted, max_chars), ned(read, wanted, max_chars), len(wanted))


def _pairs(read: Sequence[str], wanted: Sequence[str], most: int) -> list[tuple[str, str]]:
    """Both texts of each line as ``composed``, cut."""
    if isinstance(read, str) or isinstance(wanted, str) or len(read) != len(wanted):
        raise ValueError(f"give one text read for each text wanted, got {len(read)} and {len(wanted)}")
    return [(composed(r)[:most], composed(w)[:most]) for r, w in zip(read, wanted, strict=True)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
