"""The exercises of a notebook: an answer cell and the check after it, and what nbgrader wants to know about both.

An exercise is called after its check: the cell with `check_02_eps_from_v(...)` belongs to the exercise 02_eps_from_v.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from anytext_lib.publishing import notebooks

POINTS = 1
"""What an exercise is worth, unless its check cell says otherwise."""
SCHEMA_VERSION = 3
CALL = re.compile(r"^check_(\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Exercise:
    """One exercise: its name, the cell for the answer, and the cell that checks it."""

    name: str
    answer: Any
    check: Any

    @property
    def points(self) -> float:
        """What passing the check is worth, from the check cell's metadata for nbgrader."""
        return self.check.metadata.get("nbgrader", {}).get("points", POINTS)


def exercises_of(notebook) -> list[Exercise]:
    """The exercises of a notebook, in order: each cell tagged `solution` with the next one tagged `check`."""
    found, answer = [], None
    for cell in notebooks.code_cells(notebook):
        if "solution" in notebooks.tags(cell):
            answer = cell
        elif "check" in notebooks.tags(cell) and answer is not None:
            call = CALL.search(cell.source)
            found.append(Exercise(call.group(1) if call else cell.id, answer, cell))
            answer = None
    return found


def mark_for_nbgrader(notebook) -> None:
    """Give answer and check cells nbgrader's metadata: an autograded answer, and a locked test that is worth points."""
    for exercise in exercises_of(notebook):
        exercise.answer.metadata["nbgrader"] = _metadata(f"{exercise.name}-answer", solution=True)
        exercise.check.metadata["nbgrader"] = _metadata(exercise.name, solution=False) | {"points": exercise.points}


def _metadata(name: str, solution: bool) -> dict[str, Any]:
    return {"grade": not solution, "grade_id": name, "locked": not solution, "schema_version": SCHEMA_VERSION,
            "solution": solution, "task": False}


def counterpart(notebook, cell):
    """The cell of `notebook` that was once `cell`, by its id or by its name for nbgrader; None where it is gone."""
    name = cell.metadata.get("nbgrader", {}).get("grade_id")
    by_id = [other for other in notebook.cells if other.get("id") == cell.id]
    by_name = [other for other in notebook.cells
               if name is not None and other.metadata.get("nbgrader", {}).get("grade_id") == name]
    return next(iter(by_id + by_name), None)
