"""The form of a published page: figures, links, table of pages and line of cost as they have to be.

`anytext course run --in-place` gives this form to what it ran, `anytext course check --fix` to pages as they are; a
page that was stale stays stale.
"""

from __future__ import annotations

import base64
import copy
import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from anytext_lib.course import style
from anytext_lib.course.record import fold
from anytext_lib.publishing import notebooks, provenance
from anytext_lib.publishing.contents import EXERCISES, navigation, write_map, write_navigation, write_readme
from anytext_lib.publishing.learners_copies import learner_text
from anytext_lib.publishing.links import linked
from anytext_lib.publishing.notebooks import Book

WIDGET = "application/vnd.jupyter.widget-view+json"
HTML_FIGURE = re.compile(r'<img alt="([^"]*)" width="(\d+)"[^>]* src="data:image/png;base64,([A-Za-z0-9+/=\s]+)">')


class Page(NamedTuple):
    """A page and its place: its file, and all pages in order."""

    book: Book
    chapters: Sequence[Book]

    @property
    def folder(self) -> Path:
        """The folder of all pages."""
        return self.book.path.parent


def _write_cost(notebook, page: Page) -> None:
    provenance.write_cost_line(notebook, provenance.load_costs(page.folder).get(page.book.number, {}))


def _write_navigation(notebook, page: Page) -> None:
    write_navigation(notebook, navigation(page.book, page.chapters))


def _link_mentions(notebook, page: Page) -> None:
    files = {chapter.number: chapter.path.name for chapter in page.chapters}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, files, page.book.number)


STEPS: tuple[tuple[str, Callable[[Any, Page], None]], ...] = (
    ("shows recorded numbers among its outputs", lambda notebook, page: fold(notebook)),
    ("holds widget state", lambda notebook, page: drop_widgets(notebook)),
    ("holds figures that are HTML, which many viewers hide", lambda notebook, page: convert_figures(notebook)),
    ("has other metadata than JupyterLab would write", lambda notebook, page: provenance.clean(notebook)),
    ("has another line of cost than the recorded costs give", _write_cost),
    ("has another table of pages than the recorded costs give",
     lambda notebook, page: write_map(notebook, page.folder)),
    ("lacks the links to the pages around it", _write_navigation),
    ("mentions notebooks or papers without a link", _link_mentions),
)
"""What may be wrong with a page, and what mends it: a function that changes the notebook, unless all is well."""


def finish(notebook, book: Book, chapters: Sequence[Book]) -> None:
    """Give an executed notebook the form of a published page (changed in place; `chapters` are all pages)."""
    fresh = provenance.is_fresh(notebook)
    for _, mend in STEPS:
        mend(notebook, Page(book, chapters))
    if fresh:
        notebook.metadata["anytext"]["source_hash"] = provenance.source_hash(notebook)


def unfinished(notebook, book: Book, chapters: Sequence[Book]) -> list[str]:
    """List the faults in the form of a page that `fix` mends; the notebook stays unchanged."""
    draft, problems = copy.deepcopy(notebook), []
    before = notebooks.as_text(draft)
    for what, mend in STEPS:
        mend(draft, Page(book, chapters))
        after = notebooks.as_text(draft)
        if after != before:
            problems.append(f"{what} (first in {_first_difference(before, after)!r})")
        before = after
    return problems


def _first_difference(before: str, after: str) -> str:
    lines = zip(before.splitlines(), after.splitlines(), strict=False)
    return next((old.strip()[:80] for old, new in lines if old != new), "its last line")


def fix(folder: Path, chosen: Sequence[Book]) -> list[Path]:
    """Give the `chosen` pages of the course in `folder` their form without running them; return what was changed.

    Their learners' copies and the README's table follow. Raises CourseError where a file is no notebook.
    """
    chapters, changed = notebooks.find_books(folder), []
    for book in chosen:
        notebook = notebooks.read(book.path)
        finish(notebook, book, chapters)
        changed += notebooks.write_if_new(book.path, notebooks.as_text(notebook))
    for book in chosen:
        text = learner_text(book, chapters)
        changed += notebooks.write_if_new(folder / EXERCISES / book.path.name, text)
    write_readme(folder)
    return changed


def refresh_map(folder: Path) -> None:
    """Bring the pages with the table of all pages, and the README's, up to date with the costs."""
    chapters = notebooks.find_books(folder)
    for book in chapters:
        notebook = notebooks.read(book.path)
        if any(provenance.MAP in notebooks.tags(cell) for cell in notebook.cells):
            write_map(notebook, folder)
            notebooks.write_if_new(book.path, notebooks.as_text(notebook))
    write_readme(folder)


def drop_widgets(notebook: Any) -> None:
    """Remove what only a running kernel can show: views of widgets and their state. The figures beside them stay."""
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]


def convert_figures(notebook) -> None:
    """Turn figures that are HTML images, as pages held them once, into image/png with words; the bitmaps stay."""
    for cell in notebooks.code_cells(notebook):
        cell.outputs = [new for output in cell.outputs for new in _converted(output)]


def _converted(output) -> list:
    import nbformat

    found = HTML_FIGURE.fullmatch(output.get("data", {}).get("text/html", "").strip())
    if not found:
        return [output]
    alt, width, data = html.unescape(found[1]), int(found[2]), base64.b64decode(found[3])
    return [nbformat.v4.new_output("display_data", data=data, metadata=metadata)
            for data, metadata in style.figure_outputs(data, alt, width)]
