"""Captions, position masks and font hints: what a sample tells besides the glyphs."""

import numpy as np
import pytest

from anytext_lib.data import BadLineError
from anytext_lib.data.hints import (
    JITTER,
    PHRASES,
    count_words,
    draw_jitter,
    font_hint,
    image_caption,
    position_mask,
    text_caption,
)
from anytext_lib.scenes import render_line

SIZE = (64, 192)
IMAGE = render_line("Garden", "RobotoSlab", SIZE)
WHOLE = np.array([[4, 4], [188, 4], [188, 60], [4, 60]])


def rng(seed=0):
    return np.random.default_rng(seed)


def test_strokes_are_the_letters():
    hint = font_hint(IMAGE, WHOLE, rng(), (1, 1))
    dark = IMAGE.mean(axis=2) < 120
    inside = np.zeros(SIZE, bool)
    inside[4:61, 4:189] = True
    assert hint.shape == SIZE and hint.dtype == np.uint8 and set(np.unique(hint)) == {0, 1}
    assert hint[dark & inside].mean() > 0.6 and hint[~dark].mean() < 0.1


def test_nothing_outside_the_polygon():
    part = np.array([[60, 10], [120, 20], [115, 50], [55, 40]])
    hint = font_hint(IMAGE, part, rng(), (1, 1), augment=True)
    assert hint.any() and not hint[:, :55].any() and not hint[:, 121:].any() and not hint[51:].any()


@pytest.mark.parametrize("kept", [0.4, 0.7])
def test_the_erased_share_is_one_piece_across_the_line(kept):
    noise = rng(3).integers(0, 256, (64, 192, 3)).astype(np.uint8)
    for seed in range(5):
        hint = font_hint(noise, WHOLE, rng(seed), (kept, kept))
        empty = np.flatnonzero(~hint.any(axis=0)[4:189])
        assert len(empty) == pytest.approx((1 - kept) * 185, abs=3) and np.ptp(empty) == len(empty) - 1


@pytest.mark.parametrize("height, width", [(64, 192), (512, 512)])
def test_augmentation_moves_the_content_a_little(height, width):
    image = render_line("Garden", size=(height, width))
    polygon = np.array([[2, 2], [width - 3, 2], [width - 3, height - 3], [2, height - 3]])
    plain, moved, again = (font_hint(image, polygon, rng(1), (1, 1), augment) for augment in (False, True, True))
    assert (moved == again).all() and (moved != plain).any()
    assert int(moved.sum()) == pytest.approx(int(plain.sum()), rel=0.35)


@pytest.mark.parametrize("polygon", [
    [[-40, -10], [-20, -10], [-20, 20], [-40, 20]], [[5, 5], [6, 5], [6, 6], [5, 6]],
    [[150, 40], [400, 40], [400, 90], [150, 90]]])
@pytest.mark.parametrize("augment", [False, True])
def test_polygons_outside_or_tiny(polygon, augment):
    assert font_hint(IMAGE, np.array(polygon), rng(), (0.7, 1), augment).shape == SIZE


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


BOX = np.array([[20, 20], [99, 20], [99, 59], [20, 59]])  # 80 x 40 pixels


def test_shares_of_the_jitter():
    rng = np.random.default_rng(0)
    steps = [draw_jitter(rng) for _ in range(8000)]
    assert sum(share for share, _ in JITTER) == pytest.approx(1)
    for share, step in ((0.7, 0), (0.1, 1), (0.1, -1), (0.05, 2), (0.05, -2)):
        assert np.mean(np.equal(steps, step)) == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize("steps", [-2, -1, 0, 1, 2])
def test_a_step_moves_the_border_by_one_pixel(steps):
    mask = position_mask(BOX, (100, 120), steps)
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    assert np.ptp(np.flatnonzero(mask.any(axis=0))) + 1 == 80 + 2 * steps
    assert np.ptp(np.flatnonzero(mask.any(axis=1))) + 1 == 40 + 2 * steps


@pytest.mark.parametrize("height", [1, 5, 19])
def test_small_boxes_are_dilated_but_never_eroded(height):
    box = BOX * 1.0
    box[2:, 1] = 20 + height
    plain = position_mask(box, (100, 120))
    for steps in (-1, -2):
        assert (position_mask(box, (100, 120), steps) == plain).all()
    assert position_mask(box, (100, 120), 2).sum() > plain.sum()


def test_no_mask_is_eroded_away():
    zigzag = np.array([[10, 10], [60, 10], [60, 12], [12, 12], [12, 60], [10, 60]])  # two thin bars, a large rectangle
    assert position_mask(zigzag, (80, 80), -2).any()


def test_errors():
    with pytest.raises(BadLineError, match="three"):
        position_mask(BOX[:2], (80, 80))
    with pytest.raises(BadLineError, match="finite"):
        position_mask(BOX * np.nan, (80, 80))
