"""`anytext course grade`: run what learners handed in, and say of each exercise how it stands.

A copy runs to its end: an exercise that is open or wrong stops nothing. Each check is put back to what the course says,
so that an edited one proves nothing; it runs the learners' code all the same, so grade in a container what you do
not trust.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anytext_lib.course.checks import NotYet, Unanswered
from anytext_lib.course.paths import notebooks_folder
from anytext_lib.errors import CourseError
from anytext_lib.files import explained_output, folder_lock
from anytext_lib.publishing import execute, notebooks
from anytext_lib.publishing.contents import EXERCISES
from anytext_lib.publishing.exercises import Exercise, counterpart, exercises_of
from anytext_lib.publishing.notebooks import Book

PASSED, WRONG, OPEN, NOT_REACHED = "passed", "wrong", "open", "not reached"
CSV, JSON = "grades.csv", "grades.json"
REACHED = ("completed", "failed", "running")  # papermill's words for a cell's state
ANSI = re.compile(r"\x1b\[[0-9;]*m")
CELL_FILE = re.compile(r"\(\d+\.py, (line \d+)\)")


@dataclass(frozen=True)
class Verdict:
    """How one exercise stands: its status, a hint where it is not passed, and the points it is worth."""

    exercise: str
    status: str
    hint: str
    worth: float

    @property
    def points(self) -> float:
        """The points that the learner has."""
        return self.worth if self.status == PASSED else 0


@dataclass(frozen=True)
class HandedIn:
    """One notebook of one student, and the published learner's copy that it comes from."""

    student: str
    path: Path
    book: Book


def find_handed_in(paths: Sequence[Path], books: Sequence[Book], say: Callable[..., None]) -> list[HandedIn]:
    """The notebooks in `paths` (files, or folders with one folder per student), by student and in reading order.

    The student is the first folder below the folder that is given, or the folder a notebook lies in. Notebooks that
    are none of `books` are skipped and told through `say`. Raises CourseError where a path does not exist, nothing is
    left, or a student has handed in the same notebook twice.
    """
    by_name = {book.path.name: book for book in books}
    found: dict[tuple[str, str], HandedIn] = {}
    for root in paths:
        root = Path(root).resolve()
        if not root.exists():
            raise CourseError(f"{root} does not exist: name notebooks, or a folder with a folder for each student.")
        for path in [root] if root.is_file() else sorted(root.rglob("*.ipynb")):
            inside = path.relative_to(root).parts if root.is_dir() else ()
            if any(part.startswith(".") for part in inside):
                continue
            if path.name not in by_name:
                say(f"skipped {path.name} in {path.parent.name}: it is not called as a learner's copy that is graded.")
                continue
            one = HandedIn(inside[0] if len(inside) > 1 else path.parent.name, path, by_name[path.name])
            other = found.setdefault((one.student, path.name), one)
            if other.path != path:
                raise CourseError(f"{one.student} has handed in {path.name} twice: {other.path} and {path}. Name one.")
    if not found:
        raise CourseError(f"There is no learner's copy (such as {next(iter(by_name), '02_name.ipynb')}) in "
                          f"{', '.join(map(str, paths))}.")
    return [found[key] for key in sorted(found)]


def with_own_checks(handed_in, exercises: Sequence[Exercise]):
    """What a student handed in, to be run: each check as the course has it, at the end where the student removed it."""
    import nbformat

    notebook = nbformat.v4.upgrade(notebooks.without_injected(handed_in))
    for exercise in exercises:
        answer, check = counterpart(notebook, exercise.answer), counterpart(notebook, exercise.check)
        if answer is not None:
            answer.id = exercise.answer.id
        if check is None:
            notebook.cells.append(exercise.check.copy())
        else:
            check.id, check.cell_type, check.source = exercise.check.id, "code", exercise.check.source
    return notebook


def is_open(notebook, exercise: Exercise) -> bool:
    """Whether the answer's cell is as the course gave it out."""
    answer = counterpart(notebook, exercise.answer)
    return answer is not None and answer.source.strip() == exercise.answer.source.strip()


