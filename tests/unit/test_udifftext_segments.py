"""Regions of single characters."""

from __future__ import annotations

import pytest
import torch

from anytext_lib.data import TextLines
from anytext_lib.udifftext.model import ManyWordsError, character_quads, character_segments, divisions, labels_of

BOX = torch.tensor([[10.0, 10], [90, 10], [90, 30], [10, 30]])


def words(*texts: str, image: tuple[int, ...] | None = None) -> TextLines:
    index = torch.tensor(image or range(len(texts)))
    return TextLines(index, BOX.repeat(len(texts), 1, 1), list(texts), ["Latin"] * len(texts))


def test_wide_letters_take_more_room():
    edges = divisions("iWi")
    assert edges[0] == 0 and edges[-1] == pytest.approx(1) and len(edges) == 4
    assert edges[2] - edges[1] > 2 * (edges[1] - edges[0])


def test_boxes_of_characters_fill_the_words_box():
    quads = character_quads(BOX, "tilt")
    assert quads.shape == (4, 4, 2)
    torch.testing.assert_close(quads[0, 0], BOX[0])
    torch.testing.assert_close(quads[-1, 2], BOX[2])
    torch.testing.assert_close(quads[:-1, 1], quads[1:, 0])  # one ends where the next begins


def test_a_tilted_box_is_divided_along_its_own_axis():
    turned = torch.stack([BOX[:, 1], BOX[:, 0]], dim=1)
    torch.testing.assert_close(character_quads(turned, "ab")[0].flip(-1), character_quads(BOX, "ab")[0])


def test_segments_and_what_is_valid():
    segments, valid = character_segments(words("abc", "WORD", image=(0, 2)), 3, (40, 100), 5)
    assert segments.shape == (3, 5, 40, 100) and valid.tolist() == [[1, 1, 1, 0, 0], [0] * 5, [1, 1, 1, 1, 0]]
    areas = segments.sum(dim=(2, 3))
    assert (areas[0, :3] > 300).all() and not areas[1].any() and areas[0, 3:].sum() == 0
    assert float(segments.sum(dim=1).max()) <= 2  # neighbours share at most an edge
    centres = (segments[2, :4] * torch.arange(100.0)).sum(dim=(1, 2)) / areas[2, :4]
    assert (centres.diff() > 10).all()


def test_one_word_an_image():
    assert labels_of(words("a", "b", image=(2, 0)), 3) == ["b", "", "a"]
    with pytest.raises(ManyWordsError, match="image 0 has the words 'a' and 'b'.*max_lines to 1"):
        character_segments(words("a", "b", image=(0, 0)), 1, (40, 100), 5)
