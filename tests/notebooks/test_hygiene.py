"""The rules for published notebooks: each is seen to catch its fault, and the course keeps them all."""

from __future__ import annotations

import copy

import nbformat
import pytest

from anytext_lib.course import books, provenance
from anytext_lib.course.hygiene import check_course, check_notebook
from anytext_lib.course.paths import notebooks_folder
from anytext_lib.course.profiles import load_profiles

FOLDER = notebooks_folder()
LISTED = list(load_profiles(FOLDER).questions)
GOOD_COST = {"default.cpu": {"seconds": 12.3, "peak_memory_mib": 512, "threads": 2, "cpu": "Test CPU"}}


@pytest.mark.parametrize("number", LISTED)
def test_notebook_keeps_the_rules(number):
    (book,) = books.select(books.find_books(FOLDER), [number])
    assert check_notebook(book.path) == []


def test_course_keeps_the_rules():
    assert check_course(FOLDER) == []


def output(data: dict):
    """A display output."""
    return nbformat.v4.new_output("display_data", data=data)


def stream(text: str, name: str = "stdout"):
    """A stream output."""
    return nbformat.v4.new_output("stream", name=name, text=text)


def add_output(notebook, result) -> None:
    """Add an output to the last code cell."""
    books.code_cells(notebook)[-1].outputs.append(result)


