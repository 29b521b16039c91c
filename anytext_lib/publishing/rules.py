"""Rules of published notebooks; each is a function that returns its faults, one message each."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from anytext_lib.course.record import records_of
from anytext_lib.errors import CourseError
from anytext_lib.publishing import contents, learners_copies, links, notebooks, pages, provenance
from anytext_lib.publishing.notebooks import load_profiles

TAGS = {"parameters", notebooks.INJECTED, "solution", "exercise", "check", "nbval-check-output", provenance.MAP}
MAX_LINES, MAX_PLOT, MAX_BYTES, MIN_EXERCISES = 15, 20, 2_000_000, 2
PLOT = re.compile(r"\b(show|show_images|explore)\(")
FIX = "run `anytext course check --fix`"
MACHINE_PATH = re.compile(r"(?<![\w/])/(?:home|root|tmp|work|Users|mnt|opt|var)/[\w.-]+|\b[A-Za-z]:\\+Users\\+\w+")
WARNING = re.compile(r"\b\w*Warning: ")
BAR = re.compile(r"\d+%\|")
FAILED = re.compile(r"✗.*|\bNot yet: .*")
DATA_URI = re.compile(r"data:image/[\w+]+;base64,[A-Za-z0-9+/=]+")


def check_notebook(path: Path) -> list[str]:
    """Everything that is wrong with the notebook in `path`, a message each, beginning with its name."""
    try:
        notebook = notebooks.read(path)
        found = [message for rule in RULES for message in rule(notebook, path)]
    except (CourseError, SyntaxError) as error:
        found = [str(error)]
    return [f"{path.stem}: {message.removeprefix(f'{path.stem}: ')}" for message in found]


def _texts(notebook) -> Iterator[tuple[int, str]]:
    """All text in outputs, image data left out, with the number of the code cell."""
    for number, cell in enumerate(notebooks.code_cells(notebook), start=1):
        for output in cell.outputs:
            parts = [output.get("text", ""), "\n".join(output.get("traceback", [])), output.get("evalue", "")]
            parts += [value for mime, value in output.get("data", {}).items()
                      if isinstance(value, str) and not mime.startswith("image/")]
            yield number, DATA_URI.sub("", "\n".join(parts))


def title_and_cost(notebook, path: Path) -> list[str]:
    """The first cell has a title, and a run of the notebook has been recorded."""
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        return ["the first cell must be markdown and begin with a title, `# ...`"]
    costs = provenance.load_costs(path.parent).get(notebooks.Book(path).number, {})
    return [] if any(provenance.cost_parts(costs)) else ["has no recorded cost; run `anytext course run --in-place`"]


def published_form(notebook, path: Path) -> list[str]:
    """The page has the form that publication gives: see `pages.STEPS`."""
    if title_and_cost(notebook, path):
        return []
    book = notebooks.Book(path)
    return [f"{what}; {FIX}" for what in pages.unfinished(notebook, book, notebooks.find_books(path.parent))]


def parameters_cell(notebook, path: Path) -> list[str]:
    """There is one parameters cell, of commented literals."""
    known = notebooks.parameters_of(notebook, path.stem)
    return [f"the parameter {name!r} has no comment" for name, parameter in known.items() if not parameter.comment]


def cell_form(notebook, path: Path) -> list[str]:
    """No cell is empty or too long, and all tags are known."""
    problems = []
    for number, cell in enumerate(notebook.cells, start=1):
        unknown = set(notebooks.tags(cell)) - TAGS
        if unknown:
            problems.append(f"cell {number} has the unknown tag {min(unknown)!r}; known are {', '.join(sorted(TAGS))}")
        if not cell.source.strip():
            problems.append(f"cell {number} is empty")
        most = MAX_PLOT if PLOT.search(cell.source) else MAX_LINES
        counts = cell.cell_type == "code" and "parameters" not in notebooks.tags(cell)
        lines = lines_of_code(cell.source) if counts else 0
        if lines > most:
            problems.append(f"cell {number} has {lines} lines of code; at most {MAX_LINES}, or {MAX_PLOT} with a plot")
    return problems


def lines_of_code(source: str) -> int:
    """Lines that hold more than a comment or a docstring."""
    docstrings = {line for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr)
                  and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
                  for line in range(node.lineno, node.end_lineno + 1)}
    return sum(number not in docstrings and bool(line.split("#")[0].strip())
               for number, line in enumerate(source.splitlines(), start=1))


def executed_in_order(notebook, path: Path) -> list[str]:
    """Execution counts are 1..n and no cell raised."""
    cells = notebooks.code_cells(notebook)
    problems = []
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        problems.append("was not executed from top to bottom in one go; run `anytext course run --in-place`")
    for number, cell in enumerate(cells, start=1):
        problems += [f"code cell {number} holds the error {output.ename}: {output.evalue}"
                     for output in cell.outputs if output.output_type == "error"]
    return problems


def fresh(notebook, path: Path) -> list[str]:
    """The outputs belong to the sources: the hash in the provenance is that of the cells."""
    stamped = notebook.metadata.get("anytext")
    if not stamped:
        return ["has no provenance; run `anytext course run --in-place`"]
    if not provenance.is_fresh(notebook):
        return ["was changed after it ran (stale outputs); run `anytext course run --in-place`"]
    return []


def quiet_outputs(notebook, path: Path) -> list[str]:
    """Outputs hold no warnings, no stderr, no progress bars and no paths of a machine."""
    problems = []
    for number, cell in enumerate(notebooks.code_cells(notebook), start=1):
        problems += [f"code cell {number} wrote to stderr: {output.text.strip()[:80]!r}"
                     for output in cell.outputs if output.get("name") == "stderr"]
    for number, text in _texts(notebook):
        for pattern, what in ((WARNING, "a warning"), (MACHINE_PATH, "a path of a machine"), (BAR, "a progress bar")):
            found = pattern.search(text)
            if found:
                problems.append(f"code cell {number} shows {what}: {found.group()!r}")
    return problems


def no_failed_check(notebook, path: Path) -> list[str]:
    """No output holds a check that failed."""
    return [f"code cell {number} holds a failed check: {found.group().strip()[:80]!r}"
            for number, text in _texts(notebook) if (found := FAILED.search(text))]


def figures(notebook, path: Path) -> list[str]:
    """Every image is image/png with alternative text in its metadata, where each viewer looks for it."""
    problems = []
    for number, cell in enumerate(notebooks.code_cells(notebook), start=1):
        for output in cell.outputs:
            data, metadata = output.get("data", {}), output.get("metadata", {})
            kinds = [mime for mime in data if mime.startswith("image/")]
            words = (metadata.get("image/png", {}).get("alt", ""), metadata.get("vscode_altText", ""))
            if kinds and (kinds != ["image/png"] or not all(text.strip() for text in words)):
                problems.append(f"code cell {number} shows a figure without alternative text; use show(fig, alt=...)")
            elif not kinds and "<img" in data.get("text/html", ""):
                problems.append(f"code cell {number} shows a picture as HTML, which many viewers hide; use show(fig)")
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "markdown" and re.search(r"!\[\s*\]\(", cell.source):
            problems.append(f"cell {number} holds a picture without alternative text: ![]( needs words")
    return problems


def living_links(notebook, path: Path) -> list[str]:
    """Every relative link leads to a file."""
    return [f"cell {number} has a link to {target!r}, where there is nothing"
            for number, cell in enumerate(notebook.cells, start=1) if cell.cell_type == "markdown"
            for target in links.dead_links(cell.source, path.parent)]


def size(notebook, path: Path) -> list[str]:
    """The file is at most two megabytes."""
    length = path.stat().st_size
    return [f"is {length:,} bytes large, at most {MAX_BYTES:,} (fewer or smaller figures)"] * (length > MAX_BYTES)


def kernel(notebook, path: Path) -> list[str]:
    """The kernel is python3."""
    name = notebook.metadata.get("kernelspec", {}).get("name")
    return [] if name == "python3" else [f"its kernel must be 'python3', is {name!r}"]


def solved_exercises(notebook, path: Path) -> list[str]:
    """There are enough exercises, each with text, a marked solution and a check, and learners' copies of them work."""
    problems, solved = [], 0
    for index, cell in enumerate(notebook.cells):
        if "solution" not in notebooks.tags(cell):
            if learners_copies.BEGIN in cell.source:
                problems.append(f"cell {index + 1} holds a solution but is not tagged 'solution'")
            continue
        solved += 1
        after = notebook.cells[index + 1] if index + 1 < len(notebook.cells) else None
        if learners_copies.strip_solutions(cell.source, path.stem) == cell.source:
            problems.append(f"solution cell {index + 1} has no lines {learners_copies.BEGIN} and {learners_copies.END}")
        if "check_" not in cell.source and (after is None or "check" not in notebooks.tags(after)):
            problems.append(f"solution cell {index + 1} is not followed by a cell tagged 'check'")
        if index == 0 or "exercise" not in notebooks.tags(notebook.cells[index - 1]):
            problems.append(f"solution cell {index + 1} does not follow a markdown cell tagged 'exercise'")
        lost = learners_copies.names_lost(cell.source, path.stem)
        if lost:
            problems.append(f"solution cell {index + 1}: learners would lack {min(lost)!r}; "
                            f"write `{min(lost)} = ...` above {learners_copies.BEGIN}")
    if solved < MIN_EXERCISES:
        problems.append(f"has {solved} exercises with solutions, at least {MIN_EXERCISES} are needed")
    return problems


