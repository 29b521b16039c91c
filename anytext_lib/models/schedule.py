"""The noise schedule of Stable Diffusion."""

from __future__ import annotations

import torch


def scaled_linear_abar(num_train_timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012,
                       beta_schedule: str = "scaled_linear") -> torch.Tensor:
    """abar_t, the share of the image's variance at each timestep: (num_train_timesteps,) float32, falling.

    The square roots of the betas grow linearly; computed in float64 as upstream does (``ldm`` ``make_beta_schedule``).

    Raises:
        ValueError: another schedule than "scaled_linear".
    """
    if beta_schedule != "scaled_linear":
        raise ValueError(f"the beta_schedule {beta_schedule!r} is not known; Stable Diffusion 1.5 has 'scaled_linear'")
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps, dtype=torch.float64,
                           device="cpu") ** 2
    return (1 - betas).cumprod(dim=0).float()
