"""Captions of the image and of its text, and the two kinds of Chinese."""

import numpy as np
import pytest

from anytext_lib.data.hints import PHRASES, count_words, image_caption, text_caption
from anytext_lib.data.texts import split_chinese


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("lines", [1, 2, 5, 8])
def test_one_star_for_each_line(lines):
    caption = text_caption(lines, rng())
    assert caption.count("*") == lines and caption.startswith(PHRASES) and caption.endswith(" . ")


def test_phrases_vary_and_no_line_gives_no_caption():
    generator = rng()
    assert {text_caption(1, generator) for _ in range(100)} == {phrase + "* . " for phrase in PHRASES}
    assert text_caption(0, generator) == ""


def test_stars_of_an_image_caption_are_removed():
    assert image_caption("5 *stars* hotel", rng()) == "5  stars  hotel"


def test_a_short_caption_stays_as_it_is():
    caption = "A wall. It is green! " * 16
    assert image_caption(caption, rng()) == caption.strip()
    assert image_caption("", rng()) == ""


@pytest.mark.parametrize("caption", ["word " * 300, "First one here. " + "Then some more, you see. " * 60,
                                     "墙上有字。" * 90, "no stop 墙" * 120])
def test_long_captions_are_cut_to_128_words(caption):
    for seed in range(5):
        cut = image_caption(caption, rng(seed))
        assert 120 <= count_words(cut) <= 128
        assert cut.startswith(caption[:5])


def test_sentences_of_a_long_caption_are_drawn_in_their_order():
    caption = " ".join(f"Sentence {i} has some words in it." for i in range(40))
    cuts = [image_caption(caption, rng(seed)) for seed in range(4)]
    assert len(set(cuts)) == 4
    for cut in cuts:
        numbers = [int(word) for word in cut.split() if word.isdigit()]
        assert numbers[0] == 0 and numbers == sorted(numbers) and len(numbers) >= 15


@pytest.mark.parametrize("score, end", [(None, "wall"), (0.9, "wall with watermarks"), (0.1, "wall no watermarks")])
def test_watermarks(score, end):
    assert image_caption("A wall", rng(), wm_score=score) == "A " + end


@pytest.mark.parametrize("text, language, found", [
    ("汉字", "Chinese", "Chinese_sim"), ("漢字", "Chinese", "Chinese_tra"), ("大小", "Chinese", "Chinese_sim"),
    ("Tea", "Chinese", "Chinese_sim"), ("漢字", "Japanese", "Japanese"), ("Tea", "Latin", "Latin")])
def test_chinese_is_split_into_simplified_and_traditional(text, language, found):
    assert split_chinese(language, text) == found