def explores_and_records(notebook, path: Path) -> list[str]:
    """There is a figure to explore and a recorded number."""
    calls = {
        node.func.id
        for cell in notebooks.code_cells(notebook)
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    problems = [] if "explore" in calls else ["never calls explore(); at least one figure must be one to play with"]
    return problems + ([] if records_of(notebook) else ["recorded nothing; call record() at least once"])


RULES: tuple[Callable, ...] = (
    title_and_cost, published_form, parameters_cell, cell_form, executed_in_order, fresh, quiet_outputs,
    no_failed_check, figures, living_links, size, kernel, solved_exercises, explores_and_records,
)


def check_course(folder: Path) -> list[str]:
    """List the faults of the course as a whole: profiles.yaml against files and parameters, learners' copies."""
    profiles = load_profiles(folder)
    by_number = {book.number: book for book in notebooks.find_books(folder)}
    problems = [f"profiles.yaml lists notebook {number}, but there is no file {number}_*.ipynb"
                for number in profiles.questions if number not in by_number]
    problems += [f"{book.name} is not listed in profiles.yaml"
                 for number, book in by_number.items() if number not in profiles.questions]
    for profile in profiles.profiles.values():
        for number, setting in profile.settings.items():
            if number in by_number:
                problems += _bad_overrides(by_number[number], profile.name, setting.parameters)
    return (problems + learners_copies.stale_copies(folder) + _copies_with_dead_links(folder)
            + contents.stale_readme(folder))


def _copies_with_dead_links(folder: Path) -> list[str]:
    copies = sorted((folder / contents.EXERCISES).glob("*.ipynb"))
    return [f"{contents.EXERCISES}/{path.stem}: {message}" for path in copies
            for message in living_links(notebooks.read(path), path)]


def _bad_overrides(book: notebooks.Book, profile: str, overrides: dict) -> list[str]:
    try:
        notebooks.check_overrides(book.name, notebooks.parameters_of(notebooks.read(book.path), book.name), overrides)
    except CourseError as error:
        return [f"profile {profile}: {error}"]
    return []
