"""Beyond the papers, each a small paired experiment: weightings of timesteps, features of several stages, region
weights, a reward on what a judge reads, and a loss that only pleases its reader (notebook 16).

`anytext course experiment beyond` runs them, and goes on where an interrupted run stopped.
"""

from __future__ import annotations

import json
from pathlib import Path

from anytext_lib.experiments import store
from anytext_lib.experiments.arms import find_arm
from anytext_lib.experiments.plan import Plan, open_plan, scores_in_words
from anytext_lib.experiments.trials import PROFILES, TRIALS


def main(profile: str, out: Path | None, seeds: int | None, device: str | None, jobs: int) -> int:
    """Run what is still missing, then write runs, ladder, rewards and pictures (Parquet) into ``out``."""
    plan = open_plan("beyond", PROFILES, profile, out, device, jobs)
    plan.run_all([(_ladder,)])
    count = seeds or plan.profile.seeds
    plan.run_all([(_start,), *((_run, trial.name, seed) for seed in range(count) for trial in TRIALS),
                  *((_reward, seed) for seed in range(count))])
    write_tables(plan)
    return 0


def _ladder(plan: Plan) -> tuple[list, str]:
    from anytext_lib.experiments.beyond_runs import measure_ladder

    found = measure_ladder(plan.profile, plan.device)
    return found, f"{len(found)} timesteps"


def _start(plan: Plan) -> tuple[dict, str]:
    from anytext_lib.experiments.beyond_runs import start_row

    found = start_row(plan.profile, plan.device)
    return found, scores_in_words(found)


def _run(plan: Plan, trial: str, seed: int) -> tuple[dict, str]:
    from anytext_lib.experiments.beyond_runs import trial_run

    ladder = json.loads(plan.path("ladder").read_text(encoding="utf-8"))
    found = trial_run(plan.profile, find_arm(TRIALS, trial), seed, ladder, plan.device)
    return found, f"{found['seconds']:.0f} s, {scores_in_words(found)}"


def _reward(plan: Plan, seed: int) -> tuple[dict, str]:
    from anytext_lib.experiments.beyond_runs import policy_run

    found = policy_run(plan.profile, seed, plan.device)
    return found, f"{found['seconds']:.0f} s, {scores_in_words(found)}"


NESTED = ("pictures", "rewards")


def write_tables(plan: Plan) -> None:
    """Collect the stored results into tables with their provenance."""
    parts = plan.results()
    found = [part for name, part in parts.items() if name.split("-")[0] in ("start", "run", "reward")]
    columns = list(dict.fromkeys(key for row in found for key in row if key not in NESTED))
    tables = {"runs": [{key: row.get(key) for key in columns} for row in found], "ladder": parts["ladder"]}
    tables |= {name: [line for row in found for line in row.get(name, [])] for name in NESTED}
    for name, table in tables.items():
        store.write_table(plan.folder / f"{name}.parquet", table, plan.provenance())
    print(", ".join(f"{len(table)} {name}" for name, table in tables.items()) + f": {plan.folder}")
