"""The rules for published notebooks: each is seen to catch its fault, and the course keeps them all."""

from __future__ import annotations

import copy

import nbformat
import pytest

from anytext_lib.course.paths import notebooks_folder
from anytext_lib.publishing import learners_copies, notebooks, pages, provenance
from anytext_lib.publishing.notebooks import load_profiles
from anytext_lib.publishing.rules import cell_form, check_course, check_notebook, lines_of_code

FOLDER = notebooks_folder()
LISTED = list(load_profiles(FOLDER).questions)
GOOD_COST = {"default.cpu": {"seconds": 12.3, "cpu_seconds": 20.0, "peak_memory_mib": 512, "threads": 2, "cpu": "X"}}


@pytest.mark.parametrize("number", LISTED)
def test_notebook_keeps_the_rules(number):
    (book,) = notebooks.select(notebooks.find_books(FOLDER), [number])
    assert check_notebook(book.path) == []


def test_course_keeps_the_rules():
    assert check_course(FOLDER) == []


def output(data: dict, metadata: dict | None = None):
    """A display output."""
    return nbformat.v4.new_output("display_data", data=data, metadata=metadata or {})


def stream(text: str, name: str = "stdout"):
    """A stream output."""
    return nbformat.v4.new_output("stream", name=name, text=text)


def add_output(notebook, result) -> None:
    """Add an output to the last code cell."""
    notebooks.code_cells(notebook)[-1].outputs.append(result)


ALT = {"image/png": {"alt": "A curve", "width": 400}, "vscode_altText": "A curve"}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
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
    for count, cell in enumerate(notebooks.code_cells(notebook), start=1):
        cell.execution_count = count
    cells[2].outputs = [
        output({"image/png": "/tmp/aaaa", "text/plain": "A curve"}, ALT), output({"text/markdown": "*A curve*"}),
        output({"application/vnd.anytext.record+json": {"name": "a", "value": 1, "unit": None}}),
    ]
    folder = tmp_path_factory.mktemp("good")
    path = written(notebook, folder)
    pages.finish(notebook, notebooks.Book(path), notebooks.find_books(folder))
    return notebook


def written(notebook, folder):
    """The path of a notebook, written into a course of one page with costs and a learner's copy."""
    for name in ("baselines", "exercises"):
        (folder / name).mkdir()
    provenance.write_yaml(provenance.costs_path(folder), {"01": GOOD_COST}, "")
    (folder / "profiles.yaml").write_text('notebooks: {"01": "?"}\nprofiles: {}\n', encoding="utf-8")
    (folder / "exercises" / "01_test.ipynb").touch()
    nbformat.write(notebook, folder / "01_test.ipynb")
    return folder / "01_test.ipynb"


