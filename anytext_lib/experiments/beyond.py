"""Beyond the papers, each a small paired experiment: weightings of timesteps, features of several stages, region
weights, a reward on what a judge reads, and a loss that only pleases its reader (notebook 16).

`anytext course experiment beyond` runs them, and goes on where an interrupted run stopped.
"""

from __future__ import annotations

import base64
import functools
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anytext_lib.data.batch import to_uint8
from anytext_lib.experiments.fine_tuning import (
    SCENES,
    WORDS,
    PictureProbes,
    batches_of,
    build_module,
    ends,
    gradient_length,
    noisy_step,
    read_words,
    scenes,
    scores_of,
    start_folder,
    train,
)
from anytext_lib.experiments.plan import (
    SIMPLE,
    Arm,
    ExperimentPlan,
    Measured,
    Sizes,
    find_arm,
    open_plan,
    scores_in_words,
    weights_row,
    write_table,
)
from anytext_lib.experiments.rewards import reward_run
from anytext_lib.generation import sample_images
from anytext_lib.losses import Objective, Term, Weighting, abar, hard_gate, min_snr, snr, uniform
from anytext_lib.losses.terms import ctc, ocr, region
from anytext_lib.models import AnyText2Model
from anytext_lib.models.freezing import eval_mode
from anytext_lib.ocr import Judge, crop_lines

WEIGHTINGS: dict[str, Weighting] = {"abar": abar, "snr": snr, "min_snr": min_snr(5.0), "gate": hard_gate(0.5)}
STAGES = ("block3", "block7", "block11", "neck")
"""Layers of the recogniser, from strokes to the line."""


def reading(weighting: str, layered: bool = False) -> Callable[[Any, Measured], list[Term]]:
    """The diffusion loss and the OCR loss with a weighting, on the neck of the recogniser or on ``STAGES``."""
    def terms(profile, measured: Measured) -> list[Term]:
        if layered:
            layers = partial(ocr, layers=STAGES, mean_squares=measured["mean_squares"])
            return [SIMPLE, Term("ocr", layers, measured["alphas"]["multi"], WEIGHTINGS[weighting])]
        return [SIMPLE, Term("ocr", ocr, measured["alphas"][weighting], WEIGHTINGS[weighting])]
    return terms


def readers_alone(profile, measured: Measured) -> list[Term]:
    """OCR and CTC loss, and nothing that asks for the picture; the diffusion loss is only watched."""
    return [replace(SIMPLE, weight=0.0), Term("ocr", ocr, measured["alphas"]["abar"], abar),
            Term("ctc", ctc, profile.loss_beta, abar)]


TRIALS = (
    Arm("none", "no reading loss", lambda p, m: [SIMPLE], watched=True),
    Arm("abar", "OCR loss, abar", reading("abar"), watched=True),
    Arm("snr", "OCR loss, SNR", reading("snr")),
    Arm("min_snr", "OCR loss, min-SNR", reading("min_snr")),
    Arm("gate", "OCR loss, hard gate", reading("gate")),
    Arm("multi", "OCR loss, four stages", reading("abar", layered=True)),
    Arm("region_5", "region weight 5", lambda p, m: [SIMPLE, Term("region", region, 4.0)]),
    Arm("region_20", "region weight 20", lambda p, m: [SIMPLE, Term("region", region, 19.0)]),
    Arm("reader_only", "reading losses alone", readers_alone, watched=True),
    Arm("reader_long", "reading losses alone, 8x", readers_alone, lambda p, m: 8 * p.steps, watched=True),
)
"""``measured``: alphas by weighting, see ``matched_alphas``; mean_squares of the recogniser's layers on true lines."""

SIZES = Sizes(starts=(("pre-trained", "mini/before"),), seeds=3, steps=20, scenes=160, words=32, sampling_steps=10,
                probes=6, probe_times=(500,), probe_every=20)
PROFILES = {
    "default": SIZES,
    "quick": replace(SIZES, seeds=2, steps=3, batch=4, scenes=24, words=4, probes=2, probe_every=3, sampling_steps=4,
                     ladder=(0, 100, 500, 900), pictures=2, updates=2, groups=2, per_scene=2, reward_steps=3,
                     reward_trained=3),
    "gpu": replace(SIZES, seeds=10, steps=400, batch=32, scenes=12800, words=512, probes=128, probe_every=400,
                   sampling_steps=20, updates=300, groups=16, per_scene=8, reward_steps=20, reward_trained=20),
}


