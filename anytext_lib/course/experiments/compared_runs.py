"""One run of a comparison of objectives: calibrate, fine-tune, follow fixed probes, write held-out words, read them.

Everything but the loss is held equal: checkpoint, scenes and their order, timesteps, noise, starting noise of the
words.  Terms that are no reading loss are scaled until their gradient is on average as long as the OCR term's.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch

from anytext_lib.course.experiments.allocations import peak_mib
from anytext_lib.course.experiments.attention_term import AttentionTerm
from anytext_lib.course.experiments.extra_terms import ComparedTraining, ProbabilityMaps, SpatialTerm
from anytext_lib.course.experiments.fine_tuning import (
    PROBES,
    SCENES,
    WORDS,
    Probes,
    batches_of,
    caches,
    one_term,
    scenes,
    start_folder,
    without_hints,
)
from anytext_lib.data.collate import collate
from anytext_lib.evaluation import score_texts
from anytext_lib.generation import sample_images
from anytext_lib.losses import predict_x0
from anytext_lib.losses.process import add_noise
from anytext_lib.models import AnyText2Model
from anytext_lib.ocr import Judge
from anytext_lib.randomness import draw_noise, draw_timesteps, places
from anytext_lib.training.loader import EpochBatches, ResumableLoader
from anytext_lib.training.sampled_text import eval_mode, read_lines
from anytext_lib.training.step_loss import text_region


def build_module(profile, seed: int, device: str, term=None, weight: float = 0.0, **options: Any) -> ComparedTraining:
    """A fresh copy of the starting point on its device, with a term of the loss, ready to train."""
    start = profile.starts[0][0]
    module = ComparedTraining(AnyText2Model.from_pretrained(start_folder(profile, start)), seed=seed,
                              learning_rate=profile.learning_rate, lr_schedule="one_cycle", **options).to(device)
    if term is not None:
        module.add_term(term, weight)
    module.prepare()
    module.cache, module.step_loss.cache = caches(profile, start, device)
    return module.train()


def build_terms(network) -> dict[str, Any]:
    """The terms by name; ``network``: a trained DB detector."""
    return {"local": AttentionTerm(), "region": SpatialTerm(), "db": SpatialTerm(ProbabilityMaps(network))}


def noisy_step(module: ComparedTraining, batch, index: int, timesteps: torch.Tensor | None = None):
    """The network's answer for the noise of training step ``index``, and for its timesteps or for given ones."""
    latents, at = module.encode(batch), places(len(batch))
    times = draw_timesteps(0, index, at) if timesteps is None else timesteps
    return module.predict(batch, latents, draw_noise(0, index, at, latents.shape[1:]), times)


