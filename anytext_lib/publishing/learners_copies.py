"""Learners' copies: the notebooks without their solutions, in notebooks/exercises/."""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence
from pathlib import Path

from anytext_lib.errors import CourseError
from anytext_lib.publishing import notebooks, provenance
from anytext_lib.publishing.contents import EXERCISES, navigation, write_navigation
from anytext_lib.publishing.exercises import mark_for_nbgrader
from anytext_lib.publishing.links import with_prefix
from anytext_lib.publishing.notebooks import Book

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
MARK = "# your answer"
NOTE = (
    "> This is the learner's copy: the exercises wait for your answers (`# your answer`), and each is followed by "
    "a check that gives hints. The page with results and solutions is [{name}](../{name}.ipynb)."
)


def strip_solutions(source: str, name: str) -> str:
    """`source` with each block between BEGIN and END replaced by a place for the answer, `...` inside of a function.

    Raises CourseError, naming the notebook, when the marks do not pair.
    """
    kept, inside = [], False
    for line in source.splitlines():
        mark = line.strip()
        if mark == (END if inside else BEGIN):
            if not inside:
                indentation = line[: len(line) - len(line.lstrip())]
                kept.append(f"{indentation}...  {MARK}" if indentation else MARK)  # a bare ... would be shown
            inside = not inside
        elif mark in (BEGIN, END):
            raise CourseError(f"{name}: {mark!r} does not pair with its counterpart in the cell {source[:60]!r}.")
        elif not inside:
            kept.append(line)
    if inside:
        raise CourseError(f"{name}: {BEGIN!r} is never closed in the cell {source[:60]!r}.")
    return "\n".join(kept)


def learner_copy(notebook, book: Book, chapters: Sequence[Book]):
    """A copy of the notebook for learners: no solutions, no outputs, no provenance; the checks stay, with points.

    Its links lead to the pages, but for those to the previous and the next page, which lead to their copies.
    """
    copied = notebooks.without_injected(copy.deepcopy(notebook))
    provenance.clean(copied)
    copied.metadata.pop("anytext", None)
    for cell in copied.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = strip_solutions(cell.source, book.name)
            cell.metadata.pop("jupyter", None)
        else:
            cell.source = with_prefix(cell.source, "../")
    mark_for_nbgrader(copied)
    first = copied.cells[0]
    title, *lines = [line for line in first.source.splitlines() if not line.startswith(provenance.MARKS)]
    first.source = f"{title}\n\n{NOTE.format(name=book.name)}\n\n" + "\n".join(lines).strip()
    write_navigation(copied, navigation(book, chapters, copy=True))
    return copied


def learner_text(book: Book, chapters: Sequence[Book]) -> str:
    """The text of the learner's copy of `book`."""
    return notebooks.as_text(learner_copy(notebooks.read(book.path), book, chapters))


def write_copies(folder: Path) -> list[Path]:
    """Write the learners' copies of all notebooks in `folder`, remove those of none; return what was written."""
    target = folder / EXERCISES
    chapters = notebooks.find_books(folder)
    wanted = {target / book.path.name: learner_text(book, chapters) for book in chapters}
    for path in target.glob("*.ipynb"):
        if path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        notebooks.write_atomically(path, text)
    return list(wanted)


def stale_copies(folder: Path) -> list[str]:
    """List the faults of the learners' copies in `folder`: missing, out of date, or without a notebook."""
    remedy = "run `anytext course exercises`"
    chapters = notebooks.find_books(folder)
    problems = []
    for book in chapters:
        path = folder / EXERCISES / book.path.name
        if not path.exists():
            problems.append(f"{EXERCISES}/{path.name} is missing; {remedy}")
        elif path.read_text(encoding="utf-8") != learner_text(book, chapters):
            problems.append(f"{EXERCISES}/{path.name} is out of date; {remedy}")
    names = {book.path.name for book in chapters}
    extra = [path.name for path in sorted((folder / EXERCISES).glob("*.ipynb")) if path.name not in names]
    return problems + [f"{EXERCISES}/{name} belongs to no notebook; {remedy}" for name in extra]


def names_lost(source: str, name: str) -> set[str]:
    """Names that a solution cell binds at its top level only inside a solution, so that learners would lack them."""
    return _bound(source) - _bound(strip_solutions(source, name))


def _bound(source: str) -> set[str]:
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        else:
            names.update(part.id for part in ast.walk(node)
                         if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
    return names
