"""Learners' copies: no solutions, checks kept, never out of date."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from anytext_lib.course.paths import notebooks_folder
from anytext_lib.errors import CourseError
from anytext_lib.publishing import learners_copies, notebooks

SOLUTION = "def cube(x):\n    ### BEGIN SOLUTION\n    y = x * x\n    return y * x\n    ### END SOLUTION"


def test_solution_becomes_a_placeholder_at_its_indentation():
    assert learners_copies.strip_solutions(SOLUTION, "01") == "def cube(x):\n    ...  # your answer"
    assert learners_copies.strip_solutions("a = 1", "01") == "a = 1"


def test_place_for_an_answer_at_the_end_of_a_cell_shows_nothing():
    source = learners_copies.strip_solutions("a = ...\n### BEGIN SOLUTION\na = 1\n### END SOLUTION", "01")
    assert source == "a = ...\n# your answer"
    with capture_output() as captured:
        InteractiveShell.instance().run_cell(source)
    assert captured.stdout == "" and captured.outputs == []


@pytest.mark.parametrize("source", ["### BEGIN SOLUTION\nx = 1", "x = 1\n### END SOLUTION",
                                    "### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION"])
def test_marks_that_do_not_pair_are_refused(source):
    with pytest.raises(CourseError, match="01_x"):
        learners_copies.strip_solutions(source, "01_x")


def test_names_that_learners_would_lack():
    inside = "### BEGIN SOLUTION\nanswer = 42\n### END SOLUTION"
    assert learners_copies.names_lost(inside, "01") == {"answer"}
    assert learners_copies.names_lost("answer = ...\n" + inside, "01") == set()
    assert learners_copies.names_lost(SOLUTION, "01") == set()


def test_copy_hides_answers_keeps_checks_and_waits_to_be_run(course, cells):
    code, text = cells
    path = course.add(
        "01_lesson", "record('a', 1)",
        text("### Exercise\nSee [data](../data), [there](02_next.ipynb) and `[x](../y)`, https://a.b/c.", "exercise"),
        code(SOLUTION, "solution"), code("assert cube(2) == 8, 'not yet'", "check"),
    )
    assert course.run(in_place=True) == 0
    missing = "exercises/01_lesson.ipynb is missing; run `anytext course exercises`"
    assert learners_copies.stale_copies(course.folder) == [missing]
    (written,) = learners_copies.write_copies(course.folder)
    copied = notebooks.read(written)
    whole = written.read_text(encoding="utf-8")
    assert "return y * x" not in whole and "...  # your answer" in whole and "assert cube(2) == 8" in whole
    assert all(not cell.outputs and cell.execution_count is None for cell in notebooks.code_cells(copied))
    assert "](../../data)" in whole and "](../01_lesson.ipynb)" in whole and "](../02_next.ipynb)" in whole
    assert "`[x](../y)`, https://a.b/c." in whole and "**Pages:** [the page with results](../01_lesson.ipynb)" in whole
    assert "anytext" not in copied.metadata and "**Cost:**" not in whole
    assert learners_copies.stale_copies(course.folder) == []
    source = path.read_text(encoding="utf-8").replace("'not yet'", "'try again'")
    path.write_text(source, encoding="utf-8")
    (written.parent / "09_gone.ipynb").write_text("{}")
    assert learners_copies.stale_copies(course.folder) == [
        "exercises/01_lesson.ipynb is out of date; run `anytext course exercises`",
        "exercises/09_gone.ipynb belongs to no notebook; run `anytext course exercises`",
    ]
    learners_copies.write_copies(course.folder)
    assert learners_copies.stale_copies(course.folder) == []


def test_copies_of_the_course_are_up_to_date():
    assert learners_copies.stale_copies(notebooks_folder()) == []
