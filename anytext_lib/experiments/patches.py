"""Decoding only around the lines against decoding whole pictures: how near, at what cost, and at the same gain?

`anytext course experiment patches` measures it, and goes on where an interrupted run stopped.  Accuracy is that of the
small trained auto-encoders on scenes of 512 pixels, cost that of Stable Diffusion's sizes with random weights: counted
on the meta device, and measured on this machine.  The fine-tuning is that of "do the OCR losses help?".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from anytext_lib.data.lines import TextLines
from anytext_lib.experiments.fine_tuning import PictureProbes, build_module, ends, read_words, scores_of, train
from anytext_lib.experiments.objectives import peak_mib
from anytext_lib.experiments.plan import SIMPLE, ExperimentPlan, Sizes, open_plan, scores_in_words
from anytext_lib.files import data_folder, write_json
from anytext_lib.losses.terms import Term, ocr, ocr_loss
from anytext_lib.losses.weights import abar
from anytext_lib.models import AnyText2Model, freezing
from anytext_lib.models.anytext2 import Conditions
from anytext_lib.models.config import read_config
from anytext_lib.models.patch_decoder import PatchDecoder, exact_margin
from anytext_lib.ocr import PPOCRv3Recognizer, crop_lines
from anytext_lib.scenes.rendering import render_scene, scene_batch

ARMS: dict[str, dict[str, Any]] = {"none": {}, "whole": {}, "patches": {"decode_patches": 2},
                                  "chance": {"decode_patches": 2, "read_chance": True}}
"""Options of training, by arm; all but the first train with the OCR loss."""

CODERS = {"mini": "mini/after/vae", "mini2": "mini2/vae"}
NOISE = 0.3  # on the latents, in parts of their deviation: an estimate is not the truth
WAYS = [(margin, 1.0) for margin in (0, 1, 2, 4, 8)] + [(2, share) for share in (0.25, 0.125, 0.0625)]
"""(margin, background) of the measurements of accuracy."""

COUNTED = [(2, 0.125), (1, 0.0625), (2, 1.0)]
"""(margin, background) of those whose cost is counted."""

LINES = (1, 3, 5)
SIZES_OF_LINES = {"usual": (190, 70), "small": (160, 32)}
"""Width and height in pixels at 512 x 512: the median of the course's scenes, and small print."""

SIZES = Sizes(starts=(("pre-trained", "mini/before"),), probe_every=30, pictures=2)
PROFILES = {
    "default": SIZES,
    "quick": replace(SIZES, seeds=2, steps=3, batch=4, scenes=24, words=4, probes=2, probe_times=(500,), probe_every=3,
                     sampling_steps=4, timed=0, pictures=1),
    "gpu": replace(SIZES, seeds=10, steps=400, batch=32, scenes=12800, words=512, probes=128, probe_every=100),
}


def main(profile: str, out: Path | None, seeds: int | None, device: str | None, jobs: int) -> int:
    """Run what is still missing, then write patches.json into ``out``."""
    plan = open_plan("patches", PROFILES, profile, out, device, jobs)
    plan.run_all([(_counted,)])
    plan.run_all([(_run, arm, seed) for seed in range(seeds or plan.profile.seeds) for arm in ARMS])
    plan.run_all([(_accuracy, name, lines) for name in CODERS for lines in LINES])
    if plan.profile.timed:
        alone = replace(plan, jobs=1)  # or times would mean nothing
        alone.run_all([(_cost, lines) for lines in (0, *LINES)])
    parts = plan.results()
    record = {name: [row for key, rows in parts.items() if key.split("-")[0] == name for row in rows]
              for name in ("counted", "accuracy", "cost", "run")}
    write_json(plan.folder / "patches.json", {"provenance": plan.provenance(), **record})
    print(", ".join(f"{len(rows)} {name}" for name, rows in record.items()) + f": {plan.folder / 'patches.json'}")
    return 0


# gain

