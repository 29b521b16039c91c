"""Fine-tuning of the mini model in an experiment: build, measure gradients, train, follow fixed probes, read words.

Nothing here is a training loop of its own: `AnyText2Training` and Lightning's Trainer do what `anytext fit` does.
Everything but the terms is held equal: checkpoint, scenes and their order, timesteps, noise.
"""

from __future__ import annotations

import functools
import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from anytext_lib.data.batch import AnyTextBatch, collate
from anytext_lib.data.sample import SampleConfig
from anytext_lib.evaluation import score_texts
from anytext_lib.evaluation.judge_samples import read_lines
from anytext_lib.experiments.plan import SIMPLE, Sizes
from anytext_lib.files import data_folder
from anytext_lib.generation import sample_images
from anytext_lib.losses import Objective, Step, Term
from anytext_lib.losses.step import text_region
from anytext_lib.losses.terms import ctc, ocr
from anytext_lib.models import AnyText2Model
from anytext_lib.models.freezing import eval_mode
from anytext_lib.ocr import Judge
from anytext_lib.randomness import draw_noise, draw_timesteps, places
from anytext_lib.scenes.scene_dataset import SIZE, SceneDataset
from anytext_lib.training.cache import ReferenceCache, TensorCache
from anytext_lib.training.data import EpochBatches, ResumableLoader
from anytext_lib.training.module import AnyText2Training
from anytext_lib.udifftext.attention_term import local_of, watch_attention

SCENES, PROBES, WORDS = 11, 12, 13  # seeds of the scenes to train on, to follow and to write


def start_folder(profile: Sizes, start: str | None = None) -> Path:
    """The checkpoint that runs begin with; by default the profile's first."""
    return data_folder() / dict(profile.starts)[start or profile.starts[0][0]]


@functools.cache
def scenes(seed: int, split: str, count: int, style: str = "plain", invented: float | None = None) -> SceneDataset:
    """Scenes that every run of a process shares; they are drawn only once. Those of another style than the plain one
    have font hints."""
    config = None if style == "plain" else SampleConfig(image_size=SIZE, mask_ratio=0.0, max_lines=1,
                                                        position_jitter=False)
    return SceneDataset(config, seed=seed, split=split, epoch_length=count, style=style, invented=invented)


def training_scenes(profile: Sizes) -> SceneDataset:
    """What runs are trained on."""
    return scenes(SCENES, "train", profile.scenes, profile.style)


def held_out_scenes(profile: Sizes, split: str = "test") -> SceneDataset:
    """What is written and read: "test" to measure, "validation" to choose weights."""
    return scenes(WORDS, split, profile.words if split == "test" else profile.tune_words, profile.style,
                  profile.invented)


def build_module(profile: Sizes, seed: int, device: str, terms: Sequence[Term] = (SIMPLE,),
                 start: str | None = None, training: type[AnyText2Training] = AnyText2Training,
                 **options: Any) -> AnyText2Training:
    """A fresh copy of a starting point on its device, ready to train with ``terms`` and other options of
    ``training``; scenes are looked up in caches, so that what is timed is the training alone."""
    module = training(AnyText2Model.from_pretrained(start_folder(profile, start)), seed=seed, terms=terms,
                      learning_rate=profile.learning_rate, lr_schedule="one_cycle", **options).to(device)
    trained = options.get("style_ocr_trainable", True)
    module.share_caches(*caches(start_folder(profile, start), profile.scenes, profile.style, device, trained))
    return module.train()


@functools.cache
def caches(folder: Path, count: int, style: str, device: str,
           style_ocr_trainable: bool) -> tuple[TensorCache, ReferenceCache]:
    """Latents, features of the glyph lines and true features of all scenes: the runs of a process share them."""
    module = AnyText2Training(AnyText2Model.from_pretrained(folder), style_ocr_trainable=style_ocr_trainable)
    module, encoded, true = module.to(device).train(), TensorCache(4096), ReferenceCache(4096)
    module.share_caches(encoded, true)
    for batch in batches_of(scenes(SCENES, "train", count, style), 16, count):
        batch = batch.to(device)
        module.encode(batch)
        module.conditions(batch)
        true.features(module.instruments.features, batch.images, batch.lines, batch.indices.tolist())
    return encoded, true


def batches_of(dataset, size: int, count: int) -> Iterator[AnyTextBatch]:
    """The first ``count`` samples in batches of ``size``, the last one smaller."""
    for first in range(0, count, size):
        yield collate([dataset[i] for i in range(first, min(first + size, count))])


