"""Do the OCR losses help? Paired fine-tuning of the mini model, with everything but the loss held equal.

Every arm starts from the same checkpoint, sees the same scenes in the same order with the same timesteps and noise,
and is measured on the same held-out words with the same starting noise.  `anytext course experiment ocr_losses` runs
it, and goes on where an interrupted run stopped.
"""

from __future__ import annotations

import json
from pathlib import Path

from anytext_lib.experiments import store
from anytext_lib.experiments.arms import ARMS, PROFILES, find_arm
from anytext_lib.experiments.plan import Plan, open_plan, scores_in_words


def main(profile: str, out: Path | None, seeds: int | None, device: str | None, jobs: int) -> int:
    """Run what is still missing, then write runs and curves (Parquet) into ``out``."""
    plan = open_plan("ocr_losses", PROFILES, profile, out, device, jobs)
    for start, _ in plan.profile.starts:
        plan.run_all([(_calibrate, start), (_read_start, start)])
        count = seeds or plan.profile.seeds
        plan.run_all([(_fine_tune, start, arm.name, seed) for seed in range(count) for arm in ARMS])
    write_tables(plan)
    return 0


def _calibrate(plan: Plan, start: str) -> tuple[dict, str]:
    from anytext_lib.experiments.compared_runs import calibrate_readers

    found = calibrate_readers(plan.profile, start, plan.device)
    return found, ", ".join(f"{key} {value:.3g}" for key, value in found.items() if isinstance(value, float))


def _read_start(plan: Plan, start: str) -> tuple[dict, str]:
    from anytext_lib.experiments.compared_runs import read_start

    found = read_start(plan.profile, start, plan.device)
    return found, scores_in_words(found)


def _fine_tune(plan: Plan, start: str, arm: str, seed: int) -> tuple[dict, str]:
    from anytext_lib.experiments.compared_runs import reader_run

    calibration = json.loads(plan.path("calibrate", start).read_text(encoding="utf-8"))
    found = reader_run(plan.profile, start, find_arm(ARMS, arm), seed, calibration, plan.device)
    return found, f"{found['seconds']:.0f} s, {scores_in_words(found)}"


def write_tables(plan: Plan) -> None:
    """Collect the stored runs into tables with their provenance."""
    results = plan.results()
    runs = [result for name, result in results.items() if name.startswith("fine_tune-")]
    curves = [{"start": run["start"], "arm": run["arm"], "seed": run["seed"], **point}
              for run in runs for point in run["curve"]]
    provenance = plan.provenance() | {"calibration": _named(results, "calibrate-"),
                                      "start": _named(results, "read_start-")}
    store.write_table(plan.folder / "runs.parquet",
                      [{key: value for key, value in run.items() if key != "curve"} for run in runs], provenance)
    store.write_table(plan.folder / "curves.parquet", curves, provenance)
    print(f"{len(runs)} runs, {len(curves)} points: {plan.folder / 'runs.parquet'}, {plan.folder / 'curves.parquet'}")


def _named(results: dict[str, dict], prefix: str) -> dict[str, dict]:
    return {name.removeprefix(prefix): found for name, found in results.items() if name.startswith(prefix)}