def _run(plan: ExperimentPlan, arm: str, seed: int) -> tuple[list[dict], str]:
    """One run: time, scores of held-out words, and the ends of its probes."""
    profile = plan.profile
    terms = [SIMPLE] if arm == "none" else [SIMPLE, Term("ocr", ocr, profile.loss_alpha, abar)]
    module = build_module(profile, seed, plan.device, terms, **ARMS[arm])
    probes, seconds = train(profile, module, seed, plan.device, PictureProbes(profile, plan.device))
    found = {"arm": arm, "seed": seed, "steps": profile.steps, "seconds": seconds,
             **scores_of(read_words(profile, module.to(plan.device).model), profile), **ends(probes.curve)}
    return [found], f"{seconds:.0f} s, {scores_in_words(found)}"


# accuracy

def _accuracy(plan: ExperimentPlan, name: str, lines: int) -> tuple[list[dict], str]:
    """Loss and gradient of each of ``WAYS`` beside those of whole pictures, for some scenes with so many lines."""
    vae = AutoencoderKL.from_pretrained(data_folder() / CODERS[name], low_cpu_mem_usage=False).requires_grad_(False)
    vae, rows = vae.eval().to(plan.device), []
    for seed in range(plan.profile.pictures):
        images, found, _ = scene_batch([render_scene(seed, 512, n_lines=lines, invalid=0.0)])
        rows += [{"coder": name, "lines": len(found), "seed": seed, **row}
                 for row in compare(vae, images.to(plan.device), found, WAYS)]
    worst = min(row["cosine"] for row in rows if row["margin"] == 2)
    return rows, f"cosine at margin 2 at least {worst:.4f}"


def compare(vae: AutoencoderKL, images: torch.Tensor, lines: TextLines,
            ways: Sequence[tuple[int, float]]) -> list[dict[str, Any]]:
    """What decoding in patches changes for noisy latents of images (1, 3, H, W).

    Returns:
        a row for each (margin, background): worst and root mean square error of the crops (of a range of 2), relative
        error of the OCR loss, cosine of its gradient in the latents to the true one, and the ratio of their lengths.
    """
    reader = PPOCRv3Recognizer.from_pretrained().to(images.device)
    with torch.no_grad():
        latents = vae.encode(images).latent_dist.mean * vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents)
        latents = latents + NOISE * latents.std((0, 2, 3), keepdim=True) * noise
        truth = reader(crop_lines(images, lines)).features

    def read(decode: Callable) -> tuple[torch.Tensor, float, torch.Tensor]:
        z = latents.clone().requires_grad_()
        crops = crop_lines(decode(z).clamp(-1, 1), lines)
        loss = ocr_loss(reader(crops).features, truth).mean()
        return crops.detach(), float(loss.detach()), torch.autograd.grad(loss, z)[0].flatten()

    crops, loss, gradient = read(lambda z: vae.decode(z / vae.config.scaling_factor).sample)
    rows = []
    for margin, background in ways:
        decoder = PatchDecoder(vae, margin, background)
        near, value, pull = read(lambda z, decoder=decoder: decoder(z, lines))
        rows.append({"margin": margin, "background": background, "exact": margin >= exact_margin(vae),
                     "crop_max": float((near - crops).abs().max()),
                     "crop_rms": float((near - crops).square().mean().sqrt()),
                     "loss_error": value / loss - 1, "cosine": float(F.cosine_similarity(pull, gradient, dim=0)),
                     "length": float(pull.norm() / gradient.norm())})
    return rows


# cost

