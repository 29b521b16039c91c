"""The notebooks at the profile `gpu`, and what a run of them leaves in the course: costs, baselines, lines of cost."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from anytext_lib.course.record import records_of
from anytext_lib.publishing import notebooks, pages, provenance
from anytext_lib.publishing.notebooks import Book, load_profiles
from anytext_lib.publishing.numbers import Baselines
from tests.gpu.records import Records
from tests.gpu.sizes import Size

PART = "notebooks"
PROFILE = "gpu"


def command(size: Size, folder: Path, out: Path) -> list[str] | None:
    """The command line that runs all notebooks of ``size`` that have no good run in ``out`` yet; None if all have."""
    missing = [book.number for book in wanted(size, folder) if executed(book, size, folder, out) is None]
    if not missing:
        return None
    return [sys.executable, "-m", "anytext_lib.cli", "course", "run", *missing, "--profile", PROFILE, "--device",
            size.device, "--jobs", str(size.jobs), "--folder", str(folder), "--out", str(out)]


def wanted(size: Size, folder: Path) -> list[Book]:
    """The notebooks of ``size``."""
    return notebooks.select(notebooks.find_books(folder), size.notebooks)


def executed(book: Book, size: Size, folder: Path, out: Path):
    """The executed copy of a notebook if it ran well, on this device, as the page and the profile are now."""
    path = out / book.path.name
    if not path.exists():
        return None
    found, page = notebooks.read(path), notebooks.read(book.path)
    stamp = found.metadata.get("anytext", {})
    known = {name: parameter.value for name, parameter in notebooks.parameters_of(page, book.name).items()}
    parameters = known | load_profiles(folder).profile(PROFILE).setting(book.number).parameters
    same = (stamp.get("source_hash"), stamp.get("parameters"), stamp.get("profile"), stamp.get("status")) == (
        provenance.source_hash(page), parameters, PROFILE, "ok")
    return found if same and stamp["device"].split(":")[0] == size.device and records_of(found) else None


def publish(records: Records, size: Size, folder: Path, out: Path) -> list[str]:
    """Write costs, baselines, the pages' lines of cost and the README's table from all good runs in ``out``.

    Returns:
        the numbers of the notebooks that have no good run.
    """
    baselines, missing = Baselines(folder, PROFILE, size.device), []
    for book in wanted(size, folder):
        found = executed(book, size, folder, out)
        if found is None:
            missing.append(book.number)
            continue
        stamp = found.metadata["anytext"]
        provenance.save_cost(folder, book.number, stamp)
        baselines.update(book.number, records_of(found))
        records.add(PART, book.number, {"seconds": stamp["seconds"], "cpu_seconds": stamp["cpu_seconds"],
                                        "peak_mib": stamp["peak_memory_mib"], "at_a_time": size.jobs})
    baselines.save()
    pages.fix(folder, notebooks.find_books(folder))
    return missing


def copy_of_course(folder: Path, into: Path) -> Path:
    """A copy of the course's pages and README to rehearse on; returns its folder of notebooks."""
    copy = into / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("build", ".ipynb_checkpoints"))
    shutil.copy(folder.parent / "README.md", into / "README.md")
    return copy