def verdicts(executed, exercises: Sequence[Exercise], ended: str = "the notebook did not run") -> list[Verdict]:
    """How each exercise stands in an executed notebook; `ended` says why the run stopped, where it did."""
    own = {cell.id for exercise in exercises for cell in (exercise.answer, exercise.check)}
    return [Verdict(exercise.name, *_verdict(executed, exercise, own, ended), exercise.points)
            for exercise in exercises]


def _verdict(executed, exercise: Exercise, own: set[str], ended: str) -> tuple[str, str]:
    """(status, hint) of one exercise; `own` are the ids of the cells of all exercises."""
    answer, check = counterpart(executed, exercise.answer), counterpart(executed, exercise.check)
    if is_open(executed, exercise):
        return OPEN, ""
    if "running" in (_state(answer), _state(check)):
        return WRONG, f"it does not come to an end: {ended}"
    if _state(check) not in REACHED:
        return NOT_REACHED, ended
    error = _error(check)
    if error is None:
        return PASSED, ""
    if _error(answer) is not None:
        return WRONG, f"the answer's cell raises {_words(_error(answer))}"
    if error.ename == Unanswered.__name__:
        return OPEN, ""
    if error.ename == NotYet.__name__:
        return WRONG, error.evalue
    before = next((cell for cell in executed.cells[:executed.cells.index(check)]
                   if cell.id not in own and _error(cell) is not None), None)
    if before is not None:
        return NOT_REACHED, f"a cell before it raises {_words(_error(before))}"
    return WRONG, f"the check ends with {_words(error)}"


def _state(cell) -> str:
    """papermill's word for the state of a cell; "" where there is no cell or no run."""
    return "" if cell is None else cell.metadata.get("papermill", {}).get("status", "")


def _error(cell):
    """The error that a cell's run ended with, or None."""
    outputs = [] if cell is None else cell.get("outputs", [])
    return next((output for output in outputs if output.output_type == "error"), None)


def _words(error) -> str:
    """An error in one line; a cell's file is called by a number that means nothing."""
    message = CELL_FILE.sub(r"(\1)", (ANSI.sub("", error.evalue).strip().splitlines() or ["no message"])[0])
    return f"{error.ename}: {message}"


# ---- the command


@dataclass(frozen=True)
class GradeRequest:
    """What to grade and how; the fields are the options of `anytext course grade`."""

    handed_in: Sequence[Path]
    only: Sequence[str] = ()
    profile: str = "quick"
    jobs: int = 1
    out: Path | None = None
    folder: Path | None = None
    device: str | None = None


def grade(request: GradeRequest, say: Callable[..., None] = print) -> int:
    """Run and grade what `request` names, write the results; return 0, or 1 where a notebook did not run to its end.

    Raises CourseError for a wrong request, FolderBusyError where another run writes into the same folder, and
    OutputError where the folder cannot be written.
    """
    from anytext_lib.device import pick_device

    folder = notebooks_folder(request.folder)
    profile = notebooks.load_profiles(folder).profile(request.profile)
    books = notebooks.select(notebooks.find_books(folder / EXERCISES), request.only)
    if request.jobs < 1:
        raise CourseError(f"--jobs must be at least 1, got {request.jobs}.")
    try:
        device = str(pick_device(request.device))
    except RuntimeError as error:
        raise CourseError(str(error)) from error
    handed_in = find_handed_in(request.handed_in, books, say)
    out = Path(request.out or folder.parent / "build" / "grades").resolve()
    with folder_lock(out, "another folder by --out"), explained_output(out, "another folder by --out"):
        return _grade(handed_in, profile, device, request.jobs, out, say)