@pytest.fixture(scope="module")
def good():
    """A notebook that keeps every rule."""
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    solution = "a = ...\n### BEGIN SOLUTION\na = 1\n### END SOLUTION"
    cells = [
        text(f"# 01 · Title\n\n{provenance.cost_line(GOOD_COST)}\n\nA question?"),
        code("n = 1  # how many", metadata={"tags": ["parameters"]}),
        code("explore(draw, t=[1])\nrecord('a', n)"),
        *(cell for _ in range(2) for cell in (
            text("### Exercise", metadata={"tags": ["exercise"]}),
            code(solution, metadata={"tags": ["solution"]}),
            code("check_01(a)", metadata={"tags": ["check"]}),
        )),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    for count, cell in enumerate(books.code_cells(notebook), start=1):
        cell.execution_count = count
    cells[2].outputs = [
        output({"text/html": '<img alt="A curve" src="data:image/png;base64,/tmp/aaaa">', "text/plain": "A curve"}),
        output({"application/vnd.anytext.record+json": {"name": "a", "value": 1, "unit": None}, "text/plain": "a = 1"}),
    ]
    provenance.clean(notebook)
    return notebook


def check(notebook, tmp_path, stamped: bool = True) -> list[str]:
    """The findings on a notebook written to a folder with costs."""
    if stamped:
        notebook.metadata["anytext"] = {"source_hash": provenance.source_hash(notebook)}
    (tmp_path / "baselines").mkdir()
    provenance.write_yaml(provenance.costs_path(tmp_path), {"01": GOOD_COST}, "")
    path = tmp_path / "01_test.ipynb"
    nbformat.write(notebook, path)
    return check_notebook(path)


def test_good_notebook_passes(good, tmp_path):
    assert check(copy.deepcopy(good), tmp_path) == []


def put(index: int, **changes):
    """A fault: change attributes of a cell."""
    return lambda notebook: notebook.cells[index].update(changes)


def show(result):
    """A fault: show something."""
    return lambda notebook: add_output(notebook, result)


FAULTS = {
    "title": (put(0, source="no title"), "must be markdown and begin with a title"),
    "cost": (put(0, source="# T\n\n**Cost:** 1 s."), "the line of cost below the title must be '**Cost:** 12 s on 2"),
    "comment": (put(1, source="n = 1"), "the parameter 'n' has no comment"),
    "literal": (put(1, source="n = f()  # x"), "must be a literal"),
    "no parameters": (lambda nb: nb.cells.pop(1), "needs one code cell tagged 'parameters', has 0"),
    "tag": (put(3, metadata={"tags": ["exercise", "funny"]}), "cell 4 has the unknown tag 'funny'"),
    "empty": (lambda nb: nb.cells.append(nbformat.v4.new_markdown_cell(" ")), "cell 10 is empty"),
    "long": (put(8, source="check_01(a)\n" * 31), "cell 9 has 31 lines"),
    "order": (put(8, execution_count=9), "was not executed from top to bottom"),
    "error": (show(nbformat.v4.new_output("error", ename="E", evalue="x", traceback=[])), "holds the error E: x"),
    "stderr": (show(stream("hm", "stderr")), "wrote to stderr: 'hm'"),
    "warning": (show(stream("x.py:3: UserWarning: beware")), "shows a warning: 'UserWarning: '"),
    "path": (show(stream("in /home/me/x.py")), "shows a path of a machine: '/home/me'"),
    "windows path": (show(output({"text/plain": r"C:\Users\me"})), "shows a path of a machine"),
    "bar": (show(stream(" 10%|#  |")), "shows a progress bar"),
    "bare figure": (show(output({"image/png": "AAAA"})), "figure without alternative text"),
    "empty alt": (show(output({"text/html": '<img alt=" " src="data:image/png;base64,AA">'})),
                  "figure without alternative text"),
    "markdown picture": (put(3, source="![](x.png)"), "cell 4 holds a picture without alternative text"),
    "widget": (show(output({"application/vnd.jupyter.widget-view+json": {"model_id": "1"}})), "holds widget state"),
    "widget metadata": (lambda nb: nb.metadata.update(widgets={}), "holds widget state"),
    "size": (show(stream("x" * 1_000_001)), "bytes large, at most 1,000,000"),
    "kernel": (lambda nb: nb.metadata.kernelspec.update(name="conda-env"), "kernel must be 'python3', is 'conda-env'"),
    "few exercises": (lambda nb: nb.cells.__delitem__(slice(6, 9)), "has 1 exercises with solutions"),
    "no check": (lambda nb: nb.cells.pop(), "solution cell 8 is not followed by a cell tagged 'check'"),
    "no text": (lambda nb: nb.cells.pop(6), "does not follow a markdown cell tagged 'exercise'"),
    "untagged": (put(7, metadata={}), "holds a solution but is not tagged"),
    "lost name": (put(7, source="### BEGIN SOLUTION\nb = 1\n### END SOLUTION"), "learners would lack 'b'"),
    "open mark": (put(7, source="### BEGIN SOLUTION\nb = 1"), "is never closed"),
    "explore": (put(2, source="record('a', n)"), "never calls explore()"),
    "record": (put(2, outputs=[]), "recorded nothing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(good, tmp_path, fault):
    notebook = copy.deepcopy(good)
    spoil, message = FAULTS[fault]
    spoil(notebook)
    found = check(notebook, tmp_path)
    assert any(message in finding for finding in found), found
    assert all(finding.startswith("01_test: ") for finding in found)


def test_stale_and_unstamped_outputs_are_found(good, tmp_path):
    notebook = copy.deepcopy(good)
    notebook.metadata["anytext"] = {"source_hash": provenance.source_hash(notebook)}
    notebook.cells[2].source += "  # changed"
    assert any("stale outputs" in finding for finding in check(notebook, tmp_path, stamped=False))
    del notebook.metadata["anytext"]
    nbformat.write(notebook, tmp_path / "01_test.ipynb")
    assert any("has no provenance" in finding for finding in check_notebook(tmp_path / "01_test.ipynb"))


def test_course_wide_faults_are_found(course):
    course.profiles({"quick": {"budget_seconds": 9, "notebooks": {"01": {"parameters": {"speed": 1}}}}})
    course.add("01_here")
    course.add("05_unlisted")
    found = "\n".join(check_course(course.folder))
    assert "profiles.yaml lists notebook 02, but there is no file 02_*.ipynb" in found
    assert "05_unlisted is not listed in profiles.yaml" in found
    assert "profile quick: 01_here has no parameter 'speed'" in found
    assert "exercises/01_here.ipynb is missing" in found
