"""Which steps lead from noise to a picture: upstream's DDIM, or any scheduler of diffusers."""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, SchedulerMixin, UniPCMultistepScheduler

from anytext_lib.diffusion import ddim_timesteps
from anytext_lib.generation.request import SCHEDULERS, RequestError


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
    """RequestError where a scheduler does not fit the model, or does not know the ``eta`` that is asked for."""
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


def _parameters(scheduler: SchedulerMixin) -> set[str]:
    return set(inspect.signature(scheduler.step).parameters)


def read_scheduler(path: str | os.PathLike) -> SchedulerMixin:
    """The scheduler of a file of diffusers' ``save_pretrained``; RequestError if it holds none."""
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
        return restore({"class": config.pop("_class_name", ""), "config": config})
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise RequestError(f"{path} holds no scheduler ({error}): copy the model's folder again, or delete this file "
                           "to sample with DDIM") from error
