"""One run of the experiment about the OCR losses: fine-tune, follow fixed probes, write held-out words, have them read.

Nothing here is a training loop of its own: `AnyText2Training` and Lightning's Trainer do what `anytext fit` does.
"""

from __future__ import annotations

import functools
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from anytext_lib.course.experiments.arms import Arm, Profile
from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.data.collate import collate
from anytext_lib.data.folder import data_folder
from anytext_lib.data.scene_dataset import SceneDataset
from anytext_lib.losses import abar, uniform
from anytext_lib.models import AnyText2Model
from anytext_lib.ocr import Judge
from anytext_lib.randomness import draw_noise, draw_timesteps, places
from anytext_lib.training.cache import TensorCache
from anytext_lib.training.loader import EpochBatches, ResumableLoader
from anytext_lib.training.module import AnyText2Training
from anytext_lib.training.reference import ReferenceCache
from anytext_lib.training.sampled_text import eval_mode, score_samples
from anytext_lib.training.step_loss import build_step_loss

SCENES, PROBES, WORDS = 11, 12, 13  # seeds of the scenes to train on, to follow and to write


def start_folder(profile: Profile, start: str) -> Path:
    """The checkpoint that runs begin with."""
    return data_folder() / "mini" / dict(profile.starts)[start]


@functools.cache
def scenes(seed: int, split: str, count: int) -> SceneDataset:
    """Scenes that every run of a process shares; they are drawn only once."""
    return SceneDataset(seed=seed, split=split, epoch_length=count)


def build_module(profile: Profile, start: str, seed: int = 0, **options: Any) -> AnyText2Training:
    """AnyText2's training step around a fresh copy of the starting point."""
    return AnyText2Training(AnyText2Model.from_pretrained(start_folder(profile, start)), seed=seed,
                            learning_rate=profile.learning_rate, lr_schedule="one_cycle", **options)


@functools.cache
def caches(profile: Profile, start: str, device: str) -> tuple[TensorCache, ReferenceCache]:
    """Latents, features of the glyph lines and true features of all scenes: the runs of a process share them."""
    module = build_module(profile, start).to(device).train()
    module.prepare()
    module.cache, true = TensorCache(4096), ReferenceCache(4096)
    for batch in batches_of(scenes(SCENES, "train", profile.scenes), 16, profile.scenes):
        batch = batch.to(device)
        module.encode(batch)
        module.conditions(batch)
        true.features(module.step_loss.objective, batch.images, batch.lines, batch.indices.tolist())
    return module.cache, true


def use_caches(module: AnyText2Training, profile: Profile, start: str, device: str) -> None:
    """Let a module on its device look its scenes up; what is timed is then the training alone."""
    module.prepare()
    module.cache, module.step_loss.cache = caches(profile, start, device)


def batches_of(dataset, size: int, count: int) -> Iterator[AnyTextBatch]:
    """The first ``count`` samples in batches of ``size``, the last one smaller."""
    for first in range(0, count, size):
        yield collate([dataset[i] for i in range(first, min(first + size, count))])


def calibrate(profile: Profile, start: str, device: str) -> dict[str, float]:
    """How long gradients are and how long steps take at a starting point, and what follows for the matched arms.

    Returns:
        norms of the gradient (root of the mean square over batches) of the diffusion loss, of the OCR term with and
        without step weight and of what a region weight of 2 adds; seconds of a step without and with the OCR term;
        ``no_step_alpha``, ``region_weight`` and ``time_steps`` of the matched arms.
    """
    module = build_module(profile, start).to(device).train()
    use_caches(module, profile, start, device)
    data = scenes(SCENES, "train", profile.scenes)
    batches = [batch.to(device) for batch in batches_of(data, profile.batch, profile.calibration * profile.batch)]
    norms = {name: (sum(gradient_norm(module, batch, i, name) ** 2 for i, batch in enumerate(batches))
                    / len(batches)) ** 0.5 for name in ("simple", "ocr", "ocr_no_step", "region")}
    target = profile.loss_alpha * norms["ocr"]
    seconds = {name: seconds_of_a_step(module, batches[0], name) for name in ("simple", "ocr")}
    return {**{f"norm_{name}": value for name, value in norms.items()},
            **{f"seconds_{name}": value for name, value in seconds.items()},
            "no_step_alpha": target / norms["ocr_no_step"], "region_weight": 1 + target / norms["region"],
            "time_steps": round(profile.steps * max(1.0, seconds["ocr"] / seconds["simple"]))}


def one_term(module: AnyText2Training, batch: AnyTextBatch, index: int, name: str) -> torch.Tensor:
    """One term of the loss at weight 1, for the timesteps and the noise of training step ``index``."""
    at = places(len(batch))
    latents = module.encode(batch)
    step = module.predict(batch, latents, draw_noise(0, index, at, latents.shape[1:]), draw_timesteps(0, index, at))
    loss = build_step_loss(module.model.reader, module.model.alphas_cumprod, module.model.decode,
                           module.prediction_type, 1.0, uniform if name == "ocr_no_step" else abar,
                           2.0 if name == "region" else 1.0, 0.0)
    loss.cache = module.step_loss.cache
    plain = loss.objective(step.output, step.latents, step.noise, step.timesteps, batch.images,
                           batch.lines.select([]), batch.invalid_mask).loss
    if name == "simple":
        return plain
    return loss(step, batch, 0.0 if name == "region" else 1.0, 0.0)[0] - plain


