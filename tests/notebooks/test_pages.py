"""The form of published pages: given without running them, kept by a second pass, shown by every viewer."""

from __future__ import annotations

import copy
import re
import warnings

import nbformat
import pytest
from nbconvert import HTMLExporter

from anytext_lib.cli import main
from anytext_lib.course.record import MIME, Record, records_of
from anytext_lib.publishing import contents, notebooks, pages, provenance
from anytext_lib.publishing.rules import check_notebook

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
SHOW = "import matplotlib.pyplot as plt\nfrom anytext_lib.course import show\n" \
       "show(plt.figure(figsize=(1, 1)), alt='A white square. Nothing on it.')"


def display(data: dict, metadata: dict | None = None):
    """A display output."""
    return nbformat.v4.new_output("display_data", data=data, metadata=metadata or {})


@pytest.fixture
def old(course, cells):
    """A course of three pages as they were once published: figures in HTML, records and a widget among the outputs."""
    _, text = cells
    for name in ("01_first", "02_second", "03_third"):
        words = "Notebook 01 and arXiv 2411.15245; [home](../README.md).\n\nEnd"
        path = course.add(name, "record('a', 1)", text(words))
        notebook = notebooks.read(path)
        for count, cell in enumerate(notebooks.code_cells(notebook), start=1):
            cell.execution_count = count
        notebooks.code_cells(notebook)[-1].outputs = [
            display({"text/html": f'<img alt="A &quot;dot&quot; &amp; 1 &lt; 2. More." width="738" '
                                  f'style="max-width:100%;height:auto" src="data:image/png;base64,{PIXEL}">',
                     "text/plain": "[figure] A dot"}),
            display({MIME: {"name": "a", "value": 1, "unit": None}, "text/plain": "a = 1"}),
            display({"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "VBox()"}),
        ]
        notebook.metadata["widgets"] = {"state": {}}
        notebook.metadata["anytext"] = {"source_hash": provenance.source_hash(notebook), "python": "3.12.1"}
        nbformat.write(notebook, path)
    entry = {"seconds": 70.0, "cpu_seconds": 130.0, "peak_memory_mib": 2048, "threads": 2, "cpu": "X"}
    (course.folder / "baselines").mkdir()
    cost = {"default.cpu": entry, "gpu.cuda": entry | {"seconds": 9.4, "gpu": "G"}}
    provenance.write_yaml(provenance.costs_path(course.folder), {"01": cost, "02": cost}, "")
    (course.folder.parent / "README.md").write_text("# R\n\n| | n |\n|---|---|\n| 01 | x |\n| 02 | y |\n\nEnd\n")
    return course


def fix(course, *names: str) -> int:
    return main(["course", "check", "--fix", "--folder", str(course.folder), *names])


def test_old_pages_get_their_form_and_stay_fresh(old, capsys):
    before = notebooks.read(old.folder / "02_second.ipynb")
    assert fix(old) == 1, "these pages have no exercises"
    assert "mended 02_second.ipynb" in capsys.readouterr().out
    page = notebooks.read(old.folder / "02_second.ipynb")
    figure, caption = notebooks.code_cells(page)[-1].outputs
    alt = 'A "dot" & 1 < 2. More.'
    assert figure.data == {"image/png": PIXEL, "text/plain": f"[figure] {alt}"}
    assert figure.metadata == {"image/png": {"alt": alt, "width": 738}, "vscode_altText": alt}
    assert caption.data["text/plain"] == 'A "dot" & 1 < 2.'
    assert records_of(page) == [Record("a", 1, None)] and "widgets" not in page.metadata
    links = ("**Pages:** [← 01 first](01_first.ipynb) · [03 third →](03_third.ipynb) · "
             "[its exercises, for you to solve](exercises/02_second.ipynb)")
    cost = "**Cost:** 2.2 min of CPU time (X), peak memory 2.0 GiB; 9 s on a GPU (G)."
    assert page.cells[0].source == f"# 02_second\n\n{cost}\n\n{links}"
    paper = "[arXiv 2411.15245](https://arxiv.org/abs/2411.15245)"
    assert page.cells[-1].source == (
        f"[Notebook 01](01_first.ipynb) and {paper}; [home](../README.md).\n\nEnd\n\n{links}")
    assert page.metadata.kernelspec.display_name == "Python 3 (ipykernel)"
    assert page.metadata.language_info.version == "3.12.1" and page.metadata.language_info.file_extension == ".py"
    assert provenance.is_fresh(page) and [cell.id for cell in page.cells] == [cell.id for cell in before.cells]
    learner = notebooks.read(old.folder / "exercises" / "02_second.ipynb")
    assert "[03 third →](03_third.ipynb) · [the page with results](../02_second.ipynb)" in learner.cells[0].source
    assert "[Notebook 01](../01_first.ipynb)" in learner.cells[-1].source


def test_second_pass_changes_nothing_and_stale_pages_stay_stale(old, capsys):
    path = old.folder / "03_third.ipynb"
    path.write_text(path.read_text().replace("record('a', 1)", "record('a', 2)"), encoding="utf-8")
    fix(old)
    assert not provenance.is_fresh(notebooks.read(path))
    assert any("stale outputs" in problem for problem in check_notebook(path))
    files = {path: path.read_bytes() for path in old.folder.rglob("*.ipynb")}
    capsys.readouterr()
    fix(old)
    assert "mended" not in capsys.readouterr().out
    assert {path: path.read_bytes() for path in old.folder.rglob("*.ipynb")} == files


def test_only_the_chosen_page_is_mended(old):
    untouched = (old.folder / "01_first.ipynb").read_bytes()
    fix(old, "02")
    assert (old.folder / "01_first.ipynb").read_bytes() == untouched
    assert [path.name for path in (old.folder / "exercises").iterdir()] == ["02_second.ipynb"]


def test_readme_and_map_show_the_recorded_costs(old, cells):
    _, text = cells
    notebook = notebooks.read(old.folder / "01_first.ipynb")
    notebook.cells.insert(1, text("to be written", "map"))
    nbformat.write(notebook, old.folder / "01_first.ipynb")
    fix(old)
    readme = (old.folder.parent / "README.md").read_text(encoding="utf-8")
    assert readme == ("# R\n\n| | n |\n|---|---|\n"
                      "| 01 | [first](notebooks/01_first.ipynb) | ? | 2.2 min, 2.0 GiB | 9 s |\n"
                      "| 02 | [second](notebooks/02_second.ipynb) | ? | 2.2 min, 2.0 GiB | 9 s |\n"
                      "| 03 | [third](notebooks/03_third.ipynb) |  | – | – |\n\nEnd\n")
    page = notebooks.read(old.folder / "01_first.ipynb")
    assert page.cells[1].source == contents.map_of(old.folder)
    assert "| 02 | [second](02_second.ipynb) | ? | 2.2 min, 2.0 GiB | 9 s | [exercises](exercises/02_second.ipynb) |" \
        in page.cells[1].source.splitlines()
    hashed = provenance.source_hash(page)
    page.cells[1].source = "other costs"
    assert provenance.source_hash(page) == hashed


def test_publication_gives_the_form_and_brings_the_tables_up_to_date(course, cells):
    _, text = cells
    course.add("01_front", "record('a', 1)", text("x", "map"), text("Last"))
    course.add("02_page", "record('a', 1)", SHOW, text("As notebook 01 says"))
    (course.folder.parent / "README.md").write_text("| 01 | x |\n", encoding="utf-8")
    assert course.run(in_place=True, notebooks=["01"]) == 0, course.said
    assert course.run(in_place=True, notebooks=["02"]) == 0, course.said
    front, page = (notebooks.read(course.folder / name) for name in ("01_front.ipynb", "02_page.ipynb"))
    assert provenance.is_fresh(front) and provenance.is_fresh(page)
    assert "[← 01 front](01_front.ipynb)" in page.cells[0].source and "As [notebook 01](01_fr" in page.cells[-1].source
    assert len(re.findall(r"\d s, [\d.]+ GiB", front.cells[-2].source)) == 2, "the cost of 02 came after 01 was written"
    assert (course.folder.parent / "README.md").read_text().count(" GiB | – |") == 2
    assert MIME not in notebooks.as_text(page) and records_of(page) == [Record("a", 1, None)]
    unfinished = [pages.unfinished(notebooks.read(book.path), book, notebooks.find_books(course.folder))
                  for book in notebooks.find_books(course.folder)]
    assert unfinished == [[], []]


@pytest.mark.parametrize("sanitize", [False, True])
def test_figures_survive_viewers_that_sanitise_html(old, sanitize):
    fix(old)
    page = notebooks.read(old.folder / "01_first.ipynb")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown, _ = HTMLExporter(sanitize_html=sanitize, template_name="lab").from_notebook_node(copy.deepcopy(page))
    assert shown.count(f'src="data:image/png;base64,{PIXEL}"') == 1 and "&lt;img" not in shown
    assert 'width="738"' in shown and "vnd.anytext" not in shown and "a = 1" not in shown
    assert re.search(r"<em>A [^<]*dot[^<]*1 &lt; 2\.</em>", shown), "the caption can be seen"


def test_file_that_is_no_notebook_is_named(old, capsys):
    (old.folder / "02_second.ipynb").write_text("{}")
    assert fix(old) == 2
    assert "02_second.ipynb cannot be read as a notebook" in capsys.readouterr().err
