"""Feedback on exercises: the helpers that all checks use."""

from __future__ import annotations

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from anytext_lib.course.checks import (
    NotYet,
    answered,
    as_number,
    expect,
    expect_int,
    expect_tensor,
    expect_value,
    is_unanswered,
    is_untouched,
    passed,
    result_of,
)


def test_untouched_exercises_are_recognised():
    assert is_unanswered(...) and is_unanswered(None)
    assert not any(is_unanswered(value) for value in (0, False, "", [], 0.0))
    assert answered(0, "x") == 0
    with pytest.raises(NotYet, match="the ratio is still missing: replace `...`"):
        answered(..., "the ratio")


def test_an_untouched_function_is_told_from_one_without_return():
    def untouched(x):
        """Says what is wanted."""
        ...

    def forgetful(x):
        x + 1

    assert is_untouched(untouched) and not is_untouched(forgetful) and not is_untouched(len)
    with pytest.raises(NotYet, match="what f returns is still missing: replace"):
        result_of("f", untouched, 1)
    with pytest.raises(NotYet, match="f returns nothing .* `return` missing"):
        result_of("f", forgetful, 1)
    assert result_of("f", max, 1, 2) == 2 and result_of("f", lambda x: 0, 1) == 0


def test_a_value_gets_the_hint_of_its_mistake():
    mistakes = {"upside down": torch.tensor([0.5, 0.25]), "too large": torch.tensor([4.0, 8.0])}
    right = torch.tensor([2.0, 4.0])
    expect_value(right + 1e-6, right, mistakes, "no")
    for wrong, hint in ((1 / right, "upside down"), (2 * right, "too large"), (right + 1, "^no$"), (right[:1], "^no$")):
        with pytest.raises(NotYet, match=hint):
            expect_value(wrong, right, mistakes, "no")
    expect_value(2.0, 2, {"twice": 4}, "no", 0.0, 1e-6)
    with pytest.raises(NotYet, match="twice"):
        expect_value(4.001, 2, {"twice": 4}, "no", 0.0, 0.1)


def test_errors_of_an_answer_are_one_line_with_the_place():
    def answer(x):
        return x @ torch.ones(7)

    with pytest.raises(NotYet) as caught:
        result_of("product", answer, torch.ones(3, 3))
    said = str(caught.value)
    assert said.startswith("product raises RuntimeError in the line `return x @ torch.ones(7)`: ") and "\n" not in said
    assert isinstance(caught.value.__cause__, RuntimeError), "the whole error stays at hand"
    with pytest.raises(NotYet, match="^count again$"):
        result_of("product", answer, torch.ones(3, 3), hints={"size mismatch": "count again"})
    with pytest.raises(NotYet, match=r"f raises ValueError: x{157}\.\.\.$"):
        result_of("f", eval, "exec('raise ValueError(\"x\" * 500 + chr(10) + \"more\")')")


def test_numbers_and_shapes_are_asked_for_in_words():
    assert as_number(torch.tensor(2.5), "x") == 2.5
    for value in ("many", [1], torch.ones(2)):
        with pytest.raises(NotYet, match="the share should be one number"):
            as_number(value, "the share")
    for value in (True, 2.0, torch.tensor(2)):
        with pytest.raises(NotYet, match="Return the step as an int"):
            expect_int(value, "the step")
    with pytest.raises(NotYet, match=r"A row\. Yours has the shape \(2, 3\), wanted is \(3,\)"):
        expect_tensor(torch.ones(2, 3), (3,), "A row.")


def test_expect_gives_the_hint_and_passed_the_tick(capsys):
    expect(True, "unseen")
    with pytest.raises(NotYet, match="try the other sign"):
        expect(False, "try the other sign")
    passed("well done")
    assert capsys.readouterr().out == "✓ well done\n"


def test_jupyter_shows_the_hint_alone(capsys):
    shell = InteractiveShell.instance()
    result = shell.run_cell("from anytext_lib.course.checks import NotYet\nraise NotYet('count again')")
    assert isinstance(result.error_in_exec, NotYet) and isinstance(result.error_in_exec, AssertionError)
    said = capsys.readouterr()
    assert (said.out + said.err).strip() == "✗ Not yet: count again"
