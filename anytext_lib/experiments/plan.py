"""Where and how the runs of a recorded experiment are made: each result is a file, and none is made twice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from anytext_lib.course.paths import CourseError
from anytext_lib.device import pick_device
from anytext_lib.experiments import store
from anytext_lib.experiments.arms import Profile


@dataclass(frozen=True)
class Plan:
    """Where and how the runs of an experiment are made.

    Attributes:
        experiment, name: of the experiment and of the profile. ``profile``: its sizes. ``folder``: of the results.
        device: where to compute. ``jobs``: runs at a time; they share the cores.
    """

    experiment: str
    name: str
    profile: Profile
    folder: Path
    device: str
    jobs: int

    def path(self, *parts: Any) -> Path:
        """The file of one result."""
        return self.folder / "parts" / ("-".join(str(part) for part in parts) + ".json")

    def claim(self) -> None:
        """Refuse a folder that holds results of other sizes."""
        stamp = self.folder / "profile.json"
        mine = json.loads(json.dumps({"profile": self.name, **asdict(self.profile)}))
        if stamp.exists() and json.loads(stamp.read_text(encoding="utf-8")) != mine:
            raise CourseError(f"{self.folder} holds results of other sizes: choose another --out, or remove it.")
        store.write_json(stamp, mine)

    def run_all(self, tasks: Sequence[tuple]) -> None:
        """Run the tasks whose result is not there yet, ``jobs`` at a time, each in a process of its own."""
        missing = [task for task in tasks if not self.path(task[0].__name__.strip("_"), *task[1:]).exists()]
        if not missing:
            return
        with ProcessPoolExecutor(min(self.jobs, len(missing)), get_context("spawn")) as pool:
            running = {pool.submit(_work, self, *task): task for task in missing}
            for count, done in enumerate(as_completed(running), 1):
                named = " ".join(str(part) for part in running[done][1:])
                print(f"[{count}/{len(missing)}] {running[done][0].__name__.strip('_')} {named}: {done.result()}",
                      flush=True)

    def results(self) -> dict[str, Any]:
        """All results so far, by the name of their file."""
        paths = sorted((self.folder / "parts").glob("*.json"))
        return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}

    def provenance(self) -> dict[str, Any]:
        """What tables of this experiment say about their origin."""
        from anytext_lib.device import cpu_count
        from anytext_lib.publishing.provenance import machine, versions

        return {"experiment": self.experiment, "profile": self.name, "sizes": asdict(self.profile),
                "machine": machine(self.device, cpu_count()), "versions": versions()}


def open_plan(experiment: str, profiles: Mapping[str, Profile], name: str, out: Path | None, device: str | None,
              jobs: int) -> Plan:
    """The plan of an experiment, in ``out`` or in build/experiments.

    Raises:
        CourseError: there is no profile of this name, or the folder holds results of other sizes.
    """
    if name not in profiles:
        raise CourseError(f"there is no profile {name!r}: choose one of {', '.join(profiles)}.")
    plan = Plan(experiment, name, profiles[name], out or Path("build/experiments") / experiment,
                str(pick_device(device)), jobs)
    plan.claim()
    return plan


def scores_in_words(found: Mapping[str, Any]) -> str:
    """The judge's scores of a result, for the line of progress."""
    return f"Sen.Acc {found['ppocrv4_acc']:.3f}, NED {found['ppocrv4_ned']:.3f}"


def _work(plan: Plan, function, *arguments) -> str:
    """In a worker: use a fair share of the cores, run, store."""
    import torch

    from anytext_lib.device import cpu_count

    torch.set_num_threads(max(1, cpu_count() // plan.jobs))
    result, summary = function(plan, *arguments)
    store.write_json(plan.path(function.__name__.strip("_"), *arguments), result)
    return summary
