"""One run of the experiments of notebook 16; training, probes and reading are those of ``compared_runs``."""

from __future__ import annotations

import base64
import functools
import io
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from anytext_lib.data.batch import to_uint8
from anytext_lib.experiments.arms import SIMPLE, Arm, Measured, weights_row
from anytext_lib.experiments.compared_runs import PictureProbes, ends, read_words, scores_of
from anytext_lib.experiments.fine_tuning import (
    SCENES,
    WORDS,
    batches_of,
    build_module,
    gradient_length,
    noisy_step,
    scenes,
    start_folder,
    train,
)
from anytext_lib.experiments.reward_runs import reward_run
from anytext_lib.experiments.trials import STAGES, matched_alphas
from anytext_lib.generation import sample_images
from anytext_lib.losses import Objective, Term, uniform
from anytext_lib.losses.terms import ocr
from anytext_lib.models import AnyText2Model
from anytext_lib.ocr import Judge, crop_lines
from anytext_lib.training.callbacks.sampling import eval_mode


@functools.cache
def mean_squares(profile, device: str) -> dict[str, float]:
    """Mean square of each layer of the recogniser on the true lines of the first eight scenes."""
    data, count = scenes(SCENES, "train", profile.scenes), min(8, profile.scenes)
    batch = next(batches_of(data, count, count)).to(device)
    reader = AnyText2Model.from_pretrained(start_folder(profile), device).reader
    with torch.no_grad():
        maps = reader.feature_maps(crop_lines(batch.images, batch.lines))
    return {name: float(maps[name].square().mean()) for name in STAGES}


def measure_ladder(profile, device: str) -> list[dict[str, float]]:
    """Length of the gradients at each timestep of the ladder, at the start: simple, and the OCR term (without step
    weight, at weight 1) on the neck and on several layers; and abar."""
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
    return rows


@functools.cache
def schedule(folder: Path) -> torch.Tensor:
    """abar of a checkpoint, (1000,)."""
    return AnyText2Model.from_pretrained(folder).alphas_cumprod


def measured(profile, ladder: list[dict], device: str) -> Measured:
    """What the arms of ``TRIALS`` need to know."""
    return {"alphas": matched_alphas(schedule(start_folder(profile)), ladder, profile.loss_alpha),
            "mean_squares": mean_squares(profile, device)}


def readers_of(profile, watched: bool):
    """The profile with a third judge of another lineage where one is installed, for runs that are watched."""
    third = tuple(name for name in ("tesseract",) if name in Judge.available() and name not in profile.judges)
    return replace(profile, judges=profile.judges + third) if watched else profile


def trial_run(profile, trial: Arm, seed: int, ladder: list[dict], device: str) -> dict[str, Any]:
    """One run: weight, time, scores of held-out words, the probes' last values, and pictures of the first seed."""
    known = measured(profile, ladder, device)
    terms, profile = trial.terms(profile, known), replace(profile, steps=trial.steps(profile, known))
    module = build_module(profile, seed, device, terms)
    probes, seconds = train(profile, module, seed, device, PictureProbes(profile, device))
    model, reading = module.to(device).model, readers_of(profile, trial.watched)
    rows = read_words(reading, model)
    return {"arm": trial.name, "seed": seed, "steps": profile.steps, "seconds": seconds,
            "loss_alpha": weights_row(terms)["loss_alpha"], "region_weight": weights_row(terms)["region_weight"],
            **scores_of(rows, reading), **ends(probes.curve),
            "pictures": pictures(profile, model, trial.name) if trial.watched and seed == 0 else []}


def policy_run(profile, seed: int, device: str) -> dict[str, Any]:
    """One run of the reward."""
    found, module = reward_run(profile, seed, readers_of(profile, True), device)
    probes = PictureProbes(profile, device)
    probes.measure(module, profile.updates)
    return {**found, "loss_alpha": 0.0, "region_weight": 1.0, **ends(probes.curve),
            "pictures": pictures(profile, module.model, "reward") if seed == 0 else []}


def start_row(profile, device: str) -> dict[str, Any]:
    """The starting point itself: scores, probes, pictures."""
    module, reading = build_module(replace(profile, scenes=profile.batch), 0, device), readers_of(profile, True)
    probes = PictureProbes(profile, device)
    probes.measure(module, 0)
    return {"arm": "start", "seed": 0, "steps": 0, "seconds": 0.0, "loss_alpha": 0.0, "region_weight": 1.0,
            **scores_of(read_words(reading, module.model), reading), **ends(probes.curve),
            "pictures": pictures(profile, module.model, "start")}


def pictures(profile, model: AnyText2Model, arm: str) -> list[dict[str, Any]]:
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
