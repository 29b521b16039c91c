from __future__ import annotations

import numpy as np
import pytest
import torch

from anytext_lib.data import BadLineError, BadLineWarning, TextLines, line_quad

BOX = [[10, 20], [50, 20], [50, 40], [10, 40]]


def two_lines() -> TextLines:
    return TextLines([0, 1], torch.tensor([BOX, BOX]).float(), ["a", "b"], ["Latin", "Chinese"])


def box_mask(left=10, top=20, right=50, bottom=40, size=(64, 96)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[top : bottom + 1, left : right + 1] = 255
    return mask


@pytest.mark.parametrize("kind", ["uint8 255", "uint8 1", "float", "bool", "tensor"])
def test_line_quad_reads_every_kind_of_mask(kind):
    mask = box_mask()
    mask = {"uint8 255": mask, "uint8 1": mask // 255, "float": mask / 255.0, "bool": mask > 0,
            "tensor": torch.from_numpy(mask / 255.0)}[kind]
    assert line_quad(mask).tolist() == BOX


@pytest.mark.parametrize(("mask", "words"), [
    (np.zeros((32, 32)), "empty"),
    (box_mask(5, 5, 5, 5), "no area"),
    (box_mask(5, 5, 40, 5), "no area"),
])
def test_line_quad_says_why_a_mask_has_no_box(mask, words):
    with pytest.raises(BadLineError, match=words):
        line_quad(mask)


def test_line_quad_refuses_a_batch():
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        line_quad(np.zeros((1, 32, 32)))


def test_from_masks_raises_or_skips_with_a_count():
    masks = [box_mask(), np.zeros((64, 96))]
    with pytest.raises(BadLineError, match=r"line 1 \('b', image 0\).*empty.*on_bad_line"):
        TextLines.from_masks(masks, [0, 0], ["a", "b"], ["Latin"] * 2)
    with pytest.warns(BadLineWarning, match="skipped 1 of 2 lines"):
        lines = TextLines.from_masks(masks, [0, 0], ["a", "b"], ["Latin"] * 2, on_bad_line="skip")
    assert lines.texts == ["a"] and len(lines.skipped) == 1 and lines.quads.tolist() == [BOX]
    with pytest.raises(ValueError, match="on_bad_line is one of"):
        TextLines.from_masks(masks, [0, 0], ["a", "b"], ["Latin"] * 2, on_bad_line="ignore")


def test_from_polygons_agrees_with_masks():
    lines = TextLines.from_polygons([BOX], [0], ["a"], ["Latin"], size=(64, 96))
    assert lines.quads.tolist() == [BOX]
    with pytest.raises(BadLineError, match="three"):
        TextLines.from_polygons([BOX[:2]], [0], ["a"], ["Latin"], size=(64, 96))
    with pytest.raises(BadLineError, match="not finite"):
        TextLines.from_polygons([[[0, 0], [5, float("nan")], [5, 5]]], [0], ["a"], ["Latin"], size=(64, 96))


def test_select_cat_and_for_image():
    lines = two_lines()
    assert lines.select([1, 0]).texts == ["b", "a"]
    assert lines.select(torch.tensor([False, True])).languages == ["Chinese"]
    assert TextLines.cat([lines, lines.select([1])]).image_index.tolist() == [0, 1, 1]
    assert lines.for_image(1).texts == ["b"] and lines.for_image(1).image_index.tolist() == [0]
    assert len(TextLines.empty()) == len(TextLines.cat([])) == 0


def test_lines_must_agree_in_number():
    with pytest.raises(ValueError, match="do not agree in number"):
        TextLines([0], torch.zeros(2, 4, 2), ["a"], ["Latin"])
