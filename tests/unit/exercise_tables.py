"""Tables of right and wrong answers to the course's exercises, and the tests that a table stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from anytext_lib.course.checks import NotYet


class Exercise(NamedTuple):
    """One exercise: its check, at least three right answers, at least five wrong ones, each with its hint (a regex)."""

    check: Callable
    right: list[Any]
    wrong: list[tuple[str, Any]]
    a_function: bool = True  # whether the answer is a function (or a value)


def untouched(*_):
    """What an untouched exercise defines."""
    ...


def without_return(*_):
    print("the answer")


def failing(*_):
    return 1 / 0


def exercise_tests(*exercises: Exercise) -> tuple[Callable, Callable, Callable]:
    """(test_right, test_wrong, test_no_answer) of a file's exercises, for pytest to collect."""
    for check, right, wrong, _ in exercises:
        assert len(right) >= 3 and len(wrong) >= 5, f"{check}: three right answers and five wrong ones are wanted"

    @pytest.mark.parametrize(("check", "answer"), [(e.check, answer) for e in exercises for answer in e.right])
    def test_right(check, answer, capsys):
        check(answer)
        assert capsys.readouterr().out.count("✓") == 1

    @pytest.mark.parametrize(("check", "hint", "answer"), [(e.check, *row) for e in exercises for row in e.wrong])
    def test_wrong(check, hint, answer):
        with pytest.raises(NotYet, match=hint):
            check(answer)

    slips = [(untouched, "still missing: replace `...`"), (None, "still missing"),
             (without_return, "is a `return` missing"),
             (failing, "raises ZeroDivisionError in the line `return 1 / 0`"), (7, "a function is wanted")]
    missing = [(..., "still missing: replace `...`"), (None, "still missing")]

    @pytest.mark.parametrize(("check", "answer", "hint"), [
        (e.check, *row) for e in exercises for row in (slips if e.a_function else missing)])
    def test_no_answer(check, answer, hint):
        with pytest.raises(NotYet, match=hint):
            check(answer)

    return test_right, test_wrong, test_no_answer
