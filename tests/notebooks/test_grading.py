"""Learners' copies graded by `anytext course grade`, and their metadata held to nbgrader's rules."""

from __future__ import annotations

import csv
import json

import jsonschema
import nbformat
import pytest

from anytext_lib import cli
from anytext_lib.course.paths import notebooks_folder
from anytext_lib.publishing import grading, learners_copies, notebooks
from anytext_lib.publishing.exercises import exercises_of

CHECKS = """from anytext_lib.course.checks import expect, passed, result_of


def check_01_cube(function):
    expect(result_of("cube", function, 2) == 8, "a cube has three factors")
    passed("a cube")


def check_01_sum(function):
    expect(result_of("total", function, [1, 2]) == 3, "the sum of 1 and 2 is 3")
    passed("a sum")


def check_01_half(function):
    expect(result_of("half", function, 2) == 1, "the half of 2 is 1")
    passed("a half")


def check_01_product(function, factor):
    expect(function(2) == 2 * factor, "multiply")
    passed("a product")"""
ANSWERS = {"cube": "return x * x * x", "total": "return sum(x)", "half": "return x / 2", "product": "return 3 * x"}


def tiny(course, cells):
    """A course of one notebook with four exercises, and a second without answers; their learners' copies."""
    code, text = cells
    parts = [CHECKS]
    for name, right in ANSWERS.items():
        arguments = "total" if name == "total" else name
        call = f"check_01_{'sum' if name == 'total' else name}({arguments}{', factor' if name == 'product' else ''})"
        answer = f"def {name}(x):\n    ### BEGIN SOLUTION\n    {right}\n    ### END SOLUTION"
        parts += [text("### Exercise", "exercise"), code(answer, "solution"), code(call, "check")]
    course.add("01_lesson", *parts, "factor = 3", "print('the end')")
    answer = "x = ...\n### BEGIN SOLUTION\nx = 1\n### END SOLUTION"
    course.add("02_other", text("### Exercise", "exercise"), code(answer, "solution"), code("assert x == 1", "check"))
    learners_copies.write_copies(course.folder)
    return course.folder / "exercises"


