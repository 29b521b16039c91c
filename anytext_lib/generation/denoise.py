"""From noise to latents: guidance, upstream's DDIM, any scheduler of diffusers, and latents that are kept.

WriteNet runs once for each condition, not once a step.  The formulas and upstream's timesteps stand in
``anytext_lib.diffusion``.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, SchedulerMixin, UniPCMultistepScheduler

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.diffusion import ddim_levels, ddim_timesteps, predict_x0, step_moments
from anytext_lib.generation.request import SCHEDULERS, RequestError
from anytext_lib.models.anytext2 import Conditions
from anytext_lib.models.attnx import ControlResiduals
from anytext_lib.randomness import NOISE, generator

# guidance


class Branch:
    """One pass of the UNet: conditions of R pictures and, where WriteNet does not look at the latents, its residuals.

    Args:
        model: an AnyText2Model. ``conditions``: of R pictures. ``strength``: factor on WriteNet's residuals.
        control: WriteNet's residuals of the R pictures, or None: it runs at every step (slow control).
    """

    def __init__(self, model, conditions: Conditions, strength: float, control: ControlResiduals | None):
        self.model, self.conditions, self.strength, self.control = model, conditions, strength, control

    def rows(self, rows: list[int]) -> Branch:
        """The same for samples that stand for the pictures ``rows``, each maybe more than once."""
        control = None if self.control is None else ControlResiduals(
            tuple(value[rows] for value in self.control.down), self.control.mid[rows])
        return Branch(self.model, self.conditions.select(rows), self.strength, control)

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Model output (B, 4, h, w) float32 at latents (B, 4, h, w) and one timestep."""
        timesteps = t.to(x.device, non_blocking=True).expand(len(x))
        return self.model(x, timesteps, self.conditions, control=self.control, control_scale=self.strength).float()


def guided(branches: list[Branch], scale: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """u + s (c - u) of the conditional and the unconditional branch; one branch alone is not guided."""
    def predict(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        wanted = branches[0](x, t)
        if len(branches) == 1:
            return wanted
        without = branches[1](x, t)
        return without + scale * (wanted - without)
    return predict


# DDIM as upstream runs it


@torch.no_grad()
def ddim_sample(predict: Callable[[torch.Tensor, int], torch.Tensor], noise: torch.Tensor,
                alphas_cumprod: torch.Tensor, steps: int = 20, prediction_type: str = "epsilon", eta: float = 0.0,
                generators: list[torch.Generator] | None = None) -> torch.Tensor:
    """Latents (B, C, h, w) from noise of that shape.

    Args:
        predict: (x_t, t) -> model output, guidance included.
        alphas_cumprod: (T,) abar of the schedule.
        eta: 0 is deterministic, 1 adds the noise of DDPM, drawn from ``generators`` (one a sample, on the CPU).

    Raises:
        ValueError: ``eta`` is not in [0, 1], or is above 0 without generators.
    """
    if not 0 <= eta <= 1 or (eta > 0 and generators is None):
        raise ValueError(f"eta lies in [0, 1] and needs generators above 0, got {eta}")
    x = noise
    for t, abar, abar_next in ddim_levels(alphas_cumprod, steps):
        x, sigma = step_moments(predict(x, t), x, abar, abar_next, eta, prediction_type)
        if sigma > 0:
            fresh = [torch.randn(x.shape[1:], generator=generator) for generator in generators]
            x = x + sigma * torch.stack(fresh).to(x, non_blocking=True)
    return x


@torch.no_grad()
def sample_images(model, batch: AnyTextBatch, steps: int = 20, guidance: float = 1.0, seed: int = 0,
                  eta: float = 0.0, negative: str = "", control_scale: float = 1.0,
                  places: list[int] | None = None) -> torch.Tensor:
    """Sample images (B, 3, H, W) in [-1, 1] under the conditions of a batch; its true images are not used.

    Args:
        model: an AnyText2Model in eval mode. ``batch``: on the model's device.
        guidance: classifier-free guidance u + g (c - u) on the model's output; 1 needs no unconditional pass.
        seed: noise of sample i is drawn from (seed, places[i]), whatever the other samples are.
        eta: see ``ddim_sample``. ``negative``: caption of the unconditional pass.
        control_scale: factor on WriteNet's residuals.
        places: B integers, by default 0..B-1.
    """
    fast = model.writenet.config.fast_control
    branches = []
    for wanted in [batch] if guidance == 1 else [batch, unconditional(batch, negative)]:
        conditions = model.conditions(wanted)
        branches.append(Branch(model, conditions, control_scale, model.control(conditions) if fast else None))
    latents = branches[0].conditions.masked_latents
    keys = range(len(batch)) if places is None else places
    generators = [generator(seed, NOISE, 0, key) for key in keys]
    noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators])
    noise = noise.to(latents.device, non_blocking=True)
    predict = guided(branches, guidance)
    found = ddim_sample(lambda x, t: predict(x, torch.tensor(t)), noise, model.alphas_cumprod, steps,
                        model.prediction_type, eta, generators)
    return model.decode(found).float().clamp(-1, 1)


