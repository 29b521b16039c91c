"""Symbols to code: every formula of the course that stands apart, and for each of its symbols the line that is it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from anytext_lib.errors import CourseError
from anytext_lib.publishing import notebooks
from anytext_lib.publishing.notebooks import Book
from anytext_lib.publishing.site import public_api

FORMULA = re.compile(r"\$\$(.+?)\$\$", flags=re.DOTALL)
HERE = "here"
"""In the place of an object: the code is in a cell of the notebook."""


@dataclass(frozen=True)
class Symbol:
    """One symbol: LaTeX, what it means, the object whose code has it (or ``HERE``), and a part of the line."""

    tex: str
    means: str
    where: str
    code: str


@dataclass(frozen=True)
class Formula:
    """A formula of notebook ``number``, known by a ``part`` of its LaTeX (white space does not count)."""

    number: str
    part: str
    symbols: tuple[Symbol, ...]


def load(path: Path) -> list[Formula]:
    """The formulas of a file: notebook -> list of {formula: LaTeX, symbols: [[LaTeX, meaning, object, code], ...]}.

    Raises:
        CourseError: the file is missing or has another form.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        return [Formula(number, row["formula"], tuple(Symbol(*symbol) for symbol in row["symbols"]))
                for number, rows in data.items() for row in rows]
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise CourseError(f"{path} cannot be read as a table of symbols: {error}") from error


def objects(formulas: Sequence[Formula]) -> list[str]:
    """The names of all objects of the library that the table mentions, each once."""
    return list(dict.fromkeys(symbol.where for row in formulas for symbol in row.symbols if symbol.where != HERE))


def label(number: str, cell: int) -> str:
    """The name by which a cell with a formula can be linked to."""
    return f"formula-{number}-{cell}"


def squeezed(tex: str) -> str:
    """LaTeX without white space, to be compared."""
    return re.sub(r"\s+", "", tex)


def formulas_of(notebook) -> Iterator[tuple[int, str]]:
    """(cell, LaTeX) of each formula of a notebook that stands apart."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            for found in FORMULA.finditer(cell.source):
                yield number, " ".join(found[1].split())


@cache
def source_lines(name: str) -> tuple[str, int, list[str]]:
    """(file within the library, number of the first line, lines) of an object."""
    found = public_api.resolve(name)
    target = inspect.unwrap(found.fget if isinstance(found, property) else found)
    lines, start = inspect.getsourcelines(target)
    root = Path(__file__).resolve().parents[3]
    return Path(inspect.getsourcefile(target)).relative_to(root).as_posix(), max(start, 1), lines


def line_of(symbol: Symbol, cells: Sequence[str]) -> tuple[str, int, str] | None:
    """(file or "", line number, line) of a symbol's code; None where it is not found.

    Args:
        cells: the code cells of the notebook, for symbols that are written there.
    """
    if symbol.where == HERE:
        lines = [line for cell in cells for line in cell.splitlines()]
        return next((("", 0, line.strip()) for line in lines if symbol.code in line), None)
    file, start, lines = source_lines(symbol.where)
    return next(((file, start + k, line.strip()) for k, line in enumerate(lines) if symbol.code in line), None)


def faults(formulas: Sequence[Formula], books: Sequence[Book]) -> list[str]:
    """What does not fit: formulas without a row, rows without a formula, objects and lines that are not there."""
    found = []
    for book in books:
        rows, notebook = [row for row in formulas if row.number == book.number], notebooks.read(book.path)
        shown = [tex for _, tex in formulas_of(notebook)]
        found += [f"{book.name}: no row of {tex!r}" for tex in shown
                  if not any(squeezed(row.part) in squeezed(tex) for row in rows)]
        found += [f"{book.name}: no formula has {row.part!r}" for row in rows
                  if not any(squeezed(row.part) in squeezed(tex) for tex in shown)]
        cells = [cell.source for cell in notebooks.code_cells(notebook)]
        for symbol in (symbol for row in rows for symbol in row.symbols):
            try:
                if line_of(symbol, cells) is None:
                    found.append(f"{book.name}: {symbol.where} has no line with {symbol.code!r}")
            except (AttributeError, TypeError, OSError) as error:
                found.append(f"{book.name}: {symbol.where}: {error}")
    return found


def page(formulas: Sequence[Formula], folder: str, chosen: Sequence[Book]) -> str:
    """The page of all symbols. A row whose code has changed since says so no more: ``faults`` is for the tests."""
    parts = ["# Symbols to code\n\nEvery formula of the course that stands apart, and for each of its symbols the line "
             "of code that is it: of the library, or of the notebook itself where the notebook writes it out."]
    for book in chosen:
        rows = [row for row in formulas if row.number == book.number]
        if not rows:
            continue
        title = book.title.replace("_", " ")
        parts.append(f"## {book.number} {title}")
        notebook = notebooks.read(book.path)
        cells, shown = [cell.source for cell in notebooks.code_cells(notebook)], list(formulas_of(notebook))
        file = f"{folder}/{book.path.name}"
        for row in rows:
            place = next(((cell, tex) for cell, tex in shown if squeezed(row.part) in squeezed(tex)), None)
            if place is None:
                continue
            lines = [f"| ${symbol.tex}$ | {symbol.means} | {_code(symbol, cells, file, label(book.number, place[0]))} |"
                     for symbol in row.symbols]
            parts.append(f"$$ {place[1]} $$\n\n[where it stands]({file}#{label(book.number, place[0])})\n\n"
                         "| symbol | is | code |\n|---|---|---|\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _code(symbol: Symbol, cells: Sequence[str], file: str, target: str) -> str:
    found = line_of(symbol, cells)
    line = f"`` {found[2].replace('|', chr(92) + '|')} ``" if found else ""
    if symbol.where == HERE:
        return f"{line} in [the notebook]({file}#{target})"
    public = public_api.names().get(symbol.where, symbol.where)
    short = symbol.where.removeprefix("anytext_lib.")
    where = f", {found[0]} line {found[1]}" if found else ""
    return f"{line} in {{py:obj}}`{short} <{public}>`{where}"
