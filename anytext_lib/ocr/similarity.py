"""How alike two texts are: the edit distance of one line, as NED averages it."""

from __future__ import annotations

import unicodedata

from rapidfuzz.distance import Levenshtein


def composed(text: str) -> str:
    """``text`` in Unicode's form NFC.  Spaces stay as they are, as upstream compares them."""
    return unicodedata.normalize("NFC", text)


def edit_distance_score(read, wanted) -> float:
    """NED of one line, as given: 1 for equal texts, about 0 for texts without anything in common.

    Args:
        read, wanted: texts, or sequences of classes.
    """
    return 1 - Levenshtein.distance(read, wanted) / (max(len(read), len(wanted)) + 1e-5)