def main(profile: str, out: Path | None, seeds: int | None, device: str | None, jobs: int) -> int:
    """Run what is still missing, then write runs, ladder, rewards and pictures (Parquet) into ``out``."""
    plan = open_plan("beyond", PROFILES, profile, out, device, jobs)
    plan.run_all([(_ladder,)])
    count = seeds or plan.profile.seeds
    plan.run_all([(_start,), *((_run, trial.name, seed) for seed in range(count) for trial in TRIALS),
                  *((_reward, seed) for seed in range(count))])
    write_tables(plan)
    return 0


def _ladder(plan: ExperimentPlan) -> tuple[list, str]:
    """Length of the gradients at each timestep of the ladder, at the start: simple, and the OCR term (without step
    weight, at weight 1) on the neck and on several layers; and abar."""
    profile, device = plan.profile, plan.device
    short = replace(profile, scenes=profile.batch)
    layers = partial(ocr, layers=STAGES, mean_squares=mean_squares(short, device))
    terms = [SIMPLE, Term("neck", ocr, 1.0, uniform), Term("multi", layers, 1.0, uniform)]
    module, rows = build_module(short, 0, device, terms), []
    batch = next(batches_of(scenes(SCENES, "train", profile.batch), profile.batch, profile.batch)).to(device)
    for t in profile.ladder:
        times = torch.full((len(batch),), t)
        row = {"t": t, "abar": float(module.model.alphas_cumprod[t])}
        for term in terms:
            row[term.name] = gradient_length(module, Objective([term])(noisy_step(module, batch, 0, times)).loss)
        rows.append(row)
    return rows, f"{len(rows)} timesteps"


@functools.cache
def mean_squares(profile: Sizes, device: str) -> dict[str, float]:
    """Mean square of each layer of the recogniser on the true lines of the first eight scenes."""
    data, count = scenes(SCENES, "train", profile.scenes), min(8, profile.scenes)
    batch = next(batches_of(data, count, count)).to(device)
    reader = AnyText2Model.from_pretrained(start_folder(profile), device).reader
    with torch.no_grad():
        maps = reader.feature_maps(crop_lines(batch.images, batch.lines))
    return {name: float(maps[name].square().mean()) for name in STAGES}


def root_mean_square(weights: np.ndarray, times: Sequence[int], lengths: Sequence[float]) -> float:
    """sqrt(mean over all timesteps of (w_t G_t)^2), with G interpolated (its logarithm, linearly) between ``times``.

    Args:
        weights: (T,) w_t of every timestep. ``lengths``: of the unweighted term's gradient at ``times``, ascending.
    """
    every = np.exp(np.interp(np.arange(len(weights)), times, np.log(np.maximum(lengths, 1e-12))))
    return float(np.sqrt(np.mean((weights * every) ** 2)))


def matched_alphas(alphas_cumprod: torch.Tensor, ladder: Sequence[Mapping[str, float]],
                   alpha: float) -> dict[str, float]:
    """The weight of each weighting, and of "multi", with which its gradient is on average as long as that of ``alpha``
    times abar's.

    Args:
        ladder: rows with t, neck and multi: lengths of the unweighted terms' gradients.
    """
    times = [row["t"] for row in ladder]
    curves = {name: [row[name] for row in ladder] for name in ("neck", "multi")}
    weights = {name: weighting(alphas_cumprod.double().cpu()).numpy() for name, weighting in WEIGHTINGS.items()}
    target = alpha * root_mean_square(weights["abar"], times, curves["neck"])
    found = {name: target / root_mean_square(w, times, curves["neck"]) for name, w in weights.items()}
    return found | {"multi": target / root_mean_square(weights["abar"], times, curves["multi"])}


def _start(plan: ExperimentPlan) -> tuple[dict, str]:
    """The starting point itself: scores, probes, pictures."""
    profile, reading = plan.profile, readers_of(plan.profile, True)
    module = build_module(replace(profile, scenes=profile.batch), 0, plan.device)
    probes = PictureProbes(profile, plan.device)
    probes.measure(module, 0)
    found = {"arm": "start", "seed": 0, "steps": 0, "seconds": 0.0, "loss_alpha": 0.0, "region_weight": 1.0,
             **scores_of(read_words(reading, module.model), reading), **ends(probes.curve),
             "pictures": pictures(profile, module.model, "start")}
    return found, scores_in_words(found)


