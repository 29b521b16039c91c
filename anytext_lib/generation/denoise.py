"""From noise to latents with any scheduler: guidance, progress, and latents that are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from anytext_lib.diffusion import predict_x0
from anytext_lib.generation.schedulers import step_options
from anytext_lib.models.conditions import Conditions
from anytext_lib.models.encoder import ControlResiduals


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
        timesteps = t.to(x.device).expand(len(x))
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


@dataclass(frozen=True)
class Progress:
    """What a callback is told after every step.

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