def stacked_lines(count: int, size: tuple[int, int]) -> TextLines:
    """``count`` upright lines of ``size`` (width, height), spread over the height of a picture of 512 pixels."""
    width, height = size
    tops = [(512 - count * height) * (i + 1) // (count + 1) + i * height for i in range(count)]
    quads = [[[61, y], [61 + width, y], [61 + width, y + height], [61, y + height]] for y in tops]
    return TextLines([0] * count, torch.tensor(quads, dtype=torch.float32), ["text"] * count, ["Latin"] * count)


def _counted(plan: ExperimentPlan) -> tuple[list[dict], str]:
    """FLOPs and memory of a step of the official size, counted without computing anything."""
    rows = official_costs(COUNTED)
    return rows, ", ".join(f"{row['part']} {row['lines']}: {row['share_flops']:.2f} of the FLOPs" for row in rows[1:3])


def official_costs(ways: Sequence[tuple[int, float]]) -> list[dict[str, Any]]:
    """Rows for the networks' step at 512 x 512, batch 1, and for decoding with gradient, whole and in patches.

    forward, backward: FLOPs (two for a multiplication and addition). gib: what the backward pass needs, in float32.
    share_flops, share_memory: of those of the networks, UNet and WriteNet forward and backward.
    """
    with torch.device("meta"):
        model = AnyText2Model.from_config("sd15")
    freezing.apply(model, sd_locked=True, unlock_qkv=False, style_ocr_trainable=True, cond_stage_trainable=False,
                   train_all=False)
    empty = {"device": "meta"}
    told = Conditions(torch.zeros(1, 77, 768, requires_grad=True, **empty),
                      torch.zeros(1, 77, 768, requires_grad=True, **empty), torch.zeros(1, 1, 512, 512, **empty),
                      torch.zeros(1, 1, 512, 512, **empty), torch.zeros(1, 4, 64, 64, **empty))
    step = counted(model, lambda z: model(z.detach(), torch.full((1,), 500, **empty), told))
    cases = [("whole", 0, "", 0, 0.0, model.decode)]
    for count in LINES:
        for name, size in SIZES_OF_LINES.items():
            lines = stacked_lines(count, size)
            cases += [("patches", count, name, margin, background,
                       partial(PatchDecoder(model.vae, margin, background), lines=lines))
                      for margin, background in ways]
    rows = [{"part": "networks", "lines": 0, "size": "", "margin": 0, "background": 0.0, **step}]
    rows += [{"part": part, "lines": count, "size": name, "margin": margin, "background": background,
              **counted(model, decode)} for part, count, name, margin, background, decode in cases]
    total = step["forward"] + step["backward"]
    return [row | {"share_flops": (row["forward"] + row["backward"]) / total, "share_memory": row["gib"] / step["gib"]}
            for row in rows]


def counted(model: nn.Module, function: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
    """forward, backward (FLOPs) and gib (saved for the backward pass, without weights) of a function of latents."""
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage  # held, so that no other takes its place
        return tensor

    latents = torch.zeros(1, 4, 64, 64, device="meta", requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), FlopCounterMode(display=False) as there:
        result = function(latents)
    with FlopCounterMode(display=False) as back:
        result.sum().backward()
    gib = sum(storage.nbytes() for storage in kept.values()) / 2**30
    return {"forward": there.get_total_flops(), "backward": back.get_total_flops(), "gib": gib}


def _cost(plan: ExperimentPlan, count: int) -> tuple[list[dict], str]:
    """Seconds and GiB of decoding one picture with gradient at Stable Diffusion's sizes, random weights: in patches
    around ``count`` lines of usual size, or for 0 the whole of it."""
    torch.manual_seed(0)
    vae = AutoencoderKL(**read_config("sd15")["vae"]).requires_grad_(False).eval().to(plan.device)
    decode = PatchDecoder(vae) if count else None
    latents = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0)).to(plan.device).requires_grad_()
    seconds = []

    def work() -> None:
        begin = time.perf_counter()
        picture = (vae.decode(latents / vae.config.scaling_factor).sample if decode is None else
                   decode(latents, stacked_lines(count, SIZES_OF_LINES["usual"])))
        torch.autograd.grad(picture.square().sum(), latents)
        if plan.device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)

    row = {"lines": count, "gib": peak_mib(work, plan.device) / 1024, "seconds": min(seconds)}
    return [row], f"{row['seconds']:.0f} s, {row['gib']:.2f} GiB"