@functools.cache
def schedule(folder: Path) -> torch.Tensor:
    """abar of a checkpoint, (1000,)."""
    return AnyText2Model.from_pretrained(folder).alphas_cumprod


def _run(plan: ExperimentPlan, trial_name: str, seed: int) -> tuple[dict, str]:
    """One run: weight, time, scores of held-out words, the probes' last values, and pictures of the first seed."""
    profile, device, trial = plan.profile, plan.device, find_arm(TRIALS, trial_name)
    ladder = json.loads(plan.path("ladder").read_text(encoding="utf-8"))
    measured = {"alphas": matched_alphas(schedule(start_folder(profile)), ladder, profile.loss_alpha),
                "mean_squares": mean_squares(profile, device)}
    terms, profile = trial.terms(profile, measured), replace(profile, steps=trial.steps(profile, measured))
    module = build_module(profile, seed, device, terms)
    probes, seconds = train(profile, module, seed, device, PictureProbes(profile, device))
    model, reading, weights = module.to(device).model, readers_of(profile, trial.watched), weights_row(terms)
    found = {"arm": trial.name, "seed": seed, "steps": profile.steps, "seconds": seconds,
             "loss_alpha": weights["loss_alpha"], "region_weight": weights["region_weight"],
             **scores_of(read_words(reading, model), reading), **ends(probes.curve),
             "pictures": pictures(profile, model, trial.name) if trial.watched and seed == 0 else []}
    return found, f"{seconds:.0f} s, {scores_in_words(found)}"


def _reward(plan: ExperimentPlan, seed: int) -> tuple[dict, str]:
    """One run of the reward."""
    profile, device = plan.profile, plan.device
    found, module = reward_run(profile, seed, readers_of(profile, True), device)
    probes = PictureProbes(profile, device)
    probes.measure(module, profile.updates)
    found |= {"loss_alpha": 0.0, "region_weight": 1.0, **ends(probes.curve),
              "pictures": pictures(profile, module.model, "reward") if seed == 0 else []}
    return found, f"{found['seconds']:.0f} s, {scores_in_words(found)}"


def readers_of(profile: Sizes, watched: bool) -> Sizes:
    """The profile with a third judge of another lineage where one is installed, for runs that are watched."""
    third = tuple(name for name in ("tesseract",) if name in Judge.available() and name not in profile.judges)
    return replace(profile, judges=profile.judges + third) if watched else profile


def pictures(profile: Sizes, model: AnyText2Model, arm: str) -> list[dict[str, Any]]:
    """The first held-out words as the model writes them, PNG in base64, with the true scene and the wanted word."""
    from PIL import Image

    batch = next(batches_of(scenes(WORDS, "test", profile.words), profile.pictures, profile.pictures)).to(model.device)
    with eval_mode(model):
        images = sample_images(model, batch, profile.sampling_steps, profile.guidance, WORDS,
                               places=batch.indices.tolist())
    rows = []
    for i, image in enumerate(to_uint8(images.cpu())):
        stored = io.BytesIO()
        Image.fromarray(image).save(stored, format="png", optimize=True)
        rows.append({"arm": arm, "index": i, "wanted": batch.lines.texts[i],
                     "png": base64.b64encode(stored.getvalue()).decode("ascii")})
    return rows


NESTED = ("pictures", "rewards")


def write_tables(plan: ExperimentPlan) -> None:
    """Collect the stored results into tables with their provenance."""
    parts = plan.results()
    found = [part for name, part in parts.items() if name.split("-")[0] in ("start", "run", "reward")]
    columns = list(dict.fromkeys(key for row in found for key in row if key not in NESTED))
    tables = {"runs": [{key: row.get(key) for key in columns} for row in found], "ladder": parts["ladder"]}
    tables |= {name: [line for row in found for line in row.get(name, [])] for name in NESTED}
    for name, table in tables.items():
        write_table(plan.folder / f"{name}.parquet", table, plan.provenance())
    print(", ".join(f"{len(table)} {name}" for name, table in tables.items()) + f": {plan.folder}")
