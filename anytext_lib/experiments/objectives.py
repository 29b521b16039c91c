"""Three families of objectives on one model: what reads, what looks, what weighs by place (notebook 15).

Every arm starts from the same checkpoint, sees the same scenes in the same order with the same timesteps and noise,
and is read by the same judges.  Terms that are no reading loss get the weight with which their gradient is on average
as long as the OCR term's.  `anytext course experiment objectives` runs it, and goes on where an interrupted run
stopped.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import torch

from anytext_lib.db.dbnet import load_network, save_network
from anytext_lib.experiments.fine_tuning import (
    SCENES,
    PictureProbes,
    batches_of,
    build_module,
    ends,
    gradient_lengths,
    noisy_step,
    read_words,
    scenes,
    scores_of,
    start_folder,
    train,
)
from anytext_lib.experiments.map_detector import detected, map_detector
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
from anytext_lib.losses.weights import abar
from anytext_lib.models import AnyText2Model
from anytext_lib.udifftext.attention_term import local

MIB = 2**20
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

SIZES = Sizes(starts=(("pre-trained", "mini/before"),), probe_every=30)
PROFILES = {
    "default": SIZES,
    "quick": replace(SIZES, seeds=2, steps=3, batch=4, scenes=24, words=4, probes=2, probe_times=(500,), probe_every=3,
                     calibration=1, sampling_steps=4, detector_steps=6, timed=1),
    "gpu": replace(SIZES, seeds=10, steps=400, batch=32, scenes=12800, words=512, probes=128, probe_every=100,
                   calibration=16, detector_steps=600, timed=10),
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


def _detector(plan: ExperimentPlan) -> tuple[dict, str]:
    """Train a small DB detector on the first scenes of the experiment, and save it; how well it finds held-out words.

    The row holds f, precision, recall and mean_overlap on scenes of the validation split, and cpu_seconds of the
    training.
    """
    network, found = map_detector(plan.profile)
    save_network(network, _weights(plan))
    return found, f"F {found['f']:.3f}, {found['cpu_seconds']:.0f} CPU seconds"


def _weights(plan: ExperimentPlan) -> Path:
    return plan.folder / "detector.safetensors"


@functools.cache
def _loaded(path: Path):
    return load_network(path)


def build_terms(network) -> dict[str, Term]:
    """The terms that are no reading loss, by name, at weight 1; ``network``: a trained DB detector."""
    functions = {"local": local, "region": region, "db": detected(network)}
    return {name: Term(name, function) for name, function in functions.items()}


def calibrate(profile: Sizes, network, device: str) -> dict[str, float]:
    """How long the gradients of the terms are at the start, and the weights that make them alike.

    Returns:
        norm_simple, norm_ocr, norm_NAME: root of the mean square over batches, of the terms at weight 1;
        weight_NAME: what makes a term's gradient as long as that of loss_alpha times the OCR term.
    """
    profile = replace(profile, scenes=profile.calibration * profile.batch)  # the others need not be encoded
    terms = build_terms(network)
    norms = gradient_lengths(profile, device, [SIMPLE, Term("ocr", ocr, 1.0, abar), *terms.values()])
    target = profile.loss_alpha * norms["ocr"]
    return {**{f"norm_{name}": value for name, value in norms.items()},
            **{f"weight_{name}": target / norms[name] for name in terms}}


def _calibrate(plan: ExperimentPlan) -> tuple[dict, str]:
    found = calibrate(plan.profile, _loaded(_weights(plan)), plan.device)
    return found, ", ".join(f"{key} {value:.3g}" for key, value in found.items())


def _measured(plan: ExperimentPlan) -> dict:
    calibration = json.loads(plan.path("calibrate").read_text(encoding="utf-8"))
    return calibration | {"detected": detected(_loaded(_weights(plan)))}


def _start(plan: ExperimentPlan) -> tuple[dict, str]:
    model = AnyText2Model.from_pretrained(start_folder(plan.profile), plan.device)
    rows = read_words(plan.profile, model)
    found = {"arm": "start", "seed": 0, **scores_of(rows, plan.profile)}
    return found | {"readings": [{"arm": "start", "seed": 0, **row} for row in rows]}, scores_in_words(found)


def _cost(plan: ExperimentPlan, arm: str) -> tuple[dict, str]:
    """What one step of an arm costs, forward and backward: shortest ``step_seconds`` of some, and ``peak_mib``."""
    profile, device = replace(plan.profile, scenes=plan.profile.batch), plan.device
    module = build_module(profile, 0, device, find_arm(OBJECTIVES, arm).terms(profile, _measured(plan)))
    batch = next(batches_of(scenes(SCENES, "train", profile.batch), profile.batch, profile.batch)).to(device)

    def work() -> None:
        module.objective(noisy_step(module, batch, 0)).loss.backward()
        module.zero_grad(set_to_none=True)

    times = []
    for _ in range(profile.timed):
        begin = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    seconds, peak = min(times), peak_mib(work, device)
    return {"arm": arm, "step_seconds": seconds, "peak_mib": peak}, f"{seconds:.2f} s and {peak:.0f} MiB a step"


def peak_mib(work: Callable[[], object], device: str = "cpu") -> float:
    """MiB of tensors at the worst moment of ``work()``; tensors that were there before are not counted.

    On a GPU this is the allocator's own peak.  On the CPU, which keeps none, the profiler's record of every allocation
    and release is added up: buffers inside the libraries of the kernels are missed.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    changes = sorted((event.start_ns(), event.nbytes()) for event in profile.profiler.kineto_results.events()
                     if event.name() == "[memory]")
    return max(accumulate((size for _, size in changes), initial=0)) / MIB


def _run(plan: ExperimentPlan, arm_name: str, seed: int) -> tuple[dict, str]:
    """One run: weights, time, scores and readings of held-out words, and the curve of its probes."""
    profile, arm = plan.profile, find_arm(OBJECTIVES, arm_name)
    terms = arm.terms(profile, _measured(plan))
    module = build_module(profile, seed, plan.device, terms)
    probes, seconds = train(profile, module, seed, plan.device, PictureProbes(profile, plan.device))
    rows, weights = read_words(profile, module.to(plan.device).model), weights_row(terms)
    added = [term for term in terms if term.name in ("local", "region", "db")]
    found = {"arm": arm.name, "seed": seed, "steps": profile.steps, "seconds": seconds,
             "loss_alpha": weights["loss_alpha"], "loss_beta": weights["loss_beta"],
             "term": added[0].name if added else "", "term_weight": added[0].weight_at(None) if added else 0.0,
             **scores_of(rows, profile), **ends(probes.curve), "curve": probes.curve,
             "readings": [{"arm": arm.name, "seed": seed, **row} for row in rows]}
    return found, f"{seconds:.0f} s, {scores_in_words(found)}"


def write_tables(plan: ExperimentPlan) -> None:
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
        write_table(plan.folder / f"{name}.parquet", table, provenance)
    print(f"{len(rows)} runs, {len(curves)} points, {len(readings)} readings: {plan.folder}")
