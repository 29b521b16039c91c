"""Sentence accuracy and normalised edit similarity."""
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytext_lib.evaluation import edit_distance_score, ned, score_texts, sentence_accuracy

words = st.lists(st.tuples(st.text("abAB ü中", max_size=25), st.text("abAB ü中", max_size=25)), min_size=1, max_size=8)


def levenshtein(a: str, b: str) -> int:
    """The textbook's table, row by row."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, last = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(row[-1] + 1, last[j] + 1, last[j - 1] + (x != y)))
    return row[-1]


def test_known_values():
    assert sentence_accuracy(["Hello", "World"], ["Hello", "world"]) == 0.5  # case counts
    assert edit_distance_score("kitten", "sitting") == pytest.approx(1 - 3 / (7 + 1e-5), abs=1e-12)
    assert edit_distance_score("", "") == 1 and edit_distance_score("", "ab") == pytest.approx(0, abs=1e-5)


def test_texts_are_cut_to_twenty_characters():
    scores = score_texts(["a" * 20 + "x"], ["a" * 25])
    assert scores == (1.0, 1.0, 1)


def test_composed_and_decomposed_letters_are_the_same():
    nfc, nfd = "Caf\u00e9 M\u00fcller \uac00", "Cafe\u0301 Mu\u0308ller \u1100\u1161"
    assert score_texts([nfc, nfd], [nfd, nfc]) == (1.0, 1.0, 2)
    assert ned([nfd], ["Cafe M\u00fcller \uac00"]) == ned([nfc], ["Cafe M\u00fcller \uac00"]) < 1
    assert sentence_accuracy(["e\u0301" * 20], ["\u00e9" * 25]) == 1, "cut after they are composed"


def test_no_line_has_no_score():
    scores = score_texts([], [])
    assert math.isnan(scores.sentence_accuracy) and math.isnan(scores.ned) and scores.lines == 0


def test_numbers_of_texts_must_agree():
    with pytest.raises(ValueError, match="one text read for each text wanted, got 1 and 2"):
        ned(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="one text read"):
        ned("ab", ["a", "b"])


@given(words)
def test_properties(pairs):
    read, wanted = zip(*pairs, strict=True)
    scores = score_texts(read, wanted)
    expected = [1 - levenshtein(r[:20], w[:20]) / (max(len(r[:20]), len(w[:20])) + 1e-5)
                for r, w in pairs]
    assert scores.ned == pytest.approx(sum(expected) / len(expected), abs=1e-12)
    assert 0 <= scores.sentence_accuracy <= scores.ned <= 1
    assert ned(wanted, read) == scores.ned
