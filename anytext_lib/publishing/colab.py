"""`anytext course colab`: copies of the notebooks that set themselves up on Google Colab, by a first cell.

Each notebook of Colab runs on a machine of its own, which has neither this repository nor its packages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from anytext_lib.errors import CourseError
from anytext_lib.publishing import notebooks
from anytext_lib.publishing.notebooks import Book

PLACE = "/content/course"
SET_UP = "\n".join((
    "# Sets the course up on this machine: some minutes, the first time. A GPU: Runtime > Change runtime type.",
    "import pathlib",
    "import sys",
    "",
    'if not pathlib.Path("{place}").exists():',
    "    !git clone --quiet --depth 1 --branch {branch} {repository} {place}",
    "    %pip install --quiet --editable '{place}[course]'",
    'sys.path.insert(0, "{place}")',
    "%cd {place}/notebooks",
))
ADDRESS = re.compile(r"(https|file)://[\w./:@~-]+")
BRANCH = re.compile(r"[\w./-]+")


def set_up_cell(repository: str, branch: str = "main", place: str = PLACE) -> str:
    """The source of the first cell.

    Args:
        repository: address that git can clone without a password. ``branch``: or a tag. ``place``: folder of the clone.

    Raises:
        CourseError: the address or the branch is none.
    """
    if not ADDRESS.fullmatch(repository):
        raise CourseError(f"{repository!r} is no address to clone from: give https://HOST/OWNER/NAME.git")
    if not BRANCH.fullmatch(branch):
        raise CourseError(f"{branch!r} is no name of a branch or tag")
    return SET_UP.format(repository=repository, branch=branch, place=place)


def write_colab(books: Sequence[Book], target: Path, repository: str, branch: str = "main") -> list[Path]:
    """Write a copy of each notebook, without outputs and with the set-up cell in front, into ``target``.

    Links between the pages lead to each other as before; those into the repository need the clone.
    """
    import nbformat

    source, written = set_up_cell(repository, branch), []
    target.mkdir(parents=True, exist_ok=True)
    for book in books:
        notebook = notebooks.without_injected(notebooks.read(book.path))
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        notebook.cells.insert(0, nbformat.v4.new_code_cell(source, id="set-up"))
        written.append(target / book.path.name)
        notebooks.write_atomically(written[-1], notebooks.as_text(notebook))
    return written
