"""nbval on the deterministic cells (tag nbval-check-output) of the published notebooks.

nbval executes what it compares. The notebooks as a whole run once, in test_notebooks; here only the tagged cells run,
with the cells that they need and the parameters of the profile `quick`, so what they print must depend neither on the
profile nor on the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from anytext_lib.course.explore import FRONT_END_VARIABLES
from anytext_lib.course.paths import notebooks_folder, project_root
from anytext_lib.publishing import notebooks
from anytext_lib.publishing.execute import NOT_STARTED, STARTS
from anytext_lib.publishing.notebooks import load_profiles
from tests.notebooks import slices

FOLDER = notebooks_folder()
PROFILES = load_profiles(FOLDER)


def nbval(path: Path) -> subprocess.CompletedProcess:
    """Run nbval on a notebook, alone in its folder."""
    kept = {key: value for key, value in os.environ.items() if key not in (*FRONT_END_VARIABLES, "PYTEST_ADDOPTS")}
    settings = {"PYTHONPATH": str(project_root()), "PYTHONHASHSEED": "0", "ANYTEXT_DEVICE": "cpu"}
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider", "-q",
               "--rootdir", str(path.parent), "--nbval-cell-timeout", "120", "--color=no", str(path)]
    for _ in range(STARTS):  # tests run side by side, and two kernels that start at once can be given the same port
        done = subprocess.run(command, capture_output=True, text=True, cwd=path.parent, env=kept | settings)
        if NOT_STARTED not in done.stdout:
            break
    return done


def check(notebook, overrides: dict, folder: Path) -> subprocess.CompletedProcess:
    """nbval on the part of a notebook that its tagged cells need."""
    path = folder / "reduced.ipynb"
    nbformat.write(slices.reduced(notebook, overrides), path)
    return nbval(path)


@pytest.mark.slow
@pytest.mark.parametrize("number", list(PROFILES.questions))
def test_deterministic_cells_print_what_is_published(number, tmp_path):
    (book,) = notebooks.select(notebooks.find_books(FOLDER), [number])
    notebook = notebooks.read(book.path)
    assert slices.reduced(notebook, {}) is not None, f"{book.name} has no cell tagged {slices.TAG}"
    done = check(notebook, PROFILES.profile("quick").setting(number).parameters, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_slice_holds_what_the_tagged_cells_need_and_no_more(course, cells):
    code, _ = cells
    path = course.add(
        "01_slice", "import math, time", "def area(r):\n    return round(math.pi * r, 3)", "time.sleep(60)", "xs = []",
        "xs.append(area(n))", "ys = [1]\nys[0] = 3", "record('x', 1)", code("print(xs)", "nbval-check-output"),
        "print(ys)",
    )
    notebook = notebooks.read(path)
    sources = [cell.source for cell in slices.reduced(notebook, {"n": 7}).cells]
    assert sources == [
        "n = 2  # how many\nscale = 1.5  # of the value", "n = 7", "import math, time",
        "def area(r):\n    return round(math.pi * r, 3)", "xs = []", "xs.append(area(n))", "print(xs)",
    ]
    untagged = notebooks.read(course.add("02_none", "print(1)"))
    assert slices.reduced(untagged, {}) is None


def test_nbval_passes_the_published_output_and_catches_another(course, cells, tmp_path):
    code, _ = cells
    path = course.add("01_nbval", "record('a', 1)", "offset = 1", code("print(n + offset)", "nbval-check-output"))
    assert course.run(in_place=True) == 0, course.said
    notebook = notebooks.read(path)
    same = check(notebook, {"scale": 2.0}, tmp_path)
    assert same.returncode == 0, same.stdout
    other = check(notebook, {"n": 5}, tmp_path)
    assert other.returncode == 1 and "mismatch" in other.stdout, other.stdout