def noisy_step(module: AnyText2Training, batch: AnyTextBatch, index: int,
               timesteps: torch.Tensor | None = None) -> Step:
    """The network's answer for the noise of training step ``index``, and for its timesteps or for given ones."""
    latents, at = module.encode(batch), places(len(batch))
    times = draw_timesteps(0, index, at) if timesteps is None else timesteps
    return module.predict(batch, latents, draw_noise(0, index, at, latents.shape[1:]), times)


def gradient_length(module: AnyText2Training, loss: torch.Tensor) -> float:
    """Length of the gradient of a loss with respect to everything that is trained."""
    trained = [p for p in module.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    return float(sum(g.square().sum() for g in found if g is not None).sqrt())


def gradient_lengths(profile: Sizes, device: str, terms: Sequence[Term],
                     start: str | None = None) -> dict[str, float]:
    """Root of the mean square, over the profile's calibration batches, of the gradient's length of each term alone."""
    module = build_module(profile, 0, device, terms, start)
    squares = dict.fromkeys((term.name for term in terms), 0.0)
    batches = list(batches_of(training_scenes(profile), profile.batch, profile.calibration * profile.batch))
    for index, batch in enumerate(batches):
        for term in terms:
            loss = Objective([term])(noisy_step(module, batch.to(device), index)).loss
            squares[term.name] += gradient_length(module, loss) ** 2
    return {name: (value / len(batches)) ** 0.5 for name, value in squares.items()}


def seconds_of_a_step(profile: Sizes, device: str, terms: Sequence[Term], start: str | None = None,
                      repeats: int = 4) -> float:
    """Shortest of some forward and backward passes with ``terms``."""
    module, times = build_module(profile, 0, device, terms, start), []
    batch = next(batches_of(training_scenes(profile), profile.batch, profile.batch)).to(device)
    for _ in range(repeats):
        begin = time.perf_counter()
        gradient_length(module, module.objective(noisy_step(module, batch, 0)).loss)
        times.append(time.perf_counter() - begin)
    return min(times)


def train(profile: Sizes, module: AnyText2Training, seed: int, device: str, probes: Probes | None = None,
          steps: int | None = None) -> tuple[Probes, float]:
    """Fine-tune for ``steps`` (by default the profile's); the probes, and seconds without them."""
    probes = probes or Probes(profile, device)
    begin = time.perf_counter()
    fit(profile, module, seed, device, steps or profile.steps, [probes])
    return probes, time.perf_counter() - begin - probes.seconds


def fit(profile: Sizes, module: AnyText2Training, seed: int, device: str, steps: int,
        callbacks: Sequence[pl.Callback] = ()) -> None:
    """Fine-tune for ``steps`` on the scenes in the order of a seed."""
    data = training_scenes(profile)
    loader = ResumableLoader(data, EpochBatches(len(data), profile.batch, seed), collate)
    with without_hints():
        trainer = pl.Trainer(max_steps=steps, accelerator=device.split(":")[0], devices=1, callbacks=list(callbacks),
                             logger=False, enable_checkpointing=False, enable_progress_bar=False,
                             enable_model_summary=False, gradient_clip_val=1.0)
        trainer.fit(module, loader)


READ = Objective([Term("ocr", ocr, 0.0), Term("ctc", ctc, 0.0)])
"""The reading losses, only watched."""


class Probes(pl.Callback):
    """Losses on fixed scenes at fixed timesteps with fixed noise: what the noise of training hides."""

    def __init__(self, profile: Sizes, device: str):
        self.profile, self.seconds, self.curve = profile, 0.0, []
        data = scenes(PROBES, "validation", profile.probes, profile.style)
        self.batch = collate([data[i] for i in range(profile.probes)]).to(device)

    def on_train_start(self, trainer, module) -> None:
        self.measure(module, 0)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if trainer.global_step % self.profile.probe_every == 0:
            self.measure(module, trainer.global_step)

    @torch.no_grad()
    def measure(self, module: AnyText2Training, step: int) -> None:
        """Append a point for each timestep."""
        begin = time.perf_counter()
        with eval_mode(module.model):
            latents, conditions = module.model.encode(self.batch.images), module.model.conditions(self.batch)
            for t in self.profile.probe_times:
                noise = draw_noise(PROBES, t, range(len(self.batch)), latents.shape[1:])
                found = module.predict(self.batch, latents, noise, torch.full((len(self.batch),), t), conditions)
                self.curve.append({"step": step, "t": t, **self.point(found)})
        self.seconds += time.perf_counter() - begin

    def point(self, step: Step) -> Mapping[str, float]:
        """sim, ocr and ctc, unweighted, of one answer; sim is the distance to the noise, whatever the network predicts,
        as in all recorded runs."""
        read = READ(step).log()
        return {"sim": float((step.output - step.noise).square().mean()), "ocr": float(read["ocr_raw"]),
                "ctc": float(read["ctc_raw"])}


class PictureProbes(Probes):
    """Besides the losses: how far one-step estimates are from the true pictures, and where attention looks.

    ``l1_text``, ``l1_rest``: mean absolute difference of the decoded one-step estimate and the picture, in grey values
    of 0..255, inside the lines' regions and outside; ``local``: L_loc, whatever the arm is trained with.
    """

    def on_train_end(self, trainer, module) -> None:
        """The last step is always measured."""
        if self.curve[-1]["step"] != trainer.global_step:
            self.measure(module, trainer.global_step)

    @torch.no_grad()
    def measure(self, module: AnyText2Training, step: int) -> None:
        """Append a point for each timestep."""
        first = len(self.curve)
        super().measure(module, step)
        begin = time.perf_counter()
        for point in self.curve[first:]:
            point.update(self.picture(module, point["t"]))
        self.seconds += time.perf_counter() - begin

    def picture(self, module: AnyText2Training, t: int) -> dict[str, float]:
        """What one-step estimates at timestep ``t`` look like."""
        model, batch, process = module.model, self.batch, module.instruments.process
        times = torch.full((len(batch),), t, device=batch.images.device)
        with eval_mode(model), watch_attention(model) as watched:
            latents = model.encode(batch.images)
            noise = draw_noise(PROBES, t, range(len(batch)), latents.shape[1:]).to(latents)
            noisy = process.add_noise(latents, noise, times)
            x0 = process.predict_x0(model(noisy, times, model.conditions(batch)), noisy, times)
            far = 127.5 * (model.decode(x0).clamp(-1, 1) - batch.images).abs().mean(dim=1, keepdim=True)
            looks = local_of(model, batch, watched["attention"]).mean()
        inside = text_region(batch)
        return {"l1_text": float((far * inside).sum() / inside.sum()),
                "l1_rest": float((far * (1 - inside)).sum() / (1 - inside).sum()), "local": float(looks)}


QUALITIES = ("sim", "l1_text", "l1_rest", "local")


def ends(curve: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The probes' quantities after the last step, means over the timesteps."""
    last = [point for point in curve if point["step"] == max(p["step"] for p in curve)]
    return {name: sum(point[name] for point in last) / len(last) for name in QUALITIES}


def written(profile: Sizes, model: AnyText2Model, split: str = "test", seed: int = WORDS,
            size: int = 16) -> Iterator[tuple[AnyTextBatch, torch.Tensor]]:
    """Held-out scenes in batches of ``size``, and what the model makes of them (B, 3, H, W) in [-1, 1].

    Args:
        seed: of the starting noise.
    """
    data = held_out_scenes(profile, split)
    with eval_mode(model):
        for batch in batches_of(data, size, len(data)):
            batch = batch.to(model.device)
            yield batch, sample_images(model, batch, profile.sampling_steps, profile.guidance, seed,
                                       places=batch.indices.tolist())


def read_words(profile: Sizes, model: AnyText2Model, size: int = 16, split: str = "test",
               seed: int = WORDS) -> list[dict[str, Any]]:
    """A row for each held-out word: its index, the wanted text, and what every reader makes of the sampled image.

    Args:
        size: images that are sampled at a time. ``split``, ``seed``: see ``written``.
    """
    readers = {name: Judge.from_name(name) for name in profile.judges} | {"trainer": model.reader}
    rows = []
    with eval_mode(model):
        for batch, images in written(profile, model, split, seed, size):
            wanted, read = read_lines(images, batch, readers)
            rows += [{"index": len(rows) + i, "wanted": text, **{name: read[name][i] for name in readers}}
                     for i, text in enumerate(wanted)]
    return rows


def scores_of(rows: list[dict[str, Any]], profile: Sizes) -> dict[str, float]:
    """READER_acc and READER_ned of every reader."""
    found = {name: score_texts([row[name] for row in rows], [row["wanted"] for row in rows])
             for name in (*profile.judges, "trainer")}
    return {f"{name}_{key}": float(value) for name, scores in found.items()
            for key, value in (("acc", scores.sentence_accuracy), ("ned", scores.ned))}


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