def check(notebook, tmp_path, stamped: bool = True) -> list[str]:
    """The findings on a notebook written to a folder with costs."""
    if stamped:
        notebook.metadata.setdefault("anytext", {})["source_hash"] = provenance.source_hash(notebook)
    return check_notebook(written(notebook, tmp_path))


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
    "cost": (put(0, source="# T\n\n**Cost:** 1 s."), "has another line of cost than the recorded costs give (first in"),
    "comment": (put(1, source="n = 1"), "the parameter 'n' has no comment"),
    "literal": (put(1, source="n = f()  # x"), "must be a literal"),
    "no parameters": (lambda nb: nb.cells.pop(1), "needs one code cell tagged 'parameters', has 0"),
    "tag": (put(3, metadata={"tags": ["exercise", "funny"]}), "cell 4 has the unknown tag 'funny'"),
    "empty": (lambda nb: nb.cells.append(nbformat.v4.new_markdown_cell(" ")), "cell 10 is empty"),
    "long": (put(8, source="check_01(a)\n" * 16), "cell 9 has 16 lines of code; at most 15"),
    "long plot": (put(8, source="show(a)\n" * 21), "cell 9 has 21 lines of code; at most 15, or 20 with a plot"),
    "order": (put(8, execution_count=9), "was not executed from top to bottom"),
    "error": (show(nbformat.v4.new_output("error", ename="E", evalue="x", traceback=[])), "holds the error E: x"),
    "stderr": (show(stream("hm", "stderr")), "wrote to stderr: 'hm'"),
    "warning": (show(stream("x.py:3: UserWarning: beware")), "shows a warning: 'UserWarning: '"),
    "path": (show(stream("in /home/me/x.py")), "shows a path of a machine: '/home/me'"),
    "windows path": (show(output({"text/plain": r"C:\Users\me"})), "shows a path of a machine"),
    "bar": (show(stream(" 10%|#  |")), "shows a progress bar"),
    "failed check": (show(stream("✓ fonts\n✗ sample data  has changed")), "holds a failed check: '✗ sample data"),
    "hint": (show(stream("Not yet: count again")), "holds a failed check: 'Not yet: count"),
    "bare figure": (show(output({"image/png": "AAAA"})), "figure without alternative text"),
    "empty alt": (show(output({"image/png": "AAAA"}, {"image/png": {"alt": " "}, "vscode_altText": "x"})),
                  "figure without alternative text"),
    "no alt for vs code": (show(output({"image/png": "AAAA"}, {"image/png": {"alt": "x"}})),
                           "figure without alternative text"),
    "other picture": (show(output({"image/svg+xml": "<svg>"}, ALT)), "figure without alternative text"),
    "html figure": (show(output({"text/html": '<img alt="x" width="9" src="data:image/png;base64,AAAA">'})),
                    "holds figures that are HTML, which many viewers hide"),
    "html picture": (show(output({"text/html": "<p><img src='x.png'></p>"})), "shows a picture as HTML"),
    "record": (show(output({"application/vnd.anytext.record+json": {"name": "b", "value": 1}})),
               "shows recorded numbers among its outputs"),
    "mention": (put(3, source="As arXiv 2411.15245 says", metadata={"tags": ["exercise"]}),
                "mentions notebooks or papers without a link (first in '\"As arXiv 2411.15245 says\"')"),
    "dead link": (put(3, source="See [this](../gone.md)", metadata={"tags": ["exercise"]}),
                  "cell 4 has a link to '../gone.md', where there is nothing"),
    "navigation": (lambda nb: nb.cells[0].update(source=nb.cells[0].source.replace("**Pages:**", "Pages:")),
                   "lacks the links to the pages around it"),
    "metadata": (lambda nb: nb.metadata.language_info.update(name="R"), "has other metadata than JupyterLab would"),
    "table": (lambda nb: nb.cells[3].metadata.tags.append("map"), "has another table of pages than"),
    "markdown picture": (put(3, source="![](x.png)"), "cell 4 holds a picture without alternative text"),
    "widget": (show(output({"application/vnd.jupyter.widget-view+json": {"model_id": "1"}})), "holds widget state"),
    "widget metadata": (lambda nb: nb.metadata.update(widgets={}), "holds widget state"),
    "size": (show(stream("x" * 2_000_001)), "bytes large, at most 2,000,000"),
    "kernel": (lambda nb: nb.metadata.kernelspec.update(name="conda-env"), "kernel must be 'python3', is 'conda-env'"),
    "few exercises": (lambda nb: nb.cells.__delitem__(slice(6, 9)), "has 1 exercises with solutions"),
    "no check": (lambda nb: nb.cells.pop(), "solution cell 8 is not followed by a cell tagged 'check'"),
    "no text": (lambda nb: nb.cells.pop(6), "does not follow a markdown cell tagged 'exercise'"),
    "untagged": (put(7, metadata={}), "holds a solution but is not tagged"),
    "lost name": (put(7, source="### BEGIN SOLUTION\nb = 1\n### END SOLUTION"), "learners would lack 'b'"),
    "open mark": (put(7, source="### BEGIN SOLUTION\nb = 1"), "is never closed"),
    "explore": (put(2, source="record('a', n)"), "never calls explore()"),
    "no record": (lambda nb: nb.metadata.anytext.pop("records"), "recorded nothing"),
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
    notebook.metadata["anytext"] |= {"source_hash": provenance.source_hash(notebook)}
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


def test_cost_that_was_never_recorded_is_found(good, tmp_path):
    path = written(copy.deepcopy(good), tmp_path)
    provenance.costs_path(tmp_path).unlink()
    assert "01_test: has no recorded cost; run `anytext course run --in-place`" in check_notebook(path)


def test_copies_with_dead_links_and_an_old_readme_are_found(course, cells):
    code, text = cells
    course.add("01_page", "record('a', 1)", text("[more](../gone.md)"))
    course.add("02_page", "record('a', 1)")
    (course.folder.parent / "README.md").write_text("| 01 | old |\n| 02 | old |\n", encoding="utf-8")
    learners_copies.write_copies(course.folder)
    found = check_course(course.folder)
    assert "exercises/01_page: cell 5 has a link to '../../gone.md', where there is nothing" in found
    assert "README.md: its table of notebooks is out of date; run `anytext course check --fix`" in found


def test_lines_of_code_are_no_comments_and_no_docstrings():
    source = 'def f(x):  # of x\n    """Twice\n    x."""\n\n    # a comment\n    text = "# none"\n    return 2 * x'
    assert lines_of_code(source) == 3


def test_cells_of_the_course_are_short():
    long = [message for path in sorted(FOLDER.glob("*.ipynb"))
            for message in cell_form(notebooks.read(path), path) if "lines of code" in message]
    assert long == []
