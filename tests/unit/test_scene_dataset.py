"""The data of the mini model: the split of the words, determinism, and what a sample holds."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from anytext_lib.data.batch import collate
from anytext_lib.scenes.scene_dataset import MIXED, STYLE, SceneDataset, scene_record
from anytext_lib.scenes.words import LETTERS, SPLITS, chinese_words_of, draw_chinese, draw_word, split_of, words_of


def same(a, b) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("image", "glyphs", "positions", "quads"))


def test_no_word_is_in_two_splits_whatever_its_spelling():
    found = [set(words_of(split)) for split in SPLITS]
    assert not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])
    assert all(split_of(word.upper()) == split_of(word.title()) == split_of(word) for word in words_of("test"))
    assert len(words_of("test")) >= 40 and len(words_of("train")) >= 200


@pytest.mark.parametrize("split", SPLITS)
def test_drawn_words_belong_to_their_split_invented_ones_too(split):
    rng = np.random.default_rng(0)
    words = [draw_word(rng, split, invented=0.5) for _ in range(300)]
    assert set(words) - {w for r in words_of(split) for w in (r, r[0].upper() + r[1:], r.upper())}, "some are invented"
    assert {split_of(word) for word in words} == {split}
    assert all(LETTERS[0] <= len(word) <= LETTERS[1] and word.isascii() and word.isalpha() for word in words)


def test_held_out_words_are_invented_only_if_one_asks():
    drawn = {split: {SceneDataset(split=split, epoch_length=40, **asked).scene(i).lines[0].text.lower()
                     for i in range(12)} - set(words_of(split))
             for split, asked in (("validation", {}), ("test", {"invented": 1.0}))}
    assert drawn["validation"] <= {w.lower() for w in words_of("validation")} and len(drawn["test"]) > 8


def test_invented_words_are_no_held_out_ones():
    real = {word.lower() for split in ("validation", "test") for word in words_of(split)}
    data = SceneDataset(invented=1.0, epoch_length=64)
    rng = np.random.default_rng(3)
    assert not real & {draw_word(rng, "train", 1.0).lower() for _ in range(2000)}
    assert split_of(data[5].texts[0]) == "train"


def test_a_sample_has_one_word_where_the_position_says():
    sample = SceneDataset(epoch_length=8)[3]
    assert sample.image.shape == (64, 192, 3) and sample.positions.shape == (1, 64, 192)
    assert len(sample.texts) == 1 and sample.text_caption.count("*") == 1 and sample.texts[0] in sample.caption
    assert not sample.masked_image.any() and not sample.font_hint.any() and sample.index == 3
    ink = sample.glyphs.any(axis=2)
    assert ink.any() and (ink & (sample.positions[0] > 0)).sum() > 0.8 * ink.sum()


def test_the_hint_is_as_wide_as_the_word_it_stands_for():
    data = SceneDataset(epoch_length=24)
    shares = []
    for i in range(24):
        (line,), columns = data.scene(i).lines, np.flatnonzero(data[i].glyphs.any(axis=(0, 2)))
        shares.append((columns[-1] + 1 - columns[0]) / np.ptp(line.polygon[:, 0]))
    assert np.median(shares) > 0.93 and np.mean(np.array(shares) > 0.85) > 0.8  # one space more is too much for some


def test_items_depend_on_seed_split_and_index_only():
    first, again = SceneDataset(epoch_length=16, cache=False), SceneDataset(epoch_length=32, cache=True)
    again[9]
    for _ in range(2):  # the second time from the cache
        assert same(first[4], again[4]) and first[4].text_caption == again[4].text_caption
    assert not np.array_equal(SceneDataset(seed=1, epoch_length=16)[4].image, first[4].image)
    assert not np.array_equal(SceneDataset(split="test", epoch_length=16)[4].image, first[4].image)
    assert first[-1].index == 15


def test_only_the_dropped_captions_change_with_the_epoch():
    data = SceneDataset(epoch_length=40, caption_dropout=0.5)
    before = [data[i] for i in range(40)]
    data.set_epoch(1)
    after = [data[i] for i in range(40)]
    assert all(same(a, b) for a, b in zip(before, after, strict=True))
    dropped = [[sample.caption == "" for sample in samples] for samples in (before, after)]
    assert dropped[0] != dropped[1] and 8 < sum(dropped[0]) < 32


def test_samples_collate_and_the_record_tells_the_line():
    data = SceneDataset(epoch_length=4)
    batch = collate([data[i] for i in range(4)])
    assert batch.images.shape == (4, 3, 64, 192) and batch.glyphs.shape == (4, 1, 64, 192) and len(batch.lines) == 4
    scene = data.scene(2)
    (annotation,) = scene_record(scene).annotations
    assert annotation.text == batch.lines.texts[2] and annotation.color == scene.lines[0].color


@pytest.mark.parametrize("wrong", [{"split": "all"}, {"epoch_length": 0}, {"invented": 2.0}, {"caption_dropout": -1}])
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError):
        SceneDataset(**wrong)


def test_there_is_no_item_beyond_the_end():
    with pytest.raises(IndexError, match="item 4 of a data set of 4 scenes"):
        SceneDataset(epoch_length=4)[4]


def test_two_lines_chinese_words_and_twelve_fonts():
    data = SceneDataset(epoch_length=60, style=MIXED, two_lines=0.5, chinese=0.2, cache=False)
    scenes = [data.scene(i) for i in range(60)]
    lines = [line for scene in scenes for line in scene.lines]
    assert {len(scene.lines) for scene in scenes} == {1, 2}
    assert {line.language for line in lines} == {"Latin", "Chinese"}
    assert {line.font for line in lines if line.language == "Latin"} == set(MIXED.fonts)
    assert len({line.font for line in lines if line.language == "Chinese"}) > 1
    assert max(len(data[i].texts) for i in range(8)) == 2
    assert all(line.style["outline"] == 0 for line in lines if line.style["contrast"] >= MIXED.contrast)


def test_letters_of_any_colour_have_nothing_to_do_with_the_ground():
    data = SceneDataset(epoch_length=80, style=MIXED, cache=False)
    colours = np.array([data.scene(i).lines[0].color for i in range(80)])
    assert np.all(np.ptp(colours, axis=0) > 200)
    assert {int(np.argmax(c)) for c in colours if np.ptp(c) > 120} == {0, 1, 2}


def test_options_that_are_off_draw_nothing():
    plain, named = SceneDataset(epoch_length=4), SceneDataset(epoch_length=4, style=STYLE, two_lines=0.0, chinese=0.0)
    assert all(same(plain[i], named[i]) for i in range(4))
    assert SceneDataset(epoch_length=1, style="mixed").style is MIXED
    with pytest.raises(ValueError, match="there is no style 'odd': choose plain or mixed"):
        SceneDataset(epoch_length=1, style="odd")
    assert hashlib.sha256(plain.scene(1).image.tobytes()).hexdigest()[:16] == "81b7bdffeb21b9bf"


@pytest.mark.parametrize("split", SPLITS)
def test_chinese_words_have_two_characters_and_belong_to_their_split(split):
    rng = np.random.default_rng(1)
    words = [draw_chinese(rng, split, invented=0.5 if split == "train" else 0.0) for _ in range(200)]
    assert {len(word) for word in words} == {2} and {split_of(word) for word in words} == {split}
    assert split != "train" or {c for word in words for c in word} - {c for w in chinese_words_of("train") for c in w}
