"""The order of the pages: README's table, notebook 00's map, and each page's links to its neighbours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from anytext_lib.publishing import notebooks, provenance
from anytext_lib.publishing.notebooks import Book, load_profiles

ROW = re.compile(rf"^\| {notebooks.NUMBER} \|.*(?:\n\| {notebooks.NUMBER} \|.*)*$", flags=re.MULTILINE)
EXERCISES = "exercises"


def readme_rows(folder: Path) -> list[str]:
    """The rows of the README's table of the notebooks in `folder`."""
    return [f"| {book.number} | [{book.title}]({folder.name}/{book.path.name}) | {question} | {cpu} | {gpu} |"
            for book, question, cpu, gpu in _pages(folder)]


def write_readme(folder: Path) -> None:
    """Bring the table in the README beside `folder` up to date; a course without one, or without a table, has none."""
    path, old, new = _readme(folder)
    if new != old:
        notebooks.write_atomically(path, new)


def stale_readme(folder: Path) -> list[str]:
    """Return the fault of the README's table as a message, or None."""
    path, old, new = _readme(folder)
    return [f"{path.name}: its table of notebooks is out of date; run `anytext course check --fix`"] * (new != old)


def _readme(folder: Path) -> tuple[Path, str, str]:
    """(the README beside `folder`, its text, its text with the right table)."""
    path = folder.parent / "README.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return path, text, ROW.sub(lambda _: "\n".join(readme_rows(folder)), text, count=1) if ROW.search(text) else text


def map_of(folder: Path) -> str:
    """The table of all pages as markdown, each with its question, what its run cost, and the learner's copy."""
    lines = ["| | page | question | CPU | GPU | to solve |", "|---|---|---|---|---|---|"]
    for book, question, cpu, gpu in _pages(folder):
        file = book.path.name
        lines.append(f"| {book.number} | [{_title(book)}]({file}) | {question} | {cpu} | {gpu} "
                     f"| [exercises]({EXERCISES}/{file}) |")
    return "\n".join(lines)


def _pages(folder: Path) -> Iterator[tuple[Book, str, str, str]]:
    """(book, question, cost on a CPU, cost on a GPU) of each page, as text."""
    questions, costs = load_profiles(folder).questions, provenance.load_costs(folder)
    for book in notebooks.find_books(folder):
        on_cpu, on_gpu = provenance.cost_parts(costs.get(book.number, {}))
        cpu = f"{on_cpu.time}, {on_cpu.memory}" if on_cpu else "–"
        yield book, questions.get(book.number, ""), cpu, on_gpu.time if on_gpu else "–"


def _title(book: Book) -> str:
    return book.title.replace("_", " ")


def navigation(book: Book, chapters: Sequence[Book], copy: bool = False) -> str:
    """The line of links of a page, or of its learner's `copy`: the previous, the next, and its counterpart."""
    at = chapters.index(book)
    before, after = chapters[at - 1] if at else None, chapters[at + 1] if at + 1 < len(chapters) else None
    parts = [f"[← {before.number} {_title(before)}]({before.path.name})"] if before else []
    parts += [f"[{after.number} {_title(after)} →]({after.path.name})"] if after else []
    parts.append(f"[the page with results](../{book.path.name})" if copy
                 else f"[its exercises, for you to solve]({EXERCISES}/{book.path.name})")
    return f"{provenance.NAVIGATION_MARK} {' · '.join(parts)}"


def write_navigation(notebook, line: str) -> None:
    """Put the line of links below the title (and the cost), and at the end of the page."""
    first, last = notebook.cells[0], notebook.cells[-1]
    kept = [text for text in first.source.splitlines() if not text.startswith(provenance.NAVIGATION_MARK)]
    cost = next((index for index, text in enumerate(kept) if text.startswith(provenance.COST_MARK)), 0)
    head, rest = kept[: cost + 1], kept[cost + 1:]
    first.source = "\n".join([*head, "", line, "", *_without_blank_start(rest)]).rstrip()
    if last is not first and last.cell_type == "markdown":
        kept = [text for text in last.source.splitlines() if not text.startswith(provenance.NAVIGATION_MARK)]
        last.source = "\n".join(kept).rstrip() + f"\n\n{line}"


def _without_blank_start(lines: list[str]) -> list[str]:
    start = next((index for index, text in enumerate(lines) if text.strip()), len(lines))
    return lines[start:]


def write_map(notebook, folder: Path) -> None:
    """Write the table of all pages into the cells that are tagged for it."""
    for cell in notebook.cells:
        if provenance.MAP in notebooks.tags(cell):
            cell.source = map_of(folder)
