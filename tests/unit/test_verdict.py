"""Sentences about comparisons: better, worse or not shown; whose gain it is; words that come twice count once."""

import itertools

import numpy as np
import pytest

from anytext_lib.experiments.paired import (
    StudentInterval,
    clustered_interval,
    differences,
    sign_flip_p,
    student_interval,
)
from anytext_lib.experiments.verdict import RunTable, gain_over_words, in_words, whose_gain, word_scores

GAIN, NOTHING = StudentInterval(0.2, 0.1, 0.3, 5), StudentInterval(0.01, -0.1, 0.12, 5)
LOSS = StudentInterval(-0.2, -0.3, -0.1, 5)


@pytest.mark.parametrize(("found", "up", "p", "said"), [
    (GAIN, True, None, "+0.200 [+0.100, +0.300]: better"),
    (GAIN, False, None, "+0.200 [+0.100, +0.300]: worse"),
    (LOSS, True, 0.25, "-0.200 [-0.300, -0.100], p = 0.25: worse"),
    (LOSS, False, None, "-0.200 [-0.300, -0.100]: better"),
    (NOTHING, True, 1.0, "+0.010 [-0.100, +0.120], p = 1: not shown to differ"),
    (StudentInterval(0.2, np.nan, np.nan, 1), True, None, "+0.200 in one case: no interval, no statement"),
])
def test_an_interval_in_words(found, up, p, said):
    assert in_words(found, up, p) == said


def test_every_pair_of_readers_has_a_sentence_of_its_own():
    said = {whose_gain(judge, own) for judge, own in itertools.product((GAIN, NOTHING, LOSS), repeat=2)}
    assert len(said) == 9
    assert whose_gain(NOTHING, LOSS) == "the loss's own reader sees a loss, the judge shows no difference"
    assert whose_gain(LOSS, GAIN).endswith("it was fooled")


def rows():
    values = {"none": (0.3, 0.5, 0.4), "ocr": (0.6, 0.7, 0.8)}
    return [{"arm": arm, "seed": seed, "ned": v} for arm, each in values.items() for seed, v in enumerate(each)][::-1]


def test_a_table_compares_arms_seed_by_seed():
    table = RunTable(rows(), "none")
    assert table.of("ocr", "ned").tolist() == [0.6, 0.7, 0.8]
    np.testing.assert_allclose(table.differences("ocr", "ned"), [0.3, 0.2, 0.4])
    assert table.gain("ocr", "ned") == student_interval(table.differences("ocr", "ned"))
    assert table.cell("ocr", "ned", 2) == "0.70 ±0.25"
    assert table.told("ocr", "ned") == in_words(table.gain("ocr", "ned"), p=0.25)
    assert table.told("none", "ned", "ocr").endswith("p = 0.25: worse")
    assert table.told("ocr", "ned", up=False).endswith("worse")


def test_differences_want_the_same_seeds_once():
    with pytest.raises(ValueError, match="pairs need the same"):
        differences(rows()[:-1], "ned", "ocr", "none")
    with pytest.raises(ValueError, match="choose one starting point"):
        differences(rows() * 2, "ned", "ocr", "none")


def test_sign_flips():
    assert sign_flip_p([0.3, 0.1, 0.2]) == 2 / 8
    assert sign_flip_p([0.3, -0.1, 0.2, 0.4, 0.2]) == 4 / 32
    assert sign_flip_p([0.5]) == 1
    with pytest.raises(ValueError, match="1 to 20"):
        sign_flip_p([])
    with pytest.raises(ValueError, match="finite"):
        sign_flip_p([0.1, float("nan")])


def test_words_that_come_twice_count_once():
    values = np.random.default_rng(0).normal(0.2, 1.0, size=12)
    alone, groups = student_interval(values), list("abcdefghijkl")
    np.testing.assert_allclose(clustered_interval(values, groups)[:3], alone[:3])
    twice = clustered_interval(np.repeat(values, 2), np.repeat(groups, 2))
    np.testing.assert_allclose(twice[:3], alone[:3])
    assert twice.n == 12 and student_interval(np.repeat(values, 2)).low > twice.low
    assert np.isnan(clustered_interval(values, ["same"] * 12).low)
    with pytest.raises(ValueError, match="as many groups"):
        clustered_interval(values, groups[:3])


def test_scores_of_words():
    read = {"none": ("Cat", "tac"), "ocr": ("cat", "cat")}
    readings = [{"arm": arm, "seed": seed, "index": index, "wanted": "cat", "judge": text}
                for arm, texts in read.items() for seed, text in enumerate(texts) for index in (0, 1)]
    readings += [{"arm": arm, "seed": 0, "index": 2, "wanted": "Dog", "judge": "Dog"} for arm in read]
    scores, words = word_scores(readings, "none", "judge")
    np.testing.assert_allclose(scores, [0.5, 0.5, 1], atol=1e-4)
    assert words == ["cat", "cat", "dog"]
    found = gain_over_words(readings, "ocr", "none", "judge")
    assert found.n == 2 and found.mean == pytest.approx(1 / 3, abs=1e-4)