def hand_in(copy, path, answers, change=lambda notebook: None):
    """Write a student's copy with some answers (exercise -> source of its cell)."""
    notebook = notebooks.read(copy)
    for exercise in exercises_of(notebook):
        exercise.answer.source = answers.get(exercise.name, exercise.answer.source)
    change(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(notebooks.as_text(notebook), encoding="utf-8")
    return path


def test_copies_run_to_the_end_and_each_exercise_is_reported(course, cells, tmp_path, capsys):
    copies, handed_in, out = tiny(course, cells), tmp_path / "handed in", tmp_path / "grades"

    def tamper(notebook):
        cube, total, *_ = exercises_of(notebook)
        total.check.source = "print('passed')"
        notebook.cells.remove(cube.check)

    answers = {"01_cube": "def cube(x):\n    return x ** 3", "01_sum": "def total(x):\n    return 4",
               "01_product": "def product(x):\n    return 3 * x"}
    hand_in(copies / "01_lesson.ipynb", handed_in / "Ann" / "01_lesson.ipynb", answers, tamper)
    hand_in(copies / "01_lesson.ipynb", handed_in / "Bo" / "week 1" / "01_lesson.ipynb", {})
    hand_in(copies / "02_other.ipynb", handed_in / "Bo" / "week 1" / "02_other.ipynb", {})
    (handed_in / "Bo" / "01_lesson.2026-01-01.ipynb").write_text("{}")
    assert cli.main(["course", "grade", str(handed_in), "--folder", str(course.folder), "--out", str(out),
                     "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    table = json.loads((out / grading.JSON).read_text(encoding="utf-8"))
    assert {name: (entry["status"], entry["hint"]) for name, entry in table["Ann"].items()} == {
        "01_cube": ("passed", ""), "01_sum": ("wrong", "the sum of 1 and 2 is 3"), "01_half": ("open", ""),
        "01_product": ("wrong", "the check ends with NameError: name 'factor' is not defined")}
    with (out / grading.CSV).open(encoding="utf-8") as file:
        ann, bo = csv.DictReader(file)
    assert (ann["student"], ann["01_cube"], ann["points"], ann["worth"]) == ("Ann", "passed", "1", "4")
    other = exercises_of(notebooks.read(copies / "02_other.ipynb"))[0].name
    assert (bo["01_cube"], bo[other], bo["points"], bo["worth"], ann[other]) == ("open", "open", "0", "5", "")
    assert "skipped 01_lesson.2026-01-01.ipynb" in said and "1 hold answers" in said
    assert "Ann · 01_lesson · 1 of 4" in said and "wrong        the sum of 1 and 2 is 3" in said
    executed = notebooks.read(out / "executed" / "Ann" / "01_lesson.ipynb")
    assert "the end" in str(executed.cells) and not (out / "executed" / "Bo").exists()


def executed_copy(course, cells, states, errors):
    """A copy as a run leaves it: the states and the errors of cells by the place of the code cell."""
    notebook = notebooks.read(tiny(course, cells) / "01_lesson.ipynb")
    exercises = exercises_of(notebooks.read(course.folder / "exercises" / "01_lesson.ipynb"))
    for exercise in exercises_of(notebook):
        exercise.answer.source = f"{exercise.name[3:]} = 1"
    for place, cell in enumerate(notebooks.code_cells(notebook)):
        cell.metadata["papermill"] = {"status": states(place)}
        if place in errors:
            name, message = errors[place]
            cell.outputs = [nbformat.v4.new_output("error", ename=name, evalue=message, traceback=[])]
    found = grading.verdicts(notebook, exercises, "out")
    return {verdict.exercise: (verdict.status, verdict.hint) for verdict in found}


def test_an_answer_without_end_is_wrong_and_what_comes_after_is_not_reached(course, cells):
    found = executed_copy(course, cells, lambda place: "completed" if place < 5 else "running" if place == 5 else
                          "pending", {})
    assert found["01_cube"] == ("passed", "")
    assert found["01_sum"] == ("wrong", "it does not come to an end: out")
    assert found["01_half"] == found["01_product"] == ("not reached", "out")


def test_what_hangs_on_a_cell_that_failed_is_not_reached(course, cells):
    errors = {2: ("ImportError", "no cv2"), 3: ("SyntaxError", "invalid (4797.py, line 1)\nmore"),
              4: ("NameError", "cube"), 6: ("NameError", "check_01_sum"), 8: ("Unanswered", "still missing"),
              10: ("NotYet", "multiply")}
    assert executed_copy(course, cells, lambda place: "completed", errors) == {
        "01_cube": ("wrong", "the answer's cell raises SyntaxError: invalid (line 1)"),
        "01_sum": ("not reached", "a cell before it raises ImportError: no cv2"),
        "01_half": ("open", ""), "01_product": ("wrong", "multiply")}


def test_cells_are_found_without_their_ids(course, cells, tmp_path):
    """Some front ends save an older form of notebooks, whose cells have no ids."""
    copy = tiny(course, cells) / "01_lesson.ipynb"
    content = json.loads(copy.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        del cell["id"]
    old = tmp_path / "01_lesson.ipynb"
    old.write_text(json.dumps(content | {"nbformat_minor": 4}), encoding="utf-8")
    exercises = exercises_of(notebooks.read(copy))
    assert len(exercises) == 4
    restored = grading.with_own_checks(notebooks.read(old), exercises)
    assert [exercise.check.id for exercise in exercises_of(restored)] == [e.check.id for e in exercises]
    assert all(grading.is_open(restored, exercise) for exercise in exercises)


def test_wrong_requests_are_explained(course, cells, tmp_path, capsys):
    copies = tiny(course, cells)

    def grade(*words):
        assert cli.main(["course", "grade", *map(str, words), "--folder", str(course.folder)]) == 2
        return capsys.readouterr().err

    assert "does not exist: name notebooks" in grade(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "There is no learner's copy" in grade(tmp_path / "empty")
    for place in ("a", "b"):
        hand_in(copies / "01_lesson.ipynb", tmp_path / "twice" / "Ann" / place / "01_lesson.ipynb", {})
    assert "Ann has handed in 01_lesson.ipynb twice" in grade(tmp_path / "twice")
    assert "There is no notebook '09'" in grade(copies, "--only", "09")
    assert "There is no profile 'slow'" in grade(copies, "--profile", "slow")
    assert "--jobs must be at least 1" in grade(copies, "--jobs", "0")


def test_only_some_notebooks_are_graded(course, cells, tmp_path):
    copies = tiny(course, cells)
    said: list[str] = []
    request = grading.GradeRequest([copies], ["02"], out=tmp_path / "out", folder=course.folder, device="cpu")
    assert grading.grade(request, lambda *parts, **_: said.append(" ".join(map(str, parts)))) == 0
    assert list(json.loads((tmp_path / "out" / grading.JSON).read_text())) == ["exercises"]
    assert "02_other" in "\n".join(said) and "01_lesson · " not in "\n".join(said)


def test_a_file_that_is_no_notebook_is_not_reached(course, cells, tmp_path):
    tiny(course, cells)
    path = tmp_path / "Ann" / "01_lesson.ipynb"
    path.parent.mkdir()
    path.write_text("not JSON")
    request = grading.GradeRequest([path], out=tmp_path / "out", folder=course.folder, device="cpu")
    assert grading.grade(request, lambda *_, **__: None) == 1
    found = json.loads((tmp_path / "out" / grading.JSON).read_text(encoding="utf-8"))["Ann"]
    assert {entry["status"] for entry in found.values()} == {"not reached"}
    assert "cannot be read as a notebook" in found["01_cube"]["hint"]


# ---- nbgrader's rules for the metadata of a cell (its version 3), and for a notebook as a whole

KIND = {"answer": {"grade": False, "solution": True, "locked": False},
        "check": {"grade": True, "solution": False, "locked": True}}
RULES = {
    "type": "object", "additionalProperties": False,
    "required": ["schema_version", "grade", "grade_id", "locked", "solution", "task"],
    "properties": {
        "schema_version": {"const": 3}, "grade_id": {"type": "string", "pattern": r"^[A-Za-z0-9_\-]+$"},
        "grade": {"type": "boolean"}, "locked": {"type": "boolean"}, "solution": {"type": "boolean"},
        "task": {"const": False}, "points": {"type": "number", "minimum": 0},
    },
    "if": {"properties": {"grade": {"const": True}}}, "then": {"required": ["points"]},
    "else": {"not": {"required": ["points"]}},
}


def test_rules_refuse_what_nbgrader_refuses():
    good = {"schema_version": 3, "grade_id": "a", "grade": True, "locked": True, "solution": False, "task": False,
            "points": 1}
    jsonschema.validate(good, RULES)
    for change in ({"grade_id": "a b"}, {"grade_id": ""}, {"points": -1}, {"grade": False}, {"schema_version": 2},
                   {"solution": 1}, {"title": "more"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(good | change, RULES)


def test_copies_of_the_course_hold_what_nbgrader_reads():
    names: list[str] = []
    for book in notebooks.find_books(notebooks_folder() / "exercises"):
        notebook = notebooks.read(book.path)
        exercises = exercises_of(notebook)
        marked = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
        assert len(exercises) >= 2 and len(marked) == 2 * len(exercises), book.name
        for exercise in exercises:
            for kind, cell in (("answer", exercise.answer), ("check", exercise.check)):
                metadata = cell.metadata["nbgrader"]
                jsonschema.validate(metadata, RULES)
                assert cell.cell_type == "code" and KIND[kind].items() <= metadata.items()
                names.append(metadata["grade_id"])
            assert exercise.check.metadata["nbgrader"]["grade_id"] == exercise.name
            assert exercise.name.startswith(book.number.rstrip("b")) and exercise.points > 0
    assert len(names) == len(set(names)) and len(names) > 80


def test_pages_themselves_are_not_marked():
    for book in notebooks.find_books(notebooks_folder()):
        assert '"nbgrader"' not in book.path.read_text(encoding="utf-8")