def gradient_length(module: ComparedTraining, loss: torch.Tensor) -> float:
    """Length of the gradient of a loss with respect to everything that is trained."""
    trained = [p for p in module.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    return float(sum(g.square().sum() for g in found if g is not None).sqrt())


def calibrate(profile, network, device: str) -> dict[str, float]:
    """How long the gradients of the terms are at the start, and the weights that make them alike.

    Returns:
        norm_simple, norm_ocr, norm_NAME: root of the mean square over batches, of the terms at weight 1;
        weight_NAME: what makes a term's gradient as long as that of loss_alpha times the OCR term.
    """
    profile = replace(profile, scenes=profile.calibration * profile.batch)  # the others need not be encoded
    plain, terms = build_module(profile, 0, device), build_terms(network)
    data = scenes(SCENES, "train", profile.scenes)
    batches = [batch.to(device) for batch in batches_of(data, profile.batch, profile.scenes)]
    squares = dict.fromkeys(["simple", "ocr", *terms], 0.0)
    for index, batch in enumerate(batches):
        for name in ("simple", "ocr"):
            squares[name] += gradient_length(plain, one_term(plain, batch, index, name)) ** 2
        for name, term in terms.items():
            plain.term = term
            loss = term(plain.model, noisy_step(plain, batch, index), batch)
            squares[name] += gradient_length(plain, loss) ** 2
        plain.term = None
    norms = {name: (value / len(batches)) ** 0.5 for name, value in squares.items()}
    target = profile.loss_alpha * norms["ocr"]
    return {**{f"norm_{name}": value for name, value in norms.items()},
            **{f"weight_{name}": target / norms[name] for name in terms}}


def module_of(profile, arm, seed: int, calibration: dict[str, float], network, device: str) -> ComparedTraining:
    """The training step of an arm."""
    term = build_terms(network)[arm.term] if arm.term else None
    weight = calibration[f"weight_{arm.term}"] if arm.term else 0.0
    return build_module(profile, seed, device, term, weight, loss_alpha=arm.reading[0] * profile.loss_alpha,
                        loss_beta=arm.reading[1] * profile.loss_beta)


def cost(profile, arm, calibration: dict[str, float], network, device: str) -> dict[str, float]:
    """What one step of an arm costs, forward and backward: shortest ``step_seconds`` of some, and ``peak_mib``."""
    profile = replace(profile, scenes=profile.batch)
    module = module_of(profile, arm, 0, calibration, network, device)
    batch = next(batches_of(scenes(SCENES, "train", profile.batch), profile.batch, profile.batch)).to(device)

    def work() -> None:
        loss, _ = module.step_loss(noisy_step(module, batch, 0), batch, module.alpha.value, module.beta.value)
        loss.backward()
        module.zero_grad(set_to_none=True)

    times = []
    for _ in range(profile.timed):
        begin = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return {"step_seconds": min(times), "peak_mib": peak_mib(work, device)}


def fine_tune(profile, arm, seed: int, calibration: dict[str, float], network, device: str) -> dict[str, Any]:
    """One run: weights, time, scores and readings of held-out words, and the curve of its probes."""
    module = module_of(profile, arm, seed, calibration, network, device)
    probes, seconds = train(profile, module, seed, device)
    rows = read_words(profile, module.to(device).model)
    return {"arm": arm.name, "seed": seed, "steps": profile.steps, "seconds": seconds,
            "loss_alpha": module.alpha.value, "loss_beta": module.beta.value, "term": arm.term,
            "term_weight": module.term_weight, **scores_of(rows, profile), **ends(probes.curve), "curve": probes.curve,
            "readings": [{"arm": arm.name, "seed": seed, **row} for row in rows]}


def train(profile, module: ComparedTraining, seed: int, device: str) -> tuple[PictureProbes, float]:
    """Fine-tune; the probes, and seconds without them."""
    data = scenes(SCENES, "train", profile.scenes)
    loader = ResumableLoader(data, EpochBatches(len(data), profile.batch, seed), collate)
    probes = PictureProbes(profile, device)
    with without_hints():
        trainer = pl.Trainer(max_steps=profile.steps, accelerator=device.split(":")[0], devices=1, callbacks=[probes],
                             logger=False, enable_checkpointing=False, enable_progress_bar=False,
                             enable_model_summary=False, gradient_clip_val=1.0)
        begin = time.perf_counter()
        trainer.fit(module, loader)
    return probes, time.perf_counter() - begin - probes.seconds


def read_words(profile, model: AnyText2Model) -> list[dict[str, Any]]:
    """A row for each held-out word: its index, the wanted text, and what every reader makes of the sampled image."""
    readers = {name: Judge.from_name(name) for name in profile.judges} | {"trainer": model.reader}
    rows = []
    with eval_mode(model):
        for batch in batches_of(scenes(WORDS, "test", profile.words), 16, profile.words):
            batch = batch.to(model.device)
            images = sample_images(model, batch, profile.sampling_steps, profile.guidance, WORDS,
                                   places=batch.indices.tolist())
            wanted, read = read_lines(images, batch, readers)
            rows += [{"index": len(rows) + i, "wanted": text, **{name: read[name][i] for name in readers}}
                     for i, text in enumerate(wanted)]
    return rows


def scores_of(rows: list[dict[str, Any]], profile) -> dict[str, float]:
    """READER_acc and READER_ned of every reader."""
    found = {name: score_texts([row[name] for row in rows], [row["wanted"] for row in rows])
             for name in (*profile.judges, "trainer")}
    return {f"{name}_{key}": float(value) for name, scores in found.items()
            for key, value in (("acc", scores.sentence_accuracy), ("ned", scores.ned))}


QUALITIES = ("sim", "l1_text", "l1_rest", "local")


def ends(curve: list[dict[str, float]]) -> dict[str, float]:
    """The probes' quantities after the last step, means over the timesteps."""
    last = [point for point in curve if point["step"] == max(p["step"] for p in curve)]
    return {name: sum(point[name] for point in last) / len(last) for name in QUALITIES}


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
    def measure(self, module: ComparedTraining, step: int) -> None:
        """Append a point for each timestep."""
        first = len(self.curve)
        super().measure(module, step)
        begin = time.perf_counter()
        for point in self.curve[first:]:
            point.update(self.picture(module, point["t"]))
        self.seconds += time.perf_counter() - begin

    def picture(self, module: ComparedTraining, t: int) -> dict[str, float]:
        """What one-step estimates at timestep ``t`` look like."""
        model, batch, attention = module.model, self.batch, AttentionTerm()
        times = torch.full((len(batch),), t, device=batch.images.device)
        with eval_mode(model), attention.watch(model):
            latents = model.encode(batch.images)
            noise = draw_noise(PROBES, t, range(len(batch)), latents.shape[1:]).to(latents)
            abar = model.alphas_cumprod.to(latents)[times]
            noisy = add_noise(latents, noise, abar)
            x0 = predict_x0(model(noisy, times, model.conditions(batch)), noisy, abar, model.prediction_type)
            far = 127.5 * (model.decode(x0).clamp(-1, 1) - batch.images).abs().mean(dim=1, keepdim=True)
            local = attention(model, None, batch)
        inside = text_region(batch)
        return {"l1_text": float((far * inside).sum() / inside.sum()),
                "l1_rest": float((far * (1 - inside)).sum() / (1 - inside).sum()), "local": float(local)}
