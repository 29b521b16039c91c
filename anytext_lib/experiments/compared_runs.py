"""One run of a comparison of objectives: measure gradients, fine-tune, follow fixed probes, have held-out words read.

Terms that are no reading loss get the weight with which their gradient is on average as long as the OCR term's.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from anytext_lib.db.terms import Detected
from anytext_lib.evaluation import score_texts
from anytext_lib.experiments.allocations import peak_mib
from anytext_lib.experiments.arms import SIMPLE, Arm, Measured, weights_row
from anytext_lib.experiments.fine_tuning import (
    PROBES,
    SCENES,
    WORDS,
    Probes,
    batches_of,
    build_module,
    gradient_lengths,
    noisy_step,
    scenes,
    seconds_of_a_step,
    start_folder,
    train,
)
from anytext_lib.generation import sample_images
from anytext_lib.losses import Term, abar, uniform
from anytext_lib.losses.step import text_region
from anytext_lib.losses.terms import ocr, region
from anytext_lib.models import AnyText2Model
from anytext_lib.ocr import Judge
from anytext_lib.randomness import draw_noise
from anytext_lib.training.cache import TensorCache, digests
from anytext_lib.training.callbacks.sampling import eval_mode, read_lines, score_samples
from anytext_lib.udifftext.terms import local, local_of, watch_attention


def detected(network) -> Detected:
    """The term of a trained DB detector that looks at each picture once."""
    cache = TensorCache(256)
    return Detected(network, lambda images, compute: cache.rows(digests(images), compute, images.device))


def build_terms(network) -> dict[str, Term]:
    """The terms that are no reading loss, by name, at weight 1; ``network``: a trained DB detector."""
    functions = {"local": local, "region": region, "db": detected(network)}
    return {name: Term(name, function) for name, function in functions.items()}


def calibrate_readers(profile, start: str, device: str) -> dict[str, float]:
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


def calibrate(profile, network, device: str) -> dict[str, float]:
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


def cost(profile, arm: Arm, measured: Measured, device: str) -> dict[str, float]:
    """What one step of an arm costs, forward and backward: shortest ``step_seconds`` of some, and ``peak_mib``."""
    profile = replace(profile, scenes=profile.batch)
    module = build_module(profile, 0, device, arm.terms(profile, measured))
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
    return {"step_seconds": min(times), "peak_mib": peak_mib(work, device)}


def reader_run(profile, start: str, arm: Arm, seed: int, measured: Measured, device: str) -> dict[str, Any]:
    """One run about the OCR losses: weights, cost, scores on held-out words and the curve of its probes."""
    terms, steps = arm.terms(profile, measured), arm.steps(profile, measured)
    module = build_module(profile, seed, device, terms, start)
    probes, seconds = train(profile, module, seed, device, steps=steps)
    scores = read_held_out(profile, module.to(device).model)
    return {"start": start, "arm": arm.name, "seed": seed, "steps": steps, "seconds": seconds, **weights_row(terms),
            **scores, "curve": probes.curve}


def fine_tune(profile, arm: Arm, seed: int, measured: Measured, device: str) -> dict[str, Any]:
    """One run: weights, time, scores and readings of held-out words, and the curve of its probes."""
    terms = arm.terms(profile, measured)
    module = build_module(profile, seed, device, terms)
    probes, seconds = train(profile, module, seed, device, PictureProbes(profile, device))
    rows, weights = read_words(profile, module.to(device).model), weights_row(terms)
    added = [term for term in terms if term.name in ("local", "region", "db")]
    return {"arm": arm.name, "seed": seed, "steps": profile.steps, "seconds": seconds,
            "loss_alpha": weights["loss_alpha"], "loss_beta": weights["loss_beta"],
            "term": added[0].name if added else "", "term_weight": added[0].weight_at(None) if added else 0.0,
            **scores_of(rows, profile), **ends(probes.curve), "curve": probes.curve,
            "readings": [{"arm": arm.name, "seed": seed, **row} for row in rows]}


def read_held_out(profile, model: AnyText2Model) -> dict[str, float]:
    """Sen.Acc and NED of every judge, and of the training recogniser ("trainer"), on held-out words."""
    data = scenes(WORDS, "test", profile.words)
    batches = (batch.to(model.device) for batch in batches_of(data, 32, profile.words))
    readers = {name: Judge.from_name(name) for name in profile.judges} | {"trainer": model.reader}
    found = score_samples(model, batches, readers, profile.sampling_steps, profile.guidance, seed=WORDS)
    return {f"{name}_{key}": float(value) for name, scores in found.items()
            for key, value in (("acc", scores.sentence_accuracy), ("ned", scores.ned))}


def read_start(profile, start: str, device: str) -> dict[str, Any]:
    """The scores of a starting point itself."""
    model = AnyText2Model.from_pretrained(start_folder(profile, start), device)
    return {"start": start, "arm": "start", **read_held_out(profile, model)}


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
    def measure(self, module, step: int) -> None:
        """Append a point for each timestep."""
        first = len(self.curve)
        super().measure(module, step)
        begin = time.perf_counter()
        for point in self.curve[first:]:
            point.update(self.picture(module, point["t"]))
        self.seconds += time.perf_counter() - begin

    def picture(self, module, t: int) -> dict[str, float]:
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
