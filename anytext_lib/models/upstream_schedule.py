"""The tensors of the noise schedule that upstream keeps in its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

import torch

NAMES = ("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
         "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod",
         "posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2",
         "logvar")


def schedule_buffers(scheduler: Mapping) -> dict[str, torch.Tensor]:
    """The 13 buffers by upstream's names, each (T,) float32, computed in float64.

    Args:
        scheduler: num_train_timesteps, beta_start, beta_end of a scaled-linear schedule.

    Source: ``ldm/models/diffusion/ddpm.py`` (``register_schedule``), with v_posterior = 0 and logvar_init = 0.
    """
    start, end = scheduler["beta_start"] ** 0.5, scheduler["beta_end"] ** 0.5
    betas = torch.linspace(start, end, scheduler["num_train_timesteps"], dtype=torch.float64) ** 2
    alphas = 1 - betas
    abar = alphas.cumprod(0)
    before = torch.cat([abar.new_ones(1), abar[:-1]])
    variance = betas * (1 - before) / (1 - abar)
    values = (betas, abar, before, abar.sqrt(), (1 - abar).sqrt(), (1 - abar).log(), (1 / abar).sqrt(),
              (1 / abar - 1).sqrt(), variance, variance.clamp(min=1e-20).log(), betas * before.sqrt() / (1 - abar),
              (1 - before) * alphas.sqrt() / (1 - abar), torch.zeros_like(betas))
    return {name: value.float() for name, value in zip(NAMES, values, strict=True)}