def _grade(handed_in: Sequence[HandedIn], profile: notebooks.Profile, device: str, jobs: int, out: Path,
           say: Callable[..., None]) -> int:
    results: dict[HandedIn, list[Verdict]] = {}
    tasks: dict[Path, tuple[HandedIn, execute.Task]] = {}
    given = {one.book: exercises_of(notebooks.read(one.book.path)) for one in handed_in}
    unfinished = 0
    for one in handed_in:
        exercises = given[one.book]
        try:
            notebook = with_own_checks(notebooks.read(one.path), exercises)
        except CourseError as error:
            results[one] = [Verdict(e.name, NOT_REACHED, str(error), e.points) for e in exercises]
            unfinished += 1
            continue
        if all(is_open(notebook, exercise) for exercise in exercises):  # nothing to run
            results[one] = verdicts(notebook, exercises)
            continue
        setting = profile.setting(one.book.number)
        source = out / "to_run" / one.student / one.path.name
        source.parent.mkdir(parents=True, exist_ok=True)
        notebooks.write_atomically(source, notebooks.as_text(notebook))
        task = execute.Task(source, out / "executed" / one.student / one.path.name, setting.parameters,
                            setting.budget_seconds, device, execute.threads_for(jobs), allow_errors=True)
        tasks[source] = one, task
    say(f"{len(handed_in)} notebooks of {len({one.student for one in handed_in})} students; {len(tasks)} hold answers "
        f"and are run: profile {profile.name}, device {device}, {jobs} at a time.", flush=True)
    for task, ending in execute.run_all([task for _, task in tasks.values()], jobs):
        one = tasks[task.source][0]
        ended = f"the run was stopped after {ending.excess}" if ending.excess else f"the run ended as {ending.status}"
        unfinished += ending.status not in ("ok", "failed")
        executed = notebooks.read(task.output if task.output.exists() else task.source)
        results[one] = verdicts(executed, given[one.book], ended)
        say(f"  {one.student}: {one.book.name} {ending.seconds:.1f} s", flush=True)
    results = {one: results[one] for one in handed_in}
    notebooks.write_atomically(out / CSV, as_csv(results))
    notebooks.write_atomically(out / JSON, json.dumps(as_table(results), indent=1, ensure_ascii=False) + "\n")
    say(f"\n{as_report(results)}\n\nResults: {out / CSV}, {JSON}; executed notebooks: {out / 'executed'}")
    return 1 if unfinished else 0


# ---- the results


def as_table(results: dict[HandedIn, list[Verdict]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Student -> exercise -> status, hint, points and worth."""
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for one, found in results.items():
        table.setdefault(one.student, {}).update({
            verdict.exercise: {"status": verdict.status, "hint": verdict.hint, "points": verdict.points,
                               "worth": verdict.worth} for verdict in found})
    return table


def as_csv(results: dict[HandedIn, list[Verdict]]) -> str:
    """A row for each student and a column for each exercise (empty where nothing was handed in), with the points."""
    columns = list(dict.fromkeys(verdict.exercise for one in sorted(results, key=lambda one: one.book.name)
                                 for verdict in results[one]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", *columns, "points", "worth"])
    for student, row in as_table(results).items():
        sums = [sum(entry[key] for entry in row.values()) for key in ("points", "worth")]
        writer.writerow([student, *(row.get(name, {}).get("status", "") for name in columns), *sums])
    return text.getvalue()


def as_report(results: dict[HandedIn, list[Verdict]]) -> str:
    """The verdicts for a terminal: each notebook with its points, and below a line for each exercise."""
    lines: list[str] = []
    for one, found in results.items():
        lines += ["", f"{one.student} · {one.book.name} · {_points(found)}"]
        lines += [f"  {verdict.exercise:<24} {verdict.status:<12} {verdict.hint}".rstrip() for verdict in found]
    students = list(dict.fromkeys(one.student for one in results))
    width = max(len(name) for name in ("student", *students))
    lines += ["", f"{'student':<{width}}  points"]
    for student in students:
        own = [verdict for one, found in results.items() if one.student == student for verdict in found]
        lines.append(f"{student:<{width}}  {_points(own)}")
    return "\n".join(lines).strip()


def _points(found: Sequence[Verdict]) -> str:
    return f"{sum(verdict.points for verdict in found):g} of {sum(verdict.worth for verdict in found):g}"
