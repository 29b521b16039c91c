"""DDIM sampling with classifier-free guidance; WriteNet runs once for each condition, not once a step.

The formulas and upstream's timesteps stand in ``anytext_lib.diffusion``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.diffusion import ddim_levels, step_moments
from anytext_lib.randomness import NOISE, generator


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
            x = x + sigma * torch.stack(fresh).to(x)
    return x


@torch.no_grad()
def sample_images(model, batch: AnyTextBatch, steps: int = 20, guidance: float = 1.0, seed: int = 0,
                  eta: float = 0.0, negative: str = "", control_scale: float = 1.0,
                  places: list[int] | None = None) -> torch.Tensor:
    """Images (B, 3, H, W) in [-1, 1] for the conditions of a batch; the true images are not looked at.

    Args:
        model: an AnyText2Model in eval mode. ``batch``: on the model's device.
        guidance: classifier-free guidance u + g (c - u) on the model's output; 1 needs no unconditional pass.
        seed: noise of sample i is drawn from (seed, places[i]), whatever the other samples are.
        eta: see ``ddim_sample``. ``negative``: caption of the unconditional pass.
        control_scale: factor on WriteNet's residuals.
        places: B integers, by default 0..B-1.
    """
    branches = [_Branch(model, batch, control_scale)]
    if guidance != 1:
        branches.append(_Branch(model, unconditional(batch, negative), control_scale))
    latents = branches[0].conditions.masked_latents
    keys = range(len(batch)) if places is None else places
    generators = [generator(seed, NOISE, 0, key) for key in keys]
    noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators]).to(latents.device)

    def predict(x: torch.Tensor, t: int) -> torch.Tensor:
        outputs = [branch(x, t).float() for branch in branches]
        return outputs[0] if guidance == 1 else outputs[1] + guidance * (outputs[0] - outputs[1])

    found = ddim_sample(predict, noise, model.alphas_cumprod, steps, model.prediction_type, eta, generators)
    return model.decode(found).float().clamp(-1, 1)


def unconditional(batch: AnyTextBatch, negative: str = "") -> AnyTextBatch:
    """The batch with the caption ``negative`` and an empty text caption; glyphs and positions stay, as upstream."""
    return replace(batch, captions=[negative] * len(batch), text_captions=[""] * len(batch))


class _Branch:
    """One pass: its conditions and, where WriteNet does not look at the latents, its residuals, computed once."""

    def __init__(self, model, batch: AnyTextBatch, control_scale: float):
        self.model, self.scale = model, control_scale
        self.conditions = model.conditions(batch)
        fast = getattr(getattr(model.writenet, "config", None), "fast_control", True)
        self.control = model.control(self.conditions) if fast else None

    def __call__(self, x: torch.Tensor, t: int) -> torch.Tensor:
        timesteps = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
        return self.model(x, timesteps, self.conditions, control=self.control, control_scale=self.scale)
