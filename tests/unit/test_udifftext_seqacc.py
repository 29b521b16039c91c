"""SeqAcc: the whole word, upper and lower case alike."""

from __future__ import annotations

import math

import pytest
import torch

from anytext_lib.data import TextLines
from anytext_lib.udifftext import measure_sequence_accuracy, same_word, sequence_accuracy, upright_boxes


@pytest.mark.parametrize("read, wanted, same", [
    ("Cat", "cAT", True), ("cat", "cats", False), ("cat", "cat ", False), ("", "a", False), ("", "", True),
    ("c-at", "cat", False)])
def test_one_word(read, wanted, same):
    assert same_word(read, wanted) is same


def test_share_of_words():
    assert sequence_accuracy(["Hello", "WORLD", "helo"], ["HELLO", "world", "hello"]) == pytest.approx(2 / 3)
    assert math.isnan(sequence_accuracy([], []))
    with pytest.raises(ValueError, match="one word read for each word wanted"):
        sequence_accuracy(["a"], ["a", "b"])


def test_pictures_are_cut_by_upright_boxes_and_read():
    class Judge:
        def read(self, crops):
            self.shape = tuple(crops.shape)
            return ["ONE", "tow"]

    quads = torch.tensor([[[10.0, 20], [50, 10], [54, 22], [14, 32]], [[5, 40], [45, 40], [45, 56], [5, 56]]])
    lines = TextLines(torch.tensor([0, 1]), quads, ["one", "two"], ["Latin"] * 2)
    boxes = upright_boxes(lines)
    assert boxes.quads[0].tolist() == [[10, 10], [54, 10], [54, 32], [10, 32]]
    assert torch.equal(boxes.quads[1], quads[1])
    judge = Judge()
    accuracy, read = measure_sequence_accuracy(torch.zeros(2, 3, 64, 64), lines, judge)
    assert accuracy == 0.5 and read == ["ONE", "tow"] and judge.shape == (2, 3, 48, 320)
    nothing, read = measure_sequence_accuracy(torch.zeros(2, 3, 64, 64), TextLines.empty(), judge)
    assert math.isnan(nothing) and read == []
