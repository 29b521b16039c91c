"""Three families of objectives on one model: what reads, what looks, what weighs by place (notebook 15).

Every arm starts from the same checkpoint, sees the same scenes in the same order with the same timesteps and noise,
and is read by the same judges.  `anytext course experiment objectives` runs it, and goes on where an interrupted run
stopped.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path

from anytext_lib.experiments import store
from anytext_lib.experiments.arms import SIMPLE, Arm, Profile, find_arm
from anytext_lib.experiments.plan import Plan, open_plan, scores_in_words
from anytext_lib.losses.terms import Term, ctc, ocr, region
from anytext_lib.losses.weights import abar
from anytext_lib.udifftext.terms import local

OBJECTIVES = (
    Arm("none", "none", lambda p, m: [SIMPLE]),
    Arm("ocr", "OCR loss", lambda p, m: [SIMPLE, Term("ocr", ocr, p.loss_alpha, abar)]),
    Arm("ocr_ctc", "OCR + CTC", lambda p, m: [SIMPLE, Term("ocr", ocr, p.loss_alpha, abar),
                                              Term("ctc", ctc, p.loss_beta, abar)]),
    Arm("local", "localised attention", lambda p, m: [SIMPLE, Term("local", local, m["weight_local"])]),
    Arm("region", "region weight", lambda p, m: [SIMPLE, Term("region", region, m["weight_region"])]),
    Arm("db", "DB map as weight", lambda p, m: [SIMPLE, Term("db", m["detected"], m["weight_db"])]),
)
"""``measured``: weight_NAME gives a gradient as long as that of the arm "ocr"; detected: the term of the detector."""


@dataclass(frozen=True)
class Sizes(Profile):
    """Sizes of the experiment; see ``Profile``.

    Attributes:
        detector_steps: training steps of the DB detector, of ``batch`` scenes each.
        timed: steps of each arm that are timed.
    """

    starts: tuple[tuple[str, str], ...] = (("pre-trained", "before"),)
    words: int = 40
    probes: int = 8
    probe_every: int = 30
    detector_steps: int = 160
    timed: int = 4


PROFILES = {
    "default": Sizes(),
    "quick": Sizes(seeds=2, steps=3, batch=4, scenes=24, words=4, probes=2, probe_times=(500,), probe_every=3,
                   calibration=1, sampling_steps=4, detector_steps=6, timed=1),
    "gpu": Sizes(seeds=10, steps=400, batch=32, scenes=12800, words=512, probes=128, probe_every=100, calibration=16,
                 detector_steps=600, timed=10),
}


def main(profile: str, out: Path | None, seeds: int | None, device: str | None, jobs: int) -> int:
    """Run what is still missing, then write runs, curves and readings (Parquet) into ``out``, beside the detector."""
    plan = open_plan("objectives", PROFILES, profile, out, device, jobs)
    plan.run_all([(_detector,)])
    plan.run_all([(_calibrate,), (_start,)])
    replace(plan, jobs=1).run_all([(_cost, arm.name) for arm in OBJECTIVES])  # alone, or times would mean nothing
    plan.run_all([(_run, arm.name, seed) for seed in range(seeds or plan.profile.seeds) for arm in OBJECTIVES])
    write_tables(plan)
    return 0


def _detector(plan: Plan) -> tuple[dict, str]:
    from anytext_lib.experiments.detector_part import train_on_scenes

    sizes = plan.profile
    found = train_on_scenes(_weights(plan), sizes.scenes, sizes.detector_steps, sizes.batch, max(8, sizes.words))
    return found, f"F {found['f']:.3f}, {found['cpu_seconds']:.0f} CPU seconds"


def _calibrate(plan: Plan) -> tuple[dict, str]:
    from anytext_lib.experiments.compared_runs import calibrate

    found = calibrate(plan.profile, _network(plan), plan.device)
    return found, ", ".join(f"{key} {value:.3g}" for key, value in found.items())


def _start(plan: Plan) -> tuple[dict, str]:
    from anytext_lib.experiments.compared_runs import read_words, scores_of
    from anytext_lib.experiments.fine_tuning import start_folder
    from anytext_lib.models import AnyText2Model

    folder = start_folder(plan.profile, plan.profile.starts[0][0])
    rows = read_words(plan.profile, AnyText2Model.from_pretrained(folder, plan.device))
    found = {"arm": "start", "seed": 0, **scores_of(rows, plan.profile)}
    return found | {"readings": [{"arm": "start", "seed": 0, **row} for row in rows]}, scores_in_words(found)


def _cost(plan: Plan, arm: str) -> tuple[dict, str]:
    from anytext_lib.experiments.compared_runs import cost

    found = cost(plan.profile, find_arm(OBJECTIVES, arm), _measured(plan), plan.device)
    return {"arm": arm, **found}, f"{found['step_seconds']:.2f} s and {found['peak_mib']:.0f} MiB a step"


def _run(plan: Plan, arm: str, seed: int) -> tuple[dict, str]:
    from anytext_lib.experiments.compared_runs import fine_tune

    found = fine_tune(plan.profile, find_arm(OBJECTIVES, arm), seed, _measured(plan), plan.device)
    return found, f"{found['seconds']:.0f} s, {scores_in_words(found)}"


def _measured(plan: Plan) -> dict:
    from anytext_lib.experiments.compared_runs import detected

    calibration = json.loads(plan.path("calibrate").read_text(encoding="utf-8"))
    return calibration | {"detected": detected(_network(plan))}


def _weights(plan: Plan) -> Path:
    return plan.folder / "detector.safetensors"


@functools.cache
def _loaded(path: Path):
    from anytext_lib.db.detector import load_network

    return load_network(path)


def _network(plan: Plan):
    return _loaded(_weights(plan))


def write_tables(plan: Plan) -> None:
    """Collect the stored results into tables with their provenance."""
    parts = plan.results()
    runs = [found for name, found in parts.items() if name.startswith("run-")]
    costs = {found["arm"]: found for name, found in parts.items() if name.startswith("cost-")}
    start = {key: value for key, value in parts["start"].items() if key != "readings"}
    provenance = plan.provenance() | {"detector": parts["detector"], "calibration": parts["calibrate"],
                                      "start": start}
    rows = [{key: value for key, value in run.items() if key not in ("curve", "readings")}
            | {key: costs[run["arm"]][key] for key in ("step_seconds", "peak_mib")} for run in runs]
    curves = [{"arm": run["arm"], "seed": run["seed"], **point} for run in runs for point in run["curve"]]
    readings = [row for found in (parts["start"], *runs) for row in found["readings"]]
    for name, table in {"runs": rows, "curves": curves, "readings": readings}.items():
        store.write_table(plan.folder / f"{name}.parquet", table, provenance)
    print(f"{len(rows)} runs, {len(curves)} points, {len(readings)} readings: {plan.folder}")
