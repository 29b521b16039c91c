"""What publication makes of pages without running them: links, tables of pages, learners' copies, and their form.

`anytext course run --in-place` gives this form to what it ran, `anytext course check --fix` to pages as they are; a
page that was stale stays stale.
"""

from __future__ import annotations

import ast
import base64
import copy
import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from anytext_lib.course import style
from anytext_lib.course.record import fold
from anytext_lib.errors import CourseError
from anytext_lib.publishing import notebooks, provenance
from anytext_lib.publishing.notebooks import Book, load_profiles

ROW = re.compile(rf"^\| {notebooks.NUMBER} \|.*(?:\n\| {notebooks.NUMBER} \|.*)*$", flags=re.MULTILINE)
EXERCISES = "exercises"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
MARK = "# your answer"
NOTE = (
    "> This is the learner's copy: the exercises wait for your answers (`# your answer`), and each is followed by "
    "a check that gives hints. The page with results and solutions is [{name}](../{name}.ipynb)."
)
WIDGET = "application/vnd.jupyter.widget-view+json"
HTML_FIGURE = re.compile(r'<img alt="([^"]*)" width="(\d+)"[^>]* src="data:image/png;base64,([A-Za-z0-9+/=\s]+)">')

# links in the text of pages
CODE = r"^(?P<fence>```+|~~~+).*?^(?P=fence)[ \t]*$|(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)"
LINK = r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\](?:\((?:[^()]|\([^()]*\))*\)|\[[^\[\]]*\])"
UNTOUCHED = re.compile(
    rf"{CODE}|{LINK}|^\[[^\]\n]+\]:.*?$|<[^<>\n]+>|https?://\S+|\$\$.*?\$\$|\$(?:[^$\n]|\n(?!\s*\n))+\$",
    flags=re.DOTALL | re.MULTILINE,
)
"""What the text of a page holds besides words: code, links, tags, addresses, formulas."""
ONE = re.compile(r"\b[Nn]otebook\s+(?P<n>\d\d[a-z]?)\b(?P<more>(?:\s+\([^()]*\))?(?:,\s+\d\d[a-z]?\s+\([^()]*\))*)")
AND = r"(?:,(?:\s+and|\s+or)?|\s+and|\s+or|\s+to|\s*[–-])\s*"
MANY = re.compile(rf"\b[Nn]otebooks\s+(?P<more>\d\d[a-z]?\b(?:{AND}\d\d[a-z]?\b(?!%))*)")
NUMBER = re.compile(r"(?<![\w.])\d\d[a-z]?(?![\w%]|\.\d)")
ARXIV = re.compile(r"\barXiv(?::\s*|\s+)(?P<id>\d{4}\.\d{4,5}(?:v\d+)?|[a-z-]+(?:\.[A-Z]{2})?/\d{7})(?![\w/])")
RELATIVE = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)[^()\s]+(?=\))|(?<=href=\")(?![a-z]+:|#|/)[^\"]+(?=\")")


def linked(source: str, files: Mapping[str, str], own: str = "") -> str:
    """Markdown `source` with its mentions of notebooks and arXiv papers made links. Doing it twice changes nothing.

    `files` gives the file of each notebook by its number, as a link from the page; a mention of `own` number, or of a
    number that is not in `files`, stays text. Code, formulas, addresses and the texts of links are left alone.
    """
    plain = masked(source)
    found = [(found.span(), f"https://arxiv.org/abs/{found['id']}") for found in ARXIV.finditer(plain)]
    for mention in ONE.finditer(plain):
        found.append(((mention.start(), mention.end("n")), files.get(mention["n"]) if mention["n"] != own else None))
        found += _numbers(plain, mention.span("more"), files, own, before_parenthesis=True)
    for mention in MANY.finditer(plain):
        found += _numbers(plain, mention.span("more"), files, own)
    for (start, end), target in sorted(found, reverse=True):
        if target is not None:
            source = f"{source[:start]}[{source[start:end]}]({target}){source[end:]}"
    return source


def _numbers(plain: str, span: tuple[int, int], files: Mapping[str, str], own: str, before_parenthesis: bool = False):
    """(place, file or None) of the numbers of notebooks in a part of the text."""
    for number in NUMBER.finditer(plain, *span):
        follows = re.match(r"\s+\(", plain[number.end():])
        if (follows or not before_parenthesis) and number[0] != own:
            yield number.span(), files.get(number[0])


def masked(source: str, pattern: re.Pattern = UNTOUCHED) -> str:
    """`source` with what `pattern` finds replaced by as many characters that are no words; line ends stay."""
    return pattern.sub(lambda found: re.sub(r"[^\n]", "\0", found[0]), source)


def relative_links(source: str) -> Iterator[re.Match]:
    """The targets of the relative links in markdown `source`, code left out."""
    return RELATIVE.finditer(masked(source, re.compile(CODE, flags=re.DOTALL | re.MULTILINE)))


def with_prefix(source: str, prefix: str) -> str:
    """Markdown `source` for a page in another folder: its relative links begin with `prefix`."""
    for target in reversed(list(relative_links(source))):
        source = source[: target.start()] + prefix + source[target.start():]
    return source


def dead_links(source: str, folder: Path) -> list[str]:
    """The relative links of a page in `folder` that lead to no file."""
    targets = [target[0] for target in relative_links(source)]
    return [target for target in targets if not (folder / unquote(target.split("#")[0])).exists()]


# ---- the order of the pages: README's table, notebook 00's map, each page's links


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


# ---- learners' copies: the notebooks without their solutions, in notebooks/exercises/


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
    """A copy of the notebook for learners: no solutions, no outputs, no provenance; the checks stay.

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


# ---- the form of a published page


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
