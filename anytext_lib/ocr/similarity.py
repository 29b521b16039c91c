"""How alike two texts are: the edit distance of one line, as NED averages it."""

from __future__ import annotations

from rapidfuzz.distance import Levenshtein


def edit_distance_score(read, wanted) -> float:
    """NED of one line, as given: 1 for equal texts, about 0 for texts without anything in common.

    Args:
        read, wanted: texts, or sequences of classes.
    """
    return 1 - Levenshtein.distance(read, wanted) / (max(len(read), len(wanted)) + 1e-5)
