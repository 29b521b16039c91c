"""Do the OCR losses help? Paired fine-tuning of the mini model, with everything but the loss held equal.

Every arm starts from the same checkpoint, sees the same scenes in the same order with the same timesteps and noise,
and is measured on the same held-out words with the same starting noise.  `anytext course experiment ocr_losses` runs
it, and goes on where an interrupted run stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from anytext_lib.course.experiments import store
from anytext_lib.course.experiments.arms import ARMS, PROFILES, Profile
from anytext_lib.course.paths import CourseError
from anytext_lib.device import pick_device


def main(profile: str, out: Path | None, seeds: int | None, device: str | None, jobs: int) -> int:
    """Run what is still missing, then write runs.parquet, curves.parquet and calibration.json into ``out``."""
    if profile not in PROFILES:
        raise CourseError(f"there is no profile {profile!r}: choose one of {', '.join(PROFILES)}.")
    chosen = PROFILES[profile]
    plan = Plan(chosen, out or Path("build/experiments/ocr_losses"), str(pick_device(device)), jobs)
    plan.claim(profile)
    for start, _ in chosen.starts:
        plan.run_all([(_calibrate, start), (_read_start, start)])
        plan.run_all([(_fine_tune, start, arm.name, seed) for seed in range(seeds or chosen.seeds) for arm in ARMS])
    write_tables(plan.folder, profile, plan.device)
    return 0


@dataclass(frozen=True)
class Plan:
    """Where and how the runs of an experiment are made."""

    profile: Profile
    folder: Path
    device: str
    jobs: int

    def path(self, *parts: Any) -> Path:
        """The file of one result."""
        return self.folder / "parts" / ("-".join(str(part) for part in parts) + ".json")

    def claim(self, name: str) -> None:
        """Refuse a folder that holds results of other sizes."""
        stamp = self.folder / "profile.json"
        mine = json.loads(json.dumps({"profile": name, **asdict(self.profile)}))
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


def _work(plan: Plan, function, *arguments) -> str:
    """In a worker: use a fair share of the cores, run, store."""
    import torch

    from anytext_lib.course.provenance import cpu_count

    torch.set_num_threads(max(1, cpu_count() // plan.jobs))
    result, summary = function(plan, *arguments)
    store.write_json(plan.path(function.__name__.strip("_"), *arguments), result)
    return summary


def _calibrate(plan: Plan, start: str) -> tuple[dict, str]:
    from anytext_lib.course.experiments.fine_tuning import calibrate

    found = calibrate(plan.profile, start, plan.device)
    return found, ", ".join(f"{key} {value:.3g}" for key, value in found.items() if isinstance(value, float))


def _read_start(plan: Plan, start: str) -> tuple[dict, str]:
    from anytext_lib.course.experiments.fine_tuning import read_start

    found = read_start(plan.profile, start, plan.device)
    return found, _scores(found)


def _fine_tune(plan: Plan, start: str, arm: str, seed: int) -> tuple[dict, str]:
    from anytext_lib.course.experiments.fine_tuning import fine_tune

    calibration = json.loads(plan.path("calibrate", start).read_text(encoding="utf-8"))
    chosen = next(one for one in ARMS if one.name == arm)
    found = fine_tune(plan.profile, start, chosen, seed, calibration, plan.device)
    return found, f"{found['seconds']:.0f} s, {_scores(found)}"


def _scores(found: dict) -> str:
    return f"Sen.Acc {found['ppocrv4_acc']:.3f}, NED {found['ppocrv4_ned']:.3f}"


def write_tables(folder: Path, profile: str, device: str) -> None:
    """Collect the stored runs into tables with their provenance."""
    from anytext_lib.course.provenance import cpu_count, machine, versions

    parts = sorted((folder / "parts").glob("*.json"))
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in parts}
    runs = [result for name, result in results.items() if name.startswith("fine_tune-")]
    curves = [{"start": run["start"], "arm": run["arm"], "seed": run["seed"], **point}
              for run in runs for point in run["curve"]]
    provenance = {"experiment": "ocr_losses", "profile": profile, "sizes": asdict(PROFILES[profile]),
                  "machine": machine(device, cpu_count()), "versions": versions(),
                  "calibration": _named(results, "calibrate-"), "start": _named(results, "read_start-")}
    store.write_table(folder / "runs.parquet",
                      [{key: value for key, value in run.items() if key != "curve"} for run in runs], provenance)
    store.write_table(folder / "curves.parquet", curves, provenance)
    print(f"{len(runs)} runs, {len(curves)} points: {folder / 'runs.parquet'}, {folder / 'curves.parquet'}")


def _named(results: dict[str, dict], prefix: str) -> dict[str, dict]:
    return {name.removeprefix(prefix): found for name, found in results.items() if name.startswith(prefix)}