def unconditional(batch: AnyTextBatch, negative: str = "") -> AnyTextBatch:
    """The batch with the caption ``negative`` and an empty text caption; glyphs and positions stay, as upstream."""
    return replace(batch, captions=[negative] * len(batch), text_captions=[""] * len(batch))


# schedulers of diffusers


class UpstreamDDIMScheduler(DDIMScheduler):
    """DDIM with upstream's timesteps 1, 1 + c, 1 + 2 c, ..., c = 1000 // steps.

    diffusers cuts the list to ``steps`` entries, so that with 7 steps it would start at 853 and not at 995.
    """

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Choose the timesteps; one more than asked for where the number does not divide 1000."""
        times = ddim_timesteps(num_inference_steps, self.config.num_train_timesteps)
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.tensor(times[::-1], dtype=torch.int64, device=device)


# spaced by Karras et al. 2022: with evenly spaced timesteps both gain nothing over DDIM where data is known exactly
_FAST = {"solver_order": 2, "use_karras_sigmas": True}
_CLASSES: dict[str, tuple[type, dict]] = {
    "ddim": (UpstreamDDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    "dpmsolver++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"} | _FAST),
    "unipc": (UniPCMultistepScheduler, _FAST),
}


def make_scheduler(name: str, model) -> SchedulerMixin:
    """A scheduler for the noise schedule of an AnyText2Model: "ddim", "dpmsolver++" or "unipc"."""
    if name not in _CLASSES:
        raise RequestError(f"there is no scheduler {name!r}: choose one of {', '.join(SCHEDULERS)}, or give the "
                           "pipeline any scheduler of diffusers")
    kind, options = _CLASSES[name]
    return kind(**(model.config["scheduler"] | {"prediction_type": model.prediction_type} | options))


def check_scheduler(scheduler: SchedulerMixin, model, eta: float = 0.0) -> None:
    """Raise RequestError where a scheduler does not fit the model, or has no parameter ``eta`` and one is given."""
    found = scheduler.config.get("prediction_type", "epsilon")
    if found != model.prediction_type:
        raise RequestError(f"the scheduler expects a model that predicts {found!r}, this one predicts "
                           f"{model.prediction_type!r}: make_scheduler(name, model) makes one that fits")
    if eta and "eta" not in _parameters(scheduler):
        raise RequestError(f"{type(scheduler).__name__} knows no eta: leave it at 0, or use the scheduler ddim")


def step_options(scheduler: SchedulerMixin, eta: float, generators: list[torch.Generator] | None) -> dict[str, Any]:
    """The arguments of ``scheduler.step`` beyond the usual three, as far as it knows them."""
    options = {"eta": eta, "generator": generators}
    return {name: value for name, value in options.items() if name in _parameters(scheduler)}


def describe(scheduler: SchedulerMixin) -> dict[str, Any]:
    """Class and configuration, fit for JSON."""
    config = {name: value for name, value in dict(scheduler.config).items() if not name.startswith("_")}
    return {"class": type(scheduler).__name__, "config": config}


def restore(description: dict[str, Any]) -> SchedulerMixin:
    """The scheduler that ``describe`` described; RequestError if this diffusers has no such class."""
    import diffusers

    name = description["class"]
    kind = UpstreamDDIMScheduler if name == UpstreamDDIMScheduler.__name__ else getattr(diffusers, name, None)
    if kind is None or not issubclass(kind, SchedulerMixin):
        raise RequestError(f"diffusers {diffusers.__version__} has no scheduler {name!r}: the picture was made with "
                           "another version")
    return kind.from_config(description["config"])


def read_scheduler(path: str | os.PathLike) -> SchedulerMixin:
    """The scheduler of a file of diffusers' ``save_pretrained``; RequestError if it holds none."""
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
        return restore({"class": config.pop("_class_name", ""), "config": config})
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise RequestError(f"{path} holds no scheduler ({error}): copy the model's folder again, or delete this file "
                           "to sample with DDIM") from error


