"""Recorded numbers: what is accepted, what is shown, what is stored."""

from __future__ import annotations

import math

import nbformat
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from anytext_lib.course import record
from anytext_lib.course.record import MIME, Record, fold, records_of


@pytest.fixture(autouse=True)
def shell():
    """A shell, so that displayed data can be captured."""
    return InteractiveShell.instance()


def recorded(*arguments):
    """The data that one call of record displays."""
    with capture_output() as captured:
        record(*arguments)
    (output,) = captured.outputs
    return output.data


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (3, 3), (2.5, 2.5), (np.float32(0.5), 0.5), (np.int64(7), 7), (torch.tensor(1.5), 1.5),
        (torch.tensor([4]), 4), (np.array(0.25), 0.25), (torch.tensor(2.0, requires_grad=True), 2.0),
    ],
)
def test_numbers_of_all_kinds_are_stored_as_plain_ones(value, stored):
    data = recorded("x", value)
    assert data[MIME] == {"name": "x", "value": stored, "unit": None}
    assert type(data[MIME]["value"]) is type(stored)


def test_nothing_is_shown_to_readers():
    assert set(recorded("ocr.loss", 0.123456789)) == {MIME}


def test_text_is_readable():
    assert str(Record("ocr.loss", 0.123456789, None)) == "ocr.loss = 0.123457"
    assert str(Record("time", 12, "ms")) == "time = 12 ms"


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (math.nan, ValueError, "nan cannot be held to a baseline"),
        (torch.tensor(math.inf), ValueError, "inf cannot be held"),
        ("3", TypeError, "needs a number, got str '3'"),
        (True, TypeError, "needs a number, got bool"),
        (np.bool_(True), TypeError, "needs a number"),
        (torch.tensor(True), TypeError, "needs a number, got bool"),
        (None, TypeError, "needs a number, got NoneType"),
        (1j, TypeError, "needs a number, got complex"),
        (torch.zeros(3), TypeError, "needs one number, got 3"),
        (np.zeros((2, 2)), TypeError, "needs one number, got 4"),
        ([1], TypeError, "needs a number, got list"),
    ],
)
def test_what_is_no_finite_number_is_refused_by_name(value, error, message):
    with pytest.raises(error, match="'loss'") as caught:
        record("loss", value)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["", "two words", "1st", None, "a:b"])
def test_malformed_names_are_refused(name):
    with pytest.raises(ValueError, match="is no name"):
        record(name, 1)


def test_records_are_found_in_an_executed_notebook():
    cell = nbformat.v4.new_code_cell("...")
    for name in ("a", "b", "a"):
        data = {MIME: {"name": name, "value": 1, "unit": "s"}}
        cell.outputs.append(nbformat.v4.new_output("display_data", data=data))
    cell.outputs.append(nbformat.v4.new_output("stream", text="a = 5"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# x"), cell])
    assert records_of(notebook) == [Record("a", 1, "s"), Record("b", 1, "s"), Record("a", 1, "s")]
    assert Record("a", 1, "s").informative and not Record("a", 1, "px").informative


def output_of(name: str, value: float):
    """The output that `record` leaves."""
    return nbformat.v4.new_output("display_data", data={MIME: Record(name, value, None)._asdict()})


def test_folded_numbers_leave_the_outputs_and_are_still_found():
    cells = [nbformat.v4.new_code_cell("x", outputs=[output_of("a", 1), nbformat.v4.new_output("stream", text="said")]),
             nbformat.v4.new_markdown_cell("words"), nbformat.v4.new_code_cell("y", outputs=[output_of("b", 2.5)])]
    notebook = nbformat.v4.new_notebook(cells=cells)
    before = records_of(notebook)
    for _ in range(2):
        fold(notebook)
        nbformat.validate(notebook)
        assert records_of(notebook) == before == [Record("a", 1, None), Record("b", 2.5, None)]
    assert [len(cell.get("outputs", [])) for cell in notebook.cells] == [1, 0, 0]
    assert MIME not in nbformat.writes(notebook)


def test_number_of_a_cell_that_ran_again_replaces_the_folded_one():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[output_of("a", 1)])])
    fold(notebook)
    notebook.cells[0].outputs = [output_of("a", 3)]
    assert records_of(notebook) == [Record("a", 3, None)]
