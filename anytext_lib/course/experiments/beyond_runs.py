"""One run of the experiments of notebook 16; training, probes and reading are those of ``compared_runs``."""

from __future__ import annotations

import base64
import functools
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from anytext_lib.course.experiments.compared_runs import (
    PictureProbes,
    build_module,
    ends,
    gradient_length,
    noisy_step,
    read_words,
    scores_of,
    train,
)
from anytext_lib.course.experiments.extra_terms import ComparedTraining, SpatialTerm
from anytext_lib.course.experiments.fine_tuning import SCENES, WORDS, batches_of, scenes, start_folder
from anytext_lib.course.experiments.layered_reader import LayeredReader
from anytext_lib.course.experiments.reward_runs import reward_run
from anytext_lib.course.experiments.trials import WEIGHTINGS, Trial, matched_alphas
from anytext_lib.data.line_image import to_uint8
from anytext_lib.generation import sample_images
from anytext_lib.losses import AnyText2Objective, uniform
from anytext_lib.models import AnyText2Model
from anytext_lib.ocr import Judge, crop_lines
from anytext_lib.training.sampled_text import eval_mode
from anytext_lib.training.step_loss import text_region


def everywhere(batch) -> torch.Tensor:
    """The region of the whole picture."""
    return torch.ones_like(text_region(batch))


def use_layers(module: ComparedTraining, profile) -> None:
    """Let the OCR loss of a module look at several stages of its recogniser."""
    objective, data = module.step_loss.objective, scenes(SCENES, "train", profile.scenes)
    batch = next(batches_of(data, min(8, len(data)), min(8, len(data)))).to(module.device)
    objective.recognizer = LayeredReader(module.model.reader, crop_lines(batch.images, batch.lines))
    module.step_loss.cache = None  # it keeps the neck's features


def measure_ladder(profile, device: str) -> list[dict[str, float]]:
    """Length of the gradients at each timestep of the ladder, at the start: simple, and the OCR term (without step
    weight, at weight 1) on the neck and on several stages; and abar."""
    short = replace(profile, scenes=profile.batch)
    module, rows = build_module(short, 0, device), []
    batch = next(batches_of(scenes(SCENES, "train", profile.batch), profile.batch, profile.batch)).to(device)
    layered = build_module(short, 0, device)
    use_layers(layered, short)
    for t in profile.ladder:
        times = torch.full((len(batch),), t)
        row = {"t": t, "abar": float(module.model.alphas_cumprod[t])}
        row["simple"] = gradient_length(module, reading_loss(module, batch, times, 0.0))
        row["neck"] = gradient_length(module, reading_loss(module, batch, times, 1.0))
        row["multi"] = gradient_length(layered, reading_loss(layered, batch, times, 1.0))
        rows.append(row)
    return rows


def reading_loss(module: ComparedTraining, batch, times: torch.Tensor, alpha: float) -> torch.Tensor:
    """The OCR term alone without step weight (alpha 1), or the diffusion loss alone (alpha 0)."""
    step, given = noisy_step(module, batch, 0, times), module.step_loss.objective
    objective = AnyText2Objective(given.recognizer, given.alphas_cumprod, given.decode, given.prediction_type,
                                  loss_alpha=alpha, weighting=uniform)
    terms = objective(step.output, step.latents, step.noise, step.timesteps, batch.images, batch.lines,
                      batch.invalid_mask)
    return terms.ocr if alpha else terms.simple


@functools.cache
def schedule(folder: Path) -> torch.Tensor:
    """abar of a checkpoint, (1000,)."""
    return AnyText2Model.from_pretrained(folder).alphas_cumprod


def module_of(profile, trial: Trial, seed: int, ladder: list[dict], device: str) -> tuple[ComparedTraining, float]:
    """The training step of a trial, and its alpha."""
    alphas = matched_alphas(schedule(start_folder(profile, profile.starts[0][0])), ladder, profile.loss_alpha)
    alpha = alphas["multi" if trial.features == "multi" else trial.weighting] if trial.weighting else 0.0
    term, weight = None, 0.0
    if trial.region != 1:
        term, weight = SpatialTerm(), trial.region - 1
    elif not trial.diffusion:
        term, weight = SpatialTerm(everywhere), -1.0  # minus the diffusion loss: nothing is left of it
    module = build_module(profile, seed, device, term, weight, loss_alpha=alpha,
                          loss_beta=0.0 if trial.diffusion else profile.loss_beta)
    if trial.weighting:
        module.step_loss.objective.weighting = WEIGHTINGS[trial.weighting]
    if trial.features == "multi":
        use_layers(module, profile)
    return module, alpha


def readers_of(profile, watched: bool):
    """The profile with a third judge of another lineage where one is installed, for runs that are watched."""
    third = tuple(name for name in ("tesseract",) if name in Judge.available() and name not in profile.judges)
    return replace(profile, judges=profile.judges + third) if watched else profile


def trial_run(profile, trial: Trial, seed: int, ladder: list[dict], device: str) -> dict[str, Any]:
    """One run: weight, time, scores of held-out words, the probes' last values, and pictures of the first seed."""
    profile = replace(profile, steps=profile.steps * trial.longer)
    module, alpha = module_of(profile, trial, seed, ladder, device)
    probes, seconds = train(profile, module, seed, device)
    model, reading = module.to(device).model, readers_of(profile, trial.watched)
    rows = read_words(reading, model)
    return {"arm": trial.name, "seed": seed, "steps": profile.steps, "seconds": seconds, "loss_alpha": alpha,
            "region_weight": trial.region, **scores_of(rows, reading), **ends(probes.curve),
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