def _parameters(scheduler: SchedulerMixin) -> set[str]:
    return set(inspect.signature(scheduler.step).parameters)


@dataclass(frozen=True)
class Progress:
    """State of a run, given to the callback after every step.

    Attributes:
        step: 1 to ``steps``. ``timestep``: in 0..999. ``pictures``: which pictures of the run are being made.
        latents: (B, 4, h, w) after the step. ``estimate``: (B, 4, h, w), the clean latents that the step implies.
    """

    step: int
    steps: int
    timestep: float
    pictures: list[int]
    latents: torch.Tensor = field(repr=False)
    estimate: torch.Tensor = field(repr=False)
    _decode: Callable = field(repr=False)

    def preview(self) -> list:
        """The estimates as ``PIL.Image``, decoded when asked for: that takes time."""
        return self._decode(self.estimate)


@dataclass(frozen=True)
class Kept:
    """Latents of an image to stay outside of the regions: ``clean`` (B, 4, h, w), ``inside`` (B, 1, h, w) in {0, 1},
    the regions, and the ``noise`` (B, 4, h, w) of the start."""

    clean: torch.Tensor
    inside: torch.Tensor
    noise: torch.Tensor

    def into(self, x: torch.Tensor, scheduler, following: torch.Tensor | None) -> torch.Tensor:
        """``x`` inside, the image noised to the ``following`` timestep (None: not at all) outside."""
        outside = self.clean
        if following is not None:
            outside = scheduler.add_noise(self.clean, self.noise, following.reshape(1).expand(len(x)))
        return self.inside * x + (1 - self.inside) * outside


@torch.no_grad()
def denoise(predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], noise: torch.Tensor, scheduler, steps: int,
            abar: torch.Tensor, eta: float = 0.0, generators: list[torch.Generator] | None = None,
            kept: Kept | None = None, told: Callable[..., None] | None = None) -> torch.Tensor:
    """Latents (B, 4, h, w) float32 from noise of that shape and variance 1.

    Args:
        predict: (x_t, t) -> model output, guidance included. ``scheduler``: of diffusers; ``steps``: of it.
        abar: (T,) of the model's schedule, for the estimates. ``eta``, ``generators`` (one a sample): of the
            schedulers that draw noise.
        told: is called as ``told(step, steps, t, latents, estimate)`` after every step.
    """
    scheduler.set_timesteps(steps)
    options, times = step_options(scheduler, eta, generators), scheduler.timesteps
    x = noise * scheduler.init_noise_sigma
    for i, t in enumerate(times):
        seen = scheduler.scale_model_input(x, t)
        output = predict(seen, t)
        x = scheduler.step(output, t, x, **options).prev_sample
        if kept is not None:
            x = kept.into(x, scheduler, times[i + 1] if i + 1 < len(times) else None)
        if told is not None:
            told(i + 1, len(times), float(t), x, _estimate(output, seen, t, abar, scheduler))
    return x


def _estimate(output, seen, t, abar: torch.Tensor, scheduler) -> torch.Tensor:
    at = abar[round(float(t))].double().cpu().expand(len(seen)).to(seen)
    return predict_x0(output, seen, at, scheduler.config.get("prediction_type", "epsilon"))