def gradient_norm(module: AnyText2Training, batch: AnyTextBatch, index: int, name: str) -> float:
    """Length of the gradient of one term with respect to everything that is trained."""
    trained = [p for p in module.parameters() if p.requires_grad]
    found = torch.autograd.grad(one_term(module, batch, index, name), trained, allow_unused=True)
    return float(sum(g.square().sum() for g in found if g is not None).sqrt())


def seconds_of_a_step(module: AnyText2Training, batch: AnyTextBatch, name: str, repeats: int = 4) -> float:
    """Shortest of some forward and backward passes of one term, the diffusion loss included."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        gradient_norm(module, batch, 0, name)
        times.append(time.perf_counter() - begin)
    return min(times)


def arm_options(profile: Profile, arm: Arm, calibration: dict[str, float]) -> tuple[dict[str, Any], int]:
    """Options of ``AnyText2Training`` for an arm, and its number of steps."""
    alpha = calibration["no_step_alpha"] if arm.match == "gradient" else profile.loss_alpha
    options = {"loss_alpha": arm.reading[0] * alpha, "loss_beta": arm.reading[1] * profile.loss_beta, **arm.options}
    if arm.name == "region":
        options["region_weight"] = calibration["region_weight"]
    return options, calibration["time_steps"] if arm.match == "time" else profile.steps


def fine_tune(profile: Profile, start: str, arm: Arm, seed: int, calibration: dict[str, float],
              device: str) -> dict[str, Any]:
    """One run: its options, cost, scores on held-out words and the curve of its probes."""
    options, steps = arm_options(profile, arm, calibration)
    module = build_module(profile, start, seed, **options).to(device)
    use_caches(module, profile, start, device)
    data = scenes(SCENES, "train", profile.scenes)
    loader = ResumableLoader(data, EpochBatches(len(data), profile.batch, seed), collate)
    probes = Probes(profile, device)
    begin = time.perf_counter()
    with without_hints():
        trainer = pl.Trainer(max_steps=steps, accelerator=device.split(":")[0], devices=1, callbacks=[probes],
                             logger=False, enable_checkpointing=False, enable_progress_bar=False,
                             enable_model_summary=False, gradient_clip_val=1.0)
        trainer.fit(module, loader)
    seconds = time.perf_counter() - begin - probes.seconds
    scores = read_held_out(profile, module.to(device).model)
    return {"start": start, "arm": arm.name, "seed": seed, "steps": steps, "seconds": seconds, **options_row(options),
            **scores, "curve": probes.curve}


def options_row(options: dict[str, Any]) -> dict[str, Any]:
    """The options in which arms differ, all of them named."""
    return {"loss_alpha": 0.0, "loss_beta": 0.0, "with_step_weight": True, "region_weight": 1.0, **options}


def read_held_out(profile: Profile, model: AnyText2Model) -> dict[str, float]:
    """Sen.Acc and NED of every judge, and of the training recogniser ("trainer"), on held-out words."""
    data = scenes(WORDS, "test", profile.words)
    batches = (batch.to(model.device) for batch in batches_of(data, 32, profile.words))
    readers = {name: Judge.from_name(name) for name in profile.judges} | {"trainer": model.reader}
    found = score_samples(model, batches, readers, profile.sampling_steps, profile.guidance, seed=WORDS)
    return {f"{name}_{key}": float(value) for name, scores in found.items()
            for key, value in (("acc", scores.sentence_accuracy), ("ned", scores.ned))}


def read_start(profile: Profile, start: str, device: str) -> dict[str, Any]:
    """The scores of a starting point itself."""
    model = AnyText2Model.from_pretrained(start_folder(profile, start), device)
    return {"start": start, "arm": "start", **read_held_out(profile, model)}


class Probes(pl.Callback):
    """Losses on fixed scenes at fixed timesteps with fixed noise: what the noise of training hides."""

    def __init__(self, profile: Profile, device: str):
        self.profile, self.seconds, self.curve = profile, 0.0, []
        data = scenes(PROBES, "validation", profile.probes)
        self.batch = collate([data[i] for i in range(profile.probes)]).to(device)

    def on_train_start(self, trainer, module) -> None:
        self.measure(module, 0)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if trainer.global_step % self.profile.probe_every == 0:
            self.measure(module, trainer.global_step)

    @torch.no_grad()
    def measure(self, module: AnyText2Training, step: int) -> None:
        """Append sim, ocr and ctc (unweighted) at every timestep to the curve."""
        begin = time.perf_counter()
        with eval_mode(module.model):
            latents, conditions = module.model.encode(self.batch.images), module.model.conditions(self.batch)
            for t in self.profile.probe_times:
                noise = draw_noise(PROBES, t, range(len(self.batch)), latents.shape[1:])
                found = module.predict(self.batch, latents, noise, torch.full((len(self.batch),), t), conditions)
                simple = (found.output - found.noise).square().mean()
                watched = module.step_loss.watch(found, self.batch)
                self.curve.append({"step": step, "t": t, "sim": float(simple), "ocr": float(watched["ocr_raw"]),
                                   "ctc": float(watched["ctc_raw"])})
        self.seconds += time.perf_counter() - begin


@contextmanager
def without_hints() -> Iterator[None]:
    """Without Lightning's hints about workers and devices, which do not concern a run of seconds."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)
