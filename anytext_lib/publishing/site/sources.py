"""The folder that Sphinx reads: published notebooks with their introductions, further pages, and what they link to."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from anytext_lib.errors import CourseError
from anytext_lib.publishing import notebooks, provenance
from anytext_lib.publishing.contents import EXERCISES, map_of
from anytext_lib.publishing.notebooks import Book, write_if_new
from anytext_lib.publishing.pages import WIDGET, drop_widgets
from anytext_lib.publishing.site import glossary, public_api, symbols
from anytext_lib.publishing.site.repository import PAGES, Repository

FOLDER = "site"
"""In the folder of notebooks: what is written for the site alone."""
INTRODUCTIONS, GLOSSARY, SYMBOLS = "introductions.yaml", "glossary.yaml", "symbols.yaml"
FRONT, README, OVERVIEW = "front.md", "README.md", "data_samples/overview.png"
BESIDE = ("ANSWERS", "TEACHERS")  # pages in Markdown beside the notebooks
WIDGET_NOTE = "*The running page has controls here: open it with `make lab`.*"
CHINESE = '<div lang="zh-Hans">\n\n{}\n\n</div>'
CJK = r"[\u2010-\u203a\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]"
TABLE = re.compile(r"^(?:\|.*\n)+", flags=re.MULTILINE)
REFERENCE = "reference"
OWN_PAGES = ("chinese.md", "glossary.md", "symbols.md")


def load_introductions(folder: Path) -> dict[str, str]:
    """The Chinese introduction of each notebook of the course in ``folder`` by its number, and their "title".

    Raises:
        CourseError: the file is missing or has another form.
    """
    path = folder / FOLDER / INTRODUCTIONS
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise CourseError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or "title" not in found or not all(
            isinstance(part, str) for pair in found.items() for part in pair):
        raise CourseError(f"{path} must map `title`, and the number of each notebook in quotes, to texts.")
    return {number: re.sub(rf"(?<={CJK})\s+(?={CJK})", "", text.strip()) for number, text in found.items()}


def write_sources(folder: Path, chosen: Sequence[Book], target: Path) -> None:
    """Write the sources of a site of the ``chosen`` notebooks of the course in ``folder`` to ``target``.

    Files that would stay the same are left alone, so that Sphinx renews the changed pages only; what belongs to no
    page any more is removed.

    Raises:
        CourseError: a notebook, or a file of what is written for the site, is missing or wrong.
    """
    repository = Repository(folder.parent, {f"{folder.name}/{book.path.name}" for book in chosen}
                            | {README, *(f"{folder.name}/{name}.md" for name in BESIDE), *OWN_PAGES})
    texts = page_texts(folder, chosen, repository)
    texts |= {f"{PAGES}/{name}.md": repository.source_page(name) for name in sorted(repository.shown)}
    for name, text in texts.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_if_new(path, text)
    for name in repository.copied:
        source, path = repository.root / name, target / name
        if not path.exists() or path.read_bytes() != source.read_bytes():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, path)
    kept = {target / name for name in [*texts, *repository.copied]}
    for path in [path for path in target.rglob("*") if path.is_file() and path not in kept]:
        path.unlink()


def page_texts(folder: Path, chosen: Sequence[Book], repository: Repository) -> dict[str, str]:
    """The text of every page that is made or changed for the site, by its file; notes in ``repository`` their links."""
    introductions = load_introductions(folder)
    rows = symbols.load(folder / FOLDER / SYMBOLS)
    words = glossary.load(folder / FOLDER / GLOSSARY)
    texts = {}
    for book in chosen:
        name = f"{folder.name}/{book.path.name}"
        notebook = site_notebook(notebooks.read(book.path), book, introduction_of(book, introductions))
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = repository.moved(cell.source, name)
        texts[name] = notebooks.as_text(notebook)
    texts["index.md"] = front_page(folder, chosen, repository)
    texts[README] = repository.moved((folder.parent / README).read_text(encoding="utf-8"), README)
    for name in (f"{folder.name}/{page}.md" for page in BESIDE):
        told = repository.moved((folder.parent / name).read_text(encoding="utf-8"), name)
        texts[name] = stacked(with_references(told))
    texts["chinese.md"] = chinese_page(folder.name, chosen, introductions)
    texts["glossary.md"] = glossary.page(words, folder.name, chosen)
    texts["symbols.md"] = stacked(symbols.page(rows, folder.name, chosen))
    texts[f"{REFERENCE}/index.md"] = public_api.index_page()
    for module in public_api.PACKAGES:
        texts[f"{REFERENCE}/{public_api.file_name(module)}"] = public_api.page(module)
    texts[f"{REFERENCE}/{public_api.BEHIND}.md"] = public_api.behind_page(symbols.objects(rows))
    return texts


def introduction_of(book: Book, introductions: Mapping[str, str]) -> str:
    """The box with the Chinese introduction of a notebook; "" where there is none."""
    if book.number not in introductions:
        return ""
    head = f":::{{admonition}} {introductions['title']}\n:class: note"
    return CHINESE.format(f"{head}\n\n{introductions[book.number]}\n:::")


def stacked(source: str) -> str:
    """Markdown whose tables show their cells one below the other where the window is narrow."""
    return TABLE.sub(lambda table: f'<div class="stacked">\n\n{table[0]}\n</div>\n', source)


def site_notebook(notebook, book: Book, introduction: str = ""):
    """A published notebook for the site (changed in place, and returned).

    The theme links the pages around it, so its own line of links goes, but for that to the learner's copy. Solutions
    are folded as in JupyterLab, widgets make way for a note, and formulas that stand apart can be linked to.
    """
    first, last = notebook.cells[0], notebook.cells[-1]
    for cell in (first, last):
        lines = [line for line in cell.source.splitlines() if not line.startswith(provenance.NAVIGATION_MARK)]
        cell.source = "\n".join(lines).strip()
    title, _, rest = first.source.partition("\n")
    first.source = (f"{title}\n\n**To solve:** [its exercises as a notebook]({EXERCISES}/{book.path.name}), for "
                    f"`make lab`.\n{rest}" + f"\n\n{introduction}".rstrip())
    for cell in notebooks.code_cells(notebook):
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata["tags"] = [*notebooks.tags(cell), "hide-input"]
    replace_widgets(notebook)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and number and symbols.FORMULA.search(cell.source):
            cell.source = f"({symbols.label(book.number, number)})=\n{cell.source}"
    return notebook


def replace_widgets(notebook) -> None:
    """Remove widgets, which only a running kernel can show; a cell that shows nothing else gets a note."""
    import nbformat

    held = [cell for cell in notebooks.code_cells(notebook)
            if cell.outputs and all(WIDGET in output.get("data", {}) for output in cell.outputs)]
    drop_widgets(notebook)
    for cell in held:
        cell.outputs = [nbformat.v4.new_output("display_data", data={"text/markdown": WIDGET_NOTE})]


def front_page(folder: Path, chosen: Sequence[Book], repository: Repository) -> str:
    """The first page: what is written for it, the table of the notebooks, and the order of all pages."""
    text = (folder / FOLDER / FRONT).read_text(encoding="utf-8").strip()
    numbers = {book.number for book in chosen}
    rows = [line for line in map_of(folder).splitlines()
            if not (found := re.match(rf"\| ({notebooks.NUMBER}) \|", line)) or found[1] in numbers]
    table = "\n".join(rows).replace("](", f"]({folder.name}/")
    books = "\n".join(f"{folder.name}/{book.name}" for book in chosen)
    trees = [("The course", books), ("Beside it", "\n".join([*(f"{folder.name}/{page}" for page in BESIDE), "glossary",
                                                          "symbols", "chinese"])),
             ("The library", f"{REFERENCE}/index\nSet-up and commands <README>")]
    toc = "\n\n".join(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{files}\n```"
                      for caption, files in trees)
    return repository.moved(text.replace("(MAP)", stacked(f"{table}\n")), "index.md") + f"\n\n{toc}\n"


def chinese_page(folder: str, chosen: Sequence[Book], introductions: Mapping[str, str]) -> str:
    """All introductions on one page."""
    parts = [f"## [{book.number} {book.title.replace('_', ' ')}]({folder}/{book.path.name})\n\n"
             + CHINESE.format(introductions[book.number])
             for book in chosen if book.number in introductions]
    return (f"# {introductions['title']}\n\nA short introduction to each notebook for readers of Chinese; the terms "
            "are in the [glossary](glossary.md).\n\n" + "\n\n".join(parts) + "\n")


def with_references(source: str) -> str:
    """Markdown with the names of the library in code spans made links to the reference."""
    known = public_api.names()

    def linked(found: re.Match) -> str:
        name = found[1] if found[1] in known else None
        return f"{{py:obj}}`{found[1]} <{known[name]}>`" if name else found[0]

    return re.sub(r"(?<![`\w}])`(anytext_lib\.[\w.]+)`(?!`)", linked, source)
