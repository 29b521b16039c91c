"""Two processes with half the batch each (DDP) do what one process does: same loss, same gradients, same weights."""

from __future__ import annotations

import pytest
import torch

from tests.unit.two_processes import assert_same, results, together, train

CASES = ("full", "blank", "uneven")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What one process with four pictures and two with two each computed."""
    folder = tmp_path_factory.mktemp("ddp")
    together((train, "ddp", str(folder / "two"), *CASES))
    train("alone", str(folder / "one"), *CASES)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(folder, case):
    (one,), two = results(folder / "one", case, 1), results(folder / "two", case)
    assert_same(one, two)
    assert len(one["gradients"]) == (2 if case == "uneven" else 1)


def test_seven_pictures_and_an_accumulation_of_two(folder):
    """Three batches in each process, the seventh picture is left out; the second step has one batch, pulled as hard."""
    (one,), two = results(folder / "one", "uneven", 1), results(folder / "two", "uneven")
    assert len(one["names"]) == 6 and [len(part["loss"]) for part in two] == [3, 3]


def test_a_process_without_lines_takes_part(folder):
    first, second = results(folder / "two", "blank")
    assert first["lines"] > [0] and second["lines"] == [0] and first["loss"] != second["loss"]
    assert all(torch.equal(value, second["gradients"][0][name]) for name, value in first["gradients"][0].items())
