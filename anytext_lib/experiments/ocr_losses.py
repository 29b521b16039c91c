"""Do the OCR losses help? Paired fine-tuning of the mini model, with everything but the loss held equal.

Every arm starts from the same checkpoint, sees the same scenes in the same order with the same timesteps and noise,
and is measured on the same held-out words with the same starting noise.  `anytext course experiment ocr_losses` runs
it, and goes on where an interrupted run stopped.
"""

from __future__ import annotations

import json
from pathlib import Path

from anytext_lib.experiments.fine_tuning import (
    build_module,
    gradient_lengths,
    read_words,
    scores_of,
    seconds_of_a_step,
    start_folder,
    train,
)
from anytext_lib.experiments.plan import (
    SIMPLE,
    Arm,
    ExperimentPlan,
    Sizes,
    find_arm,
    open_plan,
    scores_in_words,
    weights_row,
    write_table,
)
from anytext_lib.losses.terms import Term, ctc, ocr, region
from anytext_lib.losses.weights import abar, uniform
from anytext_lib.models import AnyText2Model

ARMS = (
    Arm("simple", "no reading loss", lambda p, m: [SIMPLE]),
    Arm("simple_time", "no reading loss, equal time", lambda p, m: [SIMPLE], steps=lambda p, m: m["time_steps"]),
    Arm("ocr", "OCR loss", lambda p, m: [SIMPLE, Term("ocr", ocr, p.loss_alpha, abar)]),
    Arm("ocr_ctc", "OCR + CTC loss", lambda p, m: [SIMPLE, Term("ocr", ocr, p.loss_alpha, abar),
                                                   Term("ctc", ctc, p.loss_beta, abar)]),
    Arm("ocr_no_step", "OCR loss without step weight",
        lambda p, m: [SIMPLE, Term("ocr", ocr, m["no_step_alpha"], uniform)]),
    Arm("region", "region-weighted loss", lambda p, m: [SIMPLE, Term("region", region, m["region_weight"] - 1)]),
)
"""``measured``: no_step_alpha and region_weight give gradients as long as the arm "ocr" has, time_steps its time."""

PROFILES = {
    "default": Sizes(),
    "quick": Sizes(seeds=2, steps=4, scenes=32, words=4, probes=2, probe_times=(500,), probe_every=4, calibration=1,
                     sampling_steps=4),
    "gpu": Sizes(seeds=10, steps=400, batch=32, scenes=12800, words=512, probes=128, probe_every=40, calibration=16),
}


def main(profile: str, out: Path | None, seeds: int | None, device: str | None, jobs: int) -> int:
    """Run what is still missing, then write runs and curves (Parquet) into ``out``."""
    plan = open_plan("ocr_losses", PROFILES, profile, out, device, jobs)
    for start, _ in plan.profile.starts:
        plan.run_all([(_calibrate, start), (_read_start, start)])
        count = seeds or plan.profile.seeds
        plan.run_all([(_fine_tune, start, arm.name, seed) for seed in range(count) for arm in ARMS])
    write_tables(plan)
    return 0


def _calibrate(plan: ExperimentPlan, start: str) -> tuple[dict, str]:
    found = calibrate(plan.profile, start, plan.device)
    return found, ", ".join(f"{key} {value:.3g}" for key, value in found.items() if isinstance(value, float))


def calibrate(profile: Sizes, start: str, device: str) -> dict[str, float]:
    """How long gradients are and how long steps take at a starting point, and what follows for the matched arms.

    Returns:
        norms of the gradient (root of the mean square over batches) of the diffusion loss, of the OCR term with and
        without step weight and of the region term; seconds of a step without and with the OCR term;
        ``no_step_alpha``, ``region_weight`` and ``time_steps`` of the matched arms.
    """
    reading = Term("ocr", ocr, 1.0, abar)
    norms = gradient_lengths(profile, device, [SIMPLE, reading, Term("ocr_no_step", ocr, 1.0, uniform),
                                               Term("region", region)], start)
    target = profile.loss_alpha * norms["ocr"]
    seconds = {"simple": seconds_of_a_step(profile, device, [SIMPLE], start),
               "ocr": seconds_of_a_step(profile, device, [SIMPLE, reading], start)}
    return {**{f"norm_{name}": value for name, value in norms.items()},
            **{f"seconds_{name}": value for name, value in seconds.items()},
            "no_step_alpha": target / norms["ocr_no_step"], "region_weight": 1 + target / norms["region"],
            "time_steps": round(profile.steps * max(1.0, seconds["ocr"] / seconds["simple"]))}


def _read_start(plan: ExperimentPlan, start: str) -> tuple[dict, str]:
    model = AnyText2Model.from_pretrained(start_folder(plan.profile, start), plan.device)
    found = {"start": start, "arm": "start", **scores_of(read_words(plan.profile, model, 32), plan.profile)}
    return found, scores_in_words(found)


def _fine_tune(plan: ExperimentPlan, start: str, arm_name: str, seed: int) -> tuple[dict, str]:
    """One run: weights, cost, scores on held-out words and the curve of its probes."""
    profile, arm = plan.profile, find_arm(ARMS, arm_name)
    calibration = json.loads(plan.path("calibrate", start).read_text(encoding="utf-8"))
    terms, steps = arm.terms(profile, calibration), arm.steps(profile, calibration)
    module = build_module(profile, seed, plan.device, terms, start)
    probes, seconds = train(profile, module, seed, plan.device, steps=steps)
    scores = scores_of(read_words(profile, module.to(plan.device).model, 32), profile)
    found = {"start": start, "arm": arm.name, "seed": seed, "steps": steps, "seconds": seconds, **weights_row(terms),
             **scores, "curve": probes.curve}
    return found, f"{seconds:.0f} s, {scores_in_words(found)}"


def write_tables(plan: ExperimentPlan) -> None:
    """Collect the stored runs into tables with their provenance."""
    results = plan.results()
    runs = [result for name, result in results.items() if name.startswith("fine_tune-")]
    curves = [{"start": run["start"], "arm": run["arm"], "seed": run["seed"], **point}
              for run in runs for point in run["curve"]]
    provenance = plan.provenance() | {"calibration": _named(results, "calibrate-"),
                                      "start": _named(results, "read_start-")}
    write_table(plan.folder / "runs.parquet",
                      [{key: value for key, value in run.items() if key != "curve"} for run in runs], provenance)
    write_table(plan.folder / "curves.parquet", curves, provenance)
    print(f"{len(runs)} runs, {len(curves)} points: {plan.folder / 'runs.parquet'}, {plan.folder / 'curves.parquet'}")


def _named(results: dict[str, dict], prefix: str) -> dict[str, dict]:
    return {name.removeprefix(prefix): found for name, found in results.items() if name.startswith(prefix)}
