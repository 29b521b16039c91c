"""Notebooks as files: finding, reading, writing, the parameters that they declare, and the profiles that override them.

A profile (notebooks/profiles.yaml) is a set of parameter overrides and time budgets under which the notebooks run.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from anytext_lib.errors import CourseError
from anytext_lib.files import atomic_path

NUMBER = r"\d\d[a-z]?"
"""A notebook's number: two digits, and a letter for a second part, as in 05b."""
FILE_NAME = re.compile(rf"({NUMBER})_\w+")
INJECTED = "injected-parameters"
PROFILES = "profiles.yaml"


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
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


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


# ---- profiles


@dataclass(frozen=True)
class Setting:
    """How one notebook runs under a profile: overrides of its parameters, and CPU seconds before it is stopped."""

    parameters: dict[str, Any] = field(default_factory=dict)
    budget_seconds: float = 600.0


@dataclass(frozen=True)
class Profile:
    """A named set of settings; `budget_seconds` holds for notebooks that do not say otherwise."""

    name: str
    budget_seconds: float
    settings: dict[str, Setting]

    def setting(self, number: str) -> Setting:
        """The setting of notebook `number`."""
        return self.settings.get(number, Setting({}, self.budget_seconds))


@dataclass(frozen=True)
class Profiles:
    """All of profiles.yaml: the notebooks (number -> the question it answers) and the profiles by name."""

    questions: dict[str, str]
    profiles: dict[str, Profile]

    def profile(self, name: str) -> Profile:
        """The profile called `name`. Raises CourseError, naming the known ones."""
        if name not in self.profiles:
            raise CourseError(f"There is no profile {name!r} in {PROFILES}. There are: {', '.join(self.profiles)}.")
        return self.profiles[name]


def load_profiles(folder: Path) -> Profiles:
    """Read and validate `folder`/profiles.yaml. Raises CourseError that says what is wrong, and where."""
    import yaml

    path = folder / PROFILES
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CourseError(f"{path} does not exist; the runner takes profiles and budgets from it.") from error
    except yaml.YAMLError as error:
        raise CourseError(f"{PROFILES} is no valid YAML: {error}") from error
    data = _mapping(data, "the file", {"notebooks", "profiles"}, required={"notebooks", "profiles"})
    questions = _mapping(data["notebooks"], "notebooks")
    for number, question in questions.items():
        _check_number(number, "notebooks")
        if not isinstance(question, str):
            raise _wrong(f"notebooks.{number}", f"must be the question that the notebook answers, got {question!r}")
    profiles = _mapping(data["profiles"], "profiles")
    return Profiles(questions, {name: _profile(name, entry, questions) for name, entry in profiles.items()})


def _profile(name: str, entry: Any, questions: dict) -> Profile:
    place = f"profiles.{name}"
    entry = _mapping(entry, place, {"budget_seconds", "notebooks"}, required={"budget_seconds"})
    budget = _budget(entry["budget_seconds"], place)
    settings = {}
    for number, setting in _mapping(entry.get("notebooks") or {}, f"{place}.notebooks").items():
        _check_number(number, f"{place}.notebooks")
        where = f"{place}.notebooks.{number}"
        if number not in questions:
            raise _wrong(where, f"is not one of the notebooks listed above ({', '.join(questions)})")
        setting = _mapping(setting, where, {"budget_seconds", "parameters"})
        parameters = _mapping(setting.get("parameters") or {}, f"{where}.parameters")
        settings[number] = Setting(parameters, _budget(setting.get("budget_seconds", budget), where))
    return Profile(name, budget, settings)


def _wrong(place: str, what: str) -> CourseError:
    return CourseError(f"{PROFILES}: {place} {what}.")


def _mapping(value: Any, place: str, allowed: set | None = None, required: set = frozenset()) -> dict:
    if not isinstance(value, dict):
        raise _wrong(place, f"must be a mapping, got {type(value).__name__} {value!r}")
    unknown = [key for key in value if allowed is not None and key not in allowed]
    if unknown:
        raise _wrong(place, f"has the unknown key {unknown[0]!r}; known are {', '.join(sorted(allowed))}")
    missing = sorted(required - set(value))
    if missing:
        raise _wrong(place, f"lacks the key {missing[0]!r}")
    return value


def _check_number(number: Any, place: str) -> None:
    if not (isinstance(number, str) and re.fullmatch(NUMBER, number)):
        raise _wrong(place, f"has the key {number!r}: write the notebook's number in quotes, as in \"02\"")


def _budget(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise _wrong(f"{place}.budget_seconds", f"must be a number above 0, got {value!r}")
    return float(value)
