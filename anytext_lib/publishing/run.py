"""The notebook runner behind `anytext course run`: execute, compare, report, publish.

Exit status: 0 all well; 1 a notebook failed, ran out of its budget, recorded nothing or drifted; 2 the request was
wrong (unknown notebook, profile, parameter or device; unreadable profiles.yaml); 130 interrupted.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anytext_lib.course.paths import notebooks_folder
from anytext_lib.course.record import Record, fold, records_of
from anytext_lib.errors import CourseError
from anytext_lib.files import explained_output, folder_lock
from anytext_lib.publishing import execute, notebooks, pages, provenance
from anytext_lib.publishing.notebooks import Book, Profile, load_profiles
from anytext_lib.publishing.numbers import Baselines, duplicates

ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class RunRequest:
    """What to run, and what to do with the result; the fields are the options of `anytext course run`."""

    notebooks: Sequence[str] = ()
    profile: str = "default"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    jobs: int = 1
    check: bool = False
    update_baselines: bool = False
    in_place: bool = False
    out: Path | None = None
    folder: Path | None = None
    device: str | None = None
    budget_factor: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """Result of one notebook: status, cost, recorded numbers, faults, and the executed file."""

    book: Book
    status: str
    seconds: float
    records: list[Record]
    problems: list[str]
    output: Path


def run(request: RunRequest, say: Callable[..., None] = print) -> int:
    """Run the notebooks that `request` asks for, telling progress through `say`; return the exit status.

    Raises CourseError for a wrong request, FolderBusyError where another run writes into the same folder, and
    OutputError where the folder cannot be written.
    """
    course = Course(request, say)
    with folder_lock(course.out, "another folder by --out"), explained_output(course.out, "another folder by --out"):
        return course.run()


class Course:
    """One run of the course. Raises CourseError before anything starts when the request is wrong."""

    def __init__(self, request: RunRequest, say: Callable[..., None] = print):
        from anytext_lib.device import machine, pick_device

        self.request, self.say = request, say
        self.folder = notebooks_folder(request.folder)
        self.profile: Profile = load_profiles(self.folder).profile(request.profile)
        self.books = notebooks.select(notebooks.find_books(self.folder), request.notebooks)
        if not self.books:
            raise CourseError(f"There are no notebooks (NN_name.ipynb) in {self.folder}.")
        if request.jobs < 1:
            raise CourseError(f"--jobs must be at least 1, got {request.jobs}.")
        self.parameters = {book: self._parameters(book) for book in self.books}
        try:
            self.device = str(pick_device(request.device))
        except RuntimeError as error:
            raise CourseError(str(error)) from error
        self.out = Path(request.out or self.folder.parent / "build" / "notebooks" / request.profile).resolve()
        if self.out == self.folder:
            raise CourseError("--out must not be the folder of notebooks itself; use --in-place to publish outputs.")
        self.threads = execute.threads_for(request.jobs)
        self.where = machine(self.device, int(self.threads))
        self.baselines = Baselines(self.folder, request.profile, self.device.split(":")[0])

    def _parameters(self, book: Book) -> tuple[dict[str, Any], dict[str, Any]]:
        """(overrides, all parameters) of a notebook; checked against its parameters cell."""
        known = notebooks.parameters_of(notebooks.read(book.path), book.name)
        overrides = {**self.profile.setting(book.number).parameters, **self.request.parameters}
        notebooks.check_overrides(book.name, known, overrides)
        return overrides, {name: parameter.value for name, parameter in known.items()} | overrides

    def run(self) -> int:
        """Execute all notebooks; print a line for each, then the faults, then where the results are."""
        threads = self.threads
        tasks = [self._task(book) for book in self.books]
        by_name = {book.name: book for book in self.books}
        count = len(self.books)
        self.say(f"Running {count} notebook{'s' * (count != 1)}: profile {self.profile.name}, device {self.device}, "
                 f"{self.request.jobs} at a time, {threads} thread{'s' * (threads != '1')} each.")
        if self.request.check and not self.baselines.path.exists():
            self.say(f"There is no {self.baselines.title}: this kind of device has no expected numbers, nothing is "
                     "compared. Record some with --update-baselines.")
        outcomes = []
        for task, ending in execute.run_all(tasks, self.request.jobs, self._announce, self._retry):
            outcome = self._finish(by_name[task.output.stem], task, ending)
            outcomes.append(outcome)
            self._report(outcome, len(outcomes))
        if self.request.update_baselines and not any(outcome.status != "ok" for outcome in outcomes):
            self.baselines.save()
            self.say(f"Wrote {self.baselines.title}.")
        if self.request.in_place:
            pages.refresh_map(self.folder)
        return self._conclude(outcomes)

    def _task(self, book: Book) -> execute.Task:
        budget = self.profile.setting(book.number).budget_seconds * self.request.budget_factor
        output = self.out / f"{book.name}.ipynb"
        return execute.Task(book.path, output, self.parameters[book][0], budget, self.device, self.threads)

    def _announce(self, task: execute.Task) -> None:
        if self.request.jobs == 1:
            self.say(f"  {task.output.stem:<32} ", end="", flush=True)

    def _retry(self, task: execute.Task, ending: execute.Ending) -> None:
        self.say(f"\n  {task.output.stem}: stopped after {ending.excess} ({ending.usage}); it is tried once more.",
                 flush=True)

    def _finish(self, book: Book, task: execute.Task, ending: execute.Ending) -> Outcome:
        """Stamp, examine and publish what a worker left."""
        if not task.output.exists():
            return Outcome(book, ending.status, ending.seconds, [], [_death(book, task, ending)], task.output)
        notebook = notebooks.read(task.output)
        result = {
            "status": ending.status, "seconds": ending.seconds, "peak_memory_mib": ending.peak_memory_mib,
            "cpu_seconds": round(ending.usage.cpu_seconds, 1),
        }
        provenance.stamp(notebook, profile=self.profile.name, parameters=self.parameters[book][1],
                         where=self.where, result=result)
        fold(notebook)
        records = records_of(notebook)
        problems = self._problems(book, notebook, task, ending, records)
        if not problems and self.request.in_place:
            provenance.save_cost(self.folder, book.number, notebook.metadata["anytext"])
            pages.finish(notebook, book, notebooks.find_books(self.folder))
        notebooks.write_atomically(task.output, notebooks.as_text(notebook))
        if not problems and self.request.in_place:
            notebooks.write_atomically(book.path, notebooks.as_text(notebook))
        status = ending.status if ending.status != "ok" or not problems else "wrong"
        return Outcome(book, status, ending.seconds, records, problems, task.output)

    def _problems(self, book, notebook, task, ending, records) -> list[str]:
        if ending.status == "failed":
            return [failing_cell(book.name, notebook)]
        if ending.status == "timeout":
            return [_timeout(book, notebook, task, ending)]
        if ending.status != "ok":
            return [_death(book, task, ending)]
        if not records:
            return [f"{book.name}: recorded nothing; every notebook must record() at least one number"]
        twice = duplicates(records)
        if twice:
            return [f"{book.name}: recorded {name!r} more than once; names must be unique" for name in twice]
        if self.request.update_baselines:
            self.baselines.update(book.number, records)
        elif self.request.check and self.baselines.path.exists():
            return [f"{book.name}: {message}" for message in self.baselines.compare(book.number, records)]
        return []

    def _report(self, outcome: Outcome, done: int) -> None:
        name = "" if self.request.jobs == 1 else f"  {outcome.book.name:<32} "
        count = len(outcome.records)
        self.say(f"{name}{outcome.seconds:7.1f} s  {outcome.status:<8}{count:3} number{'s' * (count != 1)}"
                 f"  [{done}/{len(self.books)}]", flush=True)

    def _conclude(self, outcomes: list[Outcome]) -> int:
        problems = [problem for outcome in outcomes for problem in outcome.problems]
        for problem in problems:
            self.say(f"\n{problem}")
        total = sum(outcome.seconds for outcome in outcomes)
        good = sum(not outcome.problems for outcome in outcomes)
        self.say(f"\n{good} of {len(outcomes)} notebooks ran as they should, in {total:.0f} s of notebook time.")
        self.say(f"Executed notebooks: {self.out}")
        self.say(f"Open them with:     {shlex.join([sys.executable, '-m', 'jupyterlab', str(self.out)])}")
        self.say("To work yourself:   make lab")
        return 1 if problems else 0


def failing_cell(name: str, notebook) -> str:
    """The source and the error of the first cell that raised."""
    for number, cell in enumerate(notebooks.code_cells(notebook), start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                trace = ANSI.sub("", "\n".join(output.traceback)).strip()
                shown = "\n".join(trace.splitlines()[-15:]) or f"{output.ename}: {output.evalue}"
                return f"{name}: code cell {number} raised {output.ename}\n{_quoted(cell.source)}\n{_indented(shown)}"
    return f"{name}: papermill reported an error, but no cell holds one"


def _timeout(book: Book, notebook, task: execute.Task, ending: execute.Ending) -> str:
    cells = notebooks.code_cells(notebook)
    unfinished = [cell for cell in cells if cell.execution_count is None and cell.source.strip()]
    source = _quoted(unfinished[0].source) if unfinished else ""
    return (
        f"{book.name}: {_stopped(task, ending)} {len(cells) - len(unfinished)} of {len(cells)} code cells had ended "
        f"(budgets are in profiles.yaml, --budget-factor stretches them); it was in\n{source}"
    )


def _stopped(task: execute.Task, ending: execute.Ending) -> str:
    again = " for the second time" * (task.tries > 1)
    return f"stopped{again} after {ending.excess}: {ending.usage}."


def _death(book: Book, task: execute.Task, ending: execute.Ending) -> str:
    if ending.status == "timeout":
        return f"{book.name}: {_stopped(task, ending)} Its first cell had not ended."
    return (
        f"{book.name}: the process or its kernel died (out of memory is the usual cause; "
        f"`anytext doctor` tells how much there is). Its last words:\n{_indented(ending.last_words or '(none)')}"
    )


def _quoted(source: str) -> str:
    return "\n".join(f"    | {line}" for line in source.splitlines())


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
