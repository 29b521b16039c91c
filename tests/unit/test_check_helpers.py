"""Feedback on exercises: the helpers that all checks use."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell

from anytext_lib.course.checks import NotYet, answered, expect, is_unanswered, passed


def test_untouched_exercises_are_recognised():
    assert is_unanswered(...) and is_unanswered(None)
    assert not any(is_unanswered(value) for value in (0, False, "", [], 0.0))
    assert answered(0, "x") == 0
    with pytest.raises(NotYet, match="the ratio is still missing: replace `...`"):
        answered(..., "the ratio")


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
