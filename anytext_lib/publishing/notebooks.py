"""Notebooks as files: finding, reading, writing atomically, and the parameters that they declare."""

from __future__ import annotations

import ast
import io
import os
import re
import tempfile
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from anytext_lib.errors import CourseError

NUMBER = r"\d\d[a-z]?"
"""A notebook's number: two digits, and a letter for a second part, as in 05b."""
FILE_NAME = re.compile(rf"({NUMBER})_\w+")
INJECTED = "injected-parameters"


@dataclass(frozen=True)
class Book:
    """A notebook of the course: its file, whose name begins with its `number`, as 05 or 05b."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name without its suffix, as in 02_diffusion_and_x0."""
        return self.path.stem

    @property
    def number(self) -> str:
        """What stands before the first underscore of the name, as text."""
        return self.name.partition("_")[0]

    @property
    def title(self) -> str:
        """What stands after the first underscore of the name."""
        return self.name.partition("_")[2]


class Parameter(NamedTuple):
    """One assignment of a parameters cell: its value and the comment that explains it ("" if there is none)."""

    value: Any
    comment: str


def find_books(folder: Path) -> list[Book]:
    """The notebooks of `folder` (files NN_name.ipynb), in reading order."""
    return [Book(path) for path in sorted(folder.glob("*.ipynb")) if FILE_NAME.fullmatch(path.stem)]


def select(books: list[Book], names: Iterable[str]) -> list[Book]:
    """The books called by number, name or file name, in reading order; all of them if `names` is empty."""
    chosen = set()
    for name in names:
        key = Path(name).name.removesuffix(".ipynb")
        found = [book for book in books if key in (book.name, book.number)]
        if not found:
            known = ", ".join(book.name for book in books) or "none at all"
            raise CourseError(f"There is no notebook {name!r}. There are: {known}.")
        chosen.update(found)
    return [book for book in books if not chosen or book in chosen]


def read(path: Path):
    """The notebook in `path` (nbformat 4). Raises CourseError when the file is no valid notebook."""
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CourseError(f"{path.name} cannot be read as a notebook: {reason}") from error
    return notebook


def as_text(notebook) -> str:
    """The notebook as the text of its file: stable, readable, with a line end at the end."""
    import nbformat

    text = nbformat.writes(notebook, version=4)
    return text if text.endswith("\n") else text + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, path.stat().st_mode if path.exists() else 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_if_new(path: Path, text: str) -> list[Path]:
    """Write `text` to `path` unless it stands there already; return [path] if it was written, else []."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return []
    write_atomically(path, text)
    return [path]


def tags(cell) -> list[str]:
    """The tags of a cell."""
    return list(cell.get("metadata", {}).get("tags", []))


def code_cells(notebook) -> list:
    """The code cells of a notebook, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def without_injected(notebook):
    """The notebook without cells that an earlier run injected (changed in place, and returned)."""
    notebook.cells = [cell for cell in notebook.cells if INJECTED not in tags(cell)]
    return notebook


def parameters_of(notebook, name: str) -> dict[str, Parameter]:
    """The parameters that a notebook declares, in order.

    Raises CourseError, naming the notebook, when it has no cell tagged parameters, more than one, or one that holds
    anything but assignments of literals to names.
    """
    cells = [cell for cell in code_cells(notebook) if "parameters" in tags(cell)]
    if len(cells) != 1:
        raise CourseError(f"{name}: needs one code cell tagged 'parameters', has {len(cells)}.")
    source = cells[0].source
    comments = _comments(source)
    found = {}
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
            raise CourseError(f"{name}: the parameters cell may hold only `name = literal`, not {ast.unparse(node)!r}.")
        try:
            value = ast.literal_eval(node.value)
        except ValueError as error:
            raise CourseError(f"{name}: the parameter {ast.unparse(node)!r} must be a literal.") from error
        found[node.targets[0].id] = Parameter(value, comments.get(node.end_lineno, ""))
    return found


def _comments(source: str) -> dict[int, str]:
    """The comment on each line of Python source, by line number."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}


def check_overrides(name: str, known: Mapping[str, Parameter], overrides: Mapping[str, Any]) -> None:
    """Raise CourseError, naming the notebook and the parameter, for an unknown override or one of another type."""
    for key, value in overrides.items():
        if key not in known:
            raise CourseError(f"{name} has no parameter {key!r}. It has: {', '.join(known) or 'none'}.")
        default = known[key].value
        widened = isinstance(default, float) and type(value) is int
        if default is not None and value is not None and type(value) is not type(default) and not widened:
            raise CourseError(
                f"{name}: the parameter {key!r} is of type {type(default).__name__} (default {default!r}); "
                f"got {type(value).__name__} {value!r}."
            )
