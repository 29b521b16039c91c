"""Run notebooks and golden tests under variants; every result is kept in a file, so that a sweep can be resumed.

A result counts as long as what it was measured on is the same: the notebook's code, its parameters, and the library
(unless results of an earlier library are welcome).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from anytext_lib.course.paths import notebooks_folder, project_root
from anytext_lib.course.record import records_of
from anytext_lib.publishing import notebooks
from anytext_lib.publishing.notebooks import Book, load_profiles
from tests.portability.variants import SEED_STEP, Variant

ROOT = project_root()
FOLDER = ROOT / "build" / "portability"

SLOW = "4"
"""Budgets are those of a machine's own kernels, times this: the oldest ones take several times as long."""


@cache
def library_hash() -> str:
    """SHA-256 of everything in anytext_lib."""
    total = hashlib.sha256()
    for path in sorted((ROOT / "anytext_lib").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            total.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@dataclass(frozen=True)
class Case:
    """One notebook, or with `book` None the golden tests, under one variant."""

    book: Book | None
    variant: Variant
    profile: str = "quick"

    @property
    def path(self) -> Path:
        """Where its result is kept."""
        return FOLDER / self.profile / f"{self.book.number if self.book else 'golden'}.{self.variant.name}.json"

    def parameters(self) -> dict[str, Any]:
        """What the variant adds to the profile's parameters: another seed, or nothing."""
        if not self.variant.other_seed:
            return {}
        known = notebooks.parameters_of(notebooks.read(self.book.path), self.book.name)
        return {"seed": known["seed"].value + SEED_STEP}

    def key(self) -> dict[str, str]:
        """What the result depends on."""
        if self.book is None:
            tests = b"".join(path.read_bytes() for path in sorted((ROOT / "tests" / "golden").glob("*.py")))
            return {"source": hashlib.sha256(tests).hexdigest(), "library": library_hash()}
        setting = load_profiles(notebooks_folder()).profile(self.profile).setting(self.book.number).parameters
        given = json.dumps({**setting, **self.parameters()}, sort_keys=True)
        source = "\n\n".join(cell.source for cell in notebooks.code_cells(notebooks.read(self.book.path))) + given
        return {"source": hashlib.sha256(source.encode()).hexdigest(), "library": library_hash()}

    def result(self, any_library: bool = False) -> dict | None:
        """The kept result if it still counts: {"records", "failure", "seconds", "key"}; else None."""
        if not self.path.exists():
            return None
        kept = json.loads(self.path.read_text(encoding="utf-8"))
        wanted = self.key()
        names = ("source",) if any_library else wanted
        return kept if all(kept["key"][name] == wanted[name] for name in names) else None

    def run(self) -> dict:
        """Run it and keep the result. `failure` is None, or the last lines that it said."""
        started, key = time.perf_counter(), self.key()
        records, failure = self._golden() if self.book is None else self._notebook()
        seconds = round(time.perf_counter() - started, 1)
        result = {"records": records, "failure": failure, "seconds": seconds, "key": key}
        notebooks.write_atomically(self.path, json.dumps(result, indent=1) + "\n")
        return result

    def _notebook(self) -> tuple[dict[str, float], str | None]:
        out = FOLDER / "executed" / self.profile / f"{self.book.number}.{self.variant.name}"
        command = [sys.executable, "-m", "anytext_lib.cli", "course", "run", self.book.number,
                   "--profile", self.profile, "--device", "cpu", "--out", str(out), "--budget-factor", SLOW]
        for name, value in self.parameters().items():
            command += ["-p", f"{name}={value}"]
        done = self._call(command)
        if done.returncode > 1:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        path = out / f"{self.book.name}.ipynb"
        found = records_of(notebooks.read(path)) if path.exists() else []
        return {entry.name: entry.value for entry in found if not entry.informative}, _failure(done)

    def _golden(self) -> tuple[dict[str, float], str | None]:
        """Records are the worst shares of the tolerance by test; a golden test that fails is in `failure`."""
        report = FOLDER / f"golden.{self.variant.name}.jsonl"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/golden"]
        done = self._call(command, ANYTEXT_GOLDEN_REPORT=str(report))
        compared = map(json.loads, report.read_text(encoding="utf-8").splitlines()) if report.exists() else []
        worst: dict[str, float] = {}
        for entry in compared:
            name = entry["test"].split("[")[0].removeprefix("tests/golden/")
            worst[name] = max(worst.get(name, 0.0), entry["share"])
        return worst, _failure(done)

    def _call(self, command: list[str], **more: str) -> subprocess.CompletedProcess:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = self.variant.environment(dict(os.environ)) | {"PYTHONPATH": path} | more
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def _failure(done: subprocess.CompletedProcess) -> str | None:
    return None if done.returncode == 0 else "\n".join((done.stdout + done.stderr).strip().splitlines()[-40:])


def cases(what: list[str], variants: list[Variant], profile: str) -> list[Case]:
    """All that is asked for ("golden" and numbers of notebooks; everything if empty), one after the other.

    Another seed is tried only where a notebook has a parameter `seed`. Raises CourseError for an unknown notebook.
    """
    numbers = [each for each in what if each != "golden"]
    chosen = notebooks.select(notebooks.find_books(notebooks_folder()), numbers) if numbers or not what else []
    golden = not what or "golden" in what
    found = [Case(None, variant, profile) for variant in variants if golden and not variant.other_seed]
    for book in chosen:
        seeded = "seed" in notebooks.parameters_of(notebooks.read(book.path), book.name)
        found += [Case(book, variant, profile) for variant in variants if seeded or not variant.other_seed]
    return found
