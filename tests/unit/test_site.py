"""What the site is made of: introductions, glossary, symbols, reference, links; tests/browser looks at the pages."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from anytext_lib.errors import CourseError
from anytext_lib.publishing import notebooks
from anytext_lib.publishing.site import appearance, build_site, glossary, mathjax, public_api, sources, symbols
from anytext_lib.publishing.site.repository import Repository

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
BOOKS = notebooks.find_books(FOLDER)
README = (ROOT / "README.md").read_text(encoding="utf-8")
ANSWERS = (FOLDER / "ANSWERS.md").read_text(encoding="utf-8")
CHINESE = re.compile(r"[\u4e00-\u9fff]")


# --- what is written for the site ---

@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.number)
def test_every_notebook_has_a_short_chinese_introduction(book):
    text = sources.load_introductions(FOLDER)[book.number]
    assert 3 <= len(re.findall(r"[。？！]", text)) <= 8
    assert 100 < len(CHINESE.findall(text)) < 400
    assert text.count("$") % 2 == 0 and not re.search(r"[\u4e00-\u9fff] [\u4e00-\u9fff]", text)


def test_every_term_of_the_glossary_occurs_in_the_course():
    words = glossary.load(FOLDER / sources.FOLDER / sources.GLOSSARY)
    text = "\n".join([*map(glossary.text_of, BOOKS), ANSWERS, README])
    assert len(words) >= 60 and len({word.term for word in words}) == len(words)
    assert [word.term for word in words if not word.count(text)] == []
    assert [word.term for word in words if not CHINESE.search(word.zh_means) or CHINESE.search(word.means)] == []


def test_words_are_counted_whole_and_in_the_plural():
    word = glossary.GlossaryTerm("loss", "损失", "x", "x")
    assert word.count("Loss, losses and lossless; the\nloss") == 3
    assert replace(word, forms=("one picture",)).count("of one\n pictures") == 1


def test_every_formula_and_each_of_its_symbols_has_its_line_of_code():
    formulas = symbols.load(FOLDER / sources.FOLDER / sources.SYMBOLS)
    assert symbols.faults(formulas, BOOKS) == []
    assert sum(len(row.symbols) for row in formulas) > 150


def test_symbols_that_do_not_fit_are_found(tmp_path):
    path = tmp_path / "07_toy.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("$$ a = b\n + c $$ and $$ d $$"), nbformat.v4.new_code_cell("a = b + c\nx = 1")]),
        path)
    row = symbols.Formula("07", "a=b", (
        symbols.Symbol("a", "sum", symbols.HERE, "a = b + c"),
        symbols.Symbol("a", "sum", symbols.HERE, "a = c"),
        symbols.Symbol("w", "weight", "anytext_lib.losses.snr", "return a / (1 - a)"),
        symbols.Symbol("w", "weight", "anytext_lib.losses.snr", "return nothing"),
        symbols.Symbol("w", "weight", "anytext_lib.losses.there_is_none", "return")))
    gone = symbols.Formula("07", "e = f", ())
    found = symbols.faults([row, gone], [notebooks.Book(path)])
    assert len(found) == 5
    for message, part in zip(found, ("no row of 'd'", "no formula has 'e = f'", "here has no line with 'a = c'",
                                     "no line with 'return nothing'", "there_is_none"), strict=True):
        assert part in message
    shown = symbols.page([replace(row, symbols=row.symbols[:4:2])], "notebooks", [notebooks.Book(path)])
    assert "[the notebook](notebooks/07_toy.ipynb#formula-07-0)" in shown
    assert re.search(r"`` return a / \(1 - a\) `` in \{py:obj\}`losses.snr <anytext_lib.losses.snr>`, "
                     r"anytext_lib/losses/weights.py line \d+", shown)


@pytest.mark.parametrize("name, text, load", [
    ("x.yaml", "- {term: loss, zh: 损失}", glossary.load), ("x.yaml", '"07": [{formula: a}]', symbols.load),
    ("x.yaml", "a: [", glossary.load), ("missing.yaml", "", symbols.load)])
def test_files_of_another_form_are_refused(tmp_path, name, text, load):
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(CourseError, match=name):
        load(tmp_path / name)


# --- the reference ---

def test_reference_has_every_name_that_the_readme_imports():
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
    wanted = {f"{node.module}.{alias.name}" for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)
              and node.module.startswith("anytext_lib") for alias in node.names}
    assert len(wanted) >= 4 and wanted <= set(public_api.names())


@pytest.mark.parametrize("module", public_api.PACKAGES)
def test_every_public_name_is_documented_once(module):
    for each in public_api.entries(module):
        entry = f":: {public_api.names()[each.public]}\n"
        pages = [name for name in public_api.PACKAGES if entry in public_api.page(name)]
        assert len(pages) == 1, (each, pages)


def test_a_constant_is_found_where_it_is_written():
    assert public_api.entry("anytext_lib.losses.TERMS") == public_api.Entry(
        "anytext_lib.losses.TERMS", "anytext_lib.losses.terms.TERMS", "data")
    assert public_api.entry("anytext_lib.evaluation.PROTOCOLS").home == "anytext_lib.evaluation.score.PROTOCOLS"


def test_source_leads_back_to_public_names():
    assert appearance.public_name("anytext_lib.ocr.recogniser.PPOCRv3Recognizer.read") == (
        "anytext_lib.ocr.PPOCRv3Recognizer.read")
    assert appearance.public_name("anytext_lib.ocr.crops.similarity") == "anytext_lib.ocr.crops.similarity"


def test_docstrings_keep_their_blocks_of_code():
    lines = ["Formulas:", "", "    a = b", "", "    c", "text", "", "Args:", "    x: one.", "", ".. math:: y", "",
             "    z", "- item", "", "  more"]
    assert appearance.with_code_blocks(lines) == ["Formulas:", "", "::", "", *lines[2:]]


# --- pages ---

def test_notebook_is_given_the_form_of_a_page(tmp_path):
    widget = nbformat.v4.new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}})
    picture = nbformat.v4.new_output("display_data", data={"image/png": "AAAA"})
    folded = nbformat.v4.new_code_cell("x = 1", metadata={"jupyter": {"source_hidden": True}, "tags": ["solution"]})
    pages = "**Pages:** [01](01_a.ipynb)"
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell(f"# 07 · Title\n\n**Cost:** 3 s\n\n{pages}\n\nText"), folded,
        nbformat.v4.new_code_cell("app()", outputs=[widget]),
        nbformat.v4.new_code_cell("draw()", outputs=[picture, widget]),
        nbformat.v4.new_markdown_cell("$$ a $$"), nbformat.v4.new_markdown_cell(f"End\n\n{pages}")])
    made = sources.site_notebook(notebook, notebooks.Book(tmp_path / "07_toy.ipynb"), "INTRODUCTION")
    first, solution, app, drawn, formula, last = made.cells
    assert "Pages:" not in first.source + last.source and last.source == "End"
    assert first.source.startswith("# 07 · Title\n\n**To solve:** [its exercises as a notebook](exercises/07_toy.ip")
    assert first.source.endswith("Text\n\nINTRODUCTION")
    assert solution.metadata.tags == ["solution", "hide-input"]
    assert [output.data for output in app.outputs] == [{"text/markdown": sources.WIDGET_NOTE}]
    assert [list(output.data) for output in drawn.outputs] == [["image/png"]]
    assert formula.source == "(formula-07-4)=\n$$ a $$"


def test_links_to_files_lead_somewhere_in_the_site(tmp_path):
    for name in ("notebooks/01_a.ipynb", "notebooks/exercises/01_a.ipynb", "lib/code.py", "data/table.json", "LICENSE"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"```of {name}", encoding="utf-8")
    repository = Repository(tmp_path, {"notebooks/01_a.ipynb"})
    source = ("[page](01_a.ipynb#part), [own](exercises/01_a.ipynb), [code](../lib/code.py), [all](../lib), "
              "[table](../data/table.json), [licence](../LICENSE), [web](https://example.org), `[x](none)`")
    assert repository.moved(source, "notebooks/01_b.ipynb") == (
        "[page](01_a.ipynb#part), {download}`own <exercises/01_a.ipynb>`, [code](../repository/lib/code.py.md), all, "
        "[table](../data/table.json), [licence](../repository/LICENSE.md), [web](https://example.org), `[x](none)`")
    assert repository.shown == {"lib/code.py", "LICENSE"}
    assert repository.copied == {"notebooks/exercises/01_a.ipynb", "data/table.json"}
    assert repository.source_page("lib/code.py").endswith("````python\n```of lib/code.py\n````\n")
    with pytest.raises(CourseError, match="'gone.md'"):
        repository.moved("[x](gone.md)", "README.md")


def test_library_names_in_answers_become_references():
    source = "`anytext_lib.losses.weights.language_weights` and `anytext_lib.no.such`"
    assert sources.with_references(source) == ("{py:obj}`anytext_lib.losses.weights.language_weights "
                                               "<anytext_lib.losses.language_weights>` and `anytext_lib.no.such`")


# --- the command ---

def test_another_mathjax_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("sphinx-mathjax-offline", reason="needs the extra site: pip install -e '.[site]'")
    assert (tmp_path / "new" / mathjax.install(tmp_path / "new")).stat().st_size > 1e6
    monkeypatch.setattr(mathjax, "SHA256", "0" * 64)
    with pytest.raises(CourseError, match="is not the MathJax 3.2.2"):
        mathjax.install(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(build_site, "NEEDED", ("no_such_theme",))
    with pytest.raises(CourseError, match=r"no-such-theme: run `make setup`, or `pip install -e '\.\[site\]'`"):
        build_site.build(FOLDER, BOOKS, tmp_path / "site")
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_no_site_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    done = subprocess.run([sys.executable, "-m", "anytext_lib.cli", "course", "site", "--out", str(tmp_path)],
                          capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "something else than a site" in done.stderr or "pip install -e '.[site]'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.html").write_text(name)
    build_site.replace_folder(tmp_path / "new", tmp_path / "old")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["new.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
