"""Measures of what the mini model obeys: exact on true pictures, and wrong where the picture is wrong."""

import numpy as np
import pytest
import torch

from anytext_lib.ocr import Judge
from anytext_lib.recipes.abilities import border_step, letters, likeness, measure, nearest_font, single_lines, trimmed
from anytext_lib.scenes.lettering import render_line
from anytext_lib.scenes.scene_dataset import MIXED

QUAD = np.array([[8, 6], [180, 6], [180, 42], [8, 42]], float)


def page(text="Coffee", font="OpenSans", color=(200, 30, 40), background=(220, 230, 90)):
    return render_line(text, font, (48, 192), text_height=20, color=color, background=background, align="center")


@pytest.mark.parametrize(("color", "background"), [((200, 30, 40), (220, 230, 90)), ((250, 250, 250), (20, 40, 160)),
                                                   ((60, 130, 60), (150, 90, 130))])
def test_the_colour_of_letters_is_found_on_any_ground(color, background):
    found = letters(page(color=color, background=background), QUAD)
    np.testing.assert_allclose(found.color, color, atol=4)


def test_a_page_without_letters_has_none():
    assert letters(np.full((48, 192, 3), 128, np.uint8), QUAD) is None


@pytest.mark.parametrize("font", MIXED.fonts)
def test_every_font_is_nearest_to_itself(font):
    assert nearest_font(letters(page(font=font), QUAD).mask, "Coffee") == font


def test_likeness_and_trimming():
    square, wide = np.ones((32, 10), np.float32), np.ones((32, 20), np.float32)
    assert likeness(square, square) == 1 and likeness(square, wide) == 0.5
    assert trimmed(np.pad(np.ones((8, 4)), 5)).shape == (32, 16)


def test_the_step_at_a_border_is_that_of_its_neighbours():
    image, mask = np.full((6, 8, 3), 100, np.uint8), np.zeros((6, 8), bool)
    mask[2:4, 2:5] = True
    image[mask] = 130
    assert border_step(image, mask) == 30
    image[2, 2] = 100  # a corner: two of its four neighbours are outside
    assert border_step(image, mask) == pytest.approx(30 * 8 / 10)


def test_true_pictures_are_perfect_and_others_are_not():
    judges = {"ppocrv4": Judge.from_name("ppocrv4")}
    found = measure(lambda batch: batch.images, 6, "validation", judges)
    one = found["one line"]
    assert one["sen_acc"]["ppocrv4"]["mean"] >= 5 / 6 and one["font"]["mean"] >= 5 / 6
    assert one["color_error"]["mean"] < 3 and min(one["color_correlation"]) > 0.99
    assert found["edits"]["ratio"] == 1 and found["two lines"]["ppocrv4"]["mean"] >= 2 / 3
    wrong = single_lines(lambda batch: batch.images.flip(0).roll(1, 1), 6, "validation", judges)
    assert wrong["sen_acc"]["ppocrv4"]["mean"] < 0.5 and wrong["color_error"]["mean"] > 20
    blank = single_lines(lambda batch: torch.zeros_like(batch.images), 6, "validation", judges)
    assert blank["lines_without_letters"] == 6 and blank["font"]["mean"] == 0
