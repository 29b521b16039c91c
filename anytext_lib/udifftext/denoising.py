r"""The noise of UDiffText: levels sigma, the denoiser around an eps network, and its loss.

UDiffText adds noise without shrinking the picture, x = x0 + sigma eps, where DDPM has x_t = sqrt(abar) x0 +
sqrt(1 - abar) eps.  With sigma^2 = (1 - abar) / abar the two differ by a factor only,

.. math:: x_t = c_{in} x, \quad c_{in} = 1 / \sqrt{1 + \sigma^2} = \sqrt{\bar\alpha}

so that an eps network of DDPM is a denoiser, D(x) = x - sigma eps(c_in x, t), and the weighted loss is its plain one:

.. math:: \sigma^{-2} |D(x) - x_0|^2 = |\epsilon(c_{in} x, t) - \epsilon|^2

Source: UDiffText (``EpsScaling``, ``EpsWeighting``, ``LegacyDDPMDiscretization`` of Stability's generative-models).
"""

from __future__ import annotations

import numpy as np
import torch

from anytext_lib.errors import OptionError
from anytext_lib.losses.diffusion import squared_error
from anytext_lib.losses.process import VariancePreserving, expand


def sigma_levels(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """sigma of each timestep, (T,), ascending: .029 to 14.61 for Stable Diffusion's schedule.

    From abar in float32 the lowest levels are right to about 3e-5 only, because of 1 - abar.
    """
    process = VariancePreserving(alphas_cumprod.double())  # of an eps network: sigma is what its errors grow by
    return process.amplification(torch.arange(process.steps)).to(alphas_cumprod.dtype)


def sampling_timesteps(steps: int, total: int = 1000) -> list[int]:
    """Timesteps of a sampler, descending from total - 1, roughly evenly spaced, as upstream.

    Raises:
        ValueError: ``steps`` is not in 1..total.
    """
    if not 1 <= steps <= total:
        raise OptionError(f"the number of sampling steps lies in 1..{total}, got {steps}")
    return [int(t) for t in np.linspace(total - 1, 0, steps, endpoint=False if steps < total else True)]


def c_in(sigma: torch.Tensor) -> torch.Tensor:
    """Factor that brings x = x0 + sigma eps to about unit variance, the input that an eps network knows."""
    return 1 / (1 + sigma.square()).sqrt()


def add_sigma_noise(x0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """x of shape (B, ...) from x0 and noise of that shape and ``sigma`` (B,)."""
    return x0 + expand(sigma, x0) * noise


def denoised(x: torch.Tensor, eps: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """D(x) = x - sigma eps, the estimate of x0; x and eps (B, ...), ``sigma`` (B,)."""
    return x - expand(sigma, x) * eps


def denoising_loss(estimate: torch.Tensor, x0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """sigma^-2 times the mean squared error of the denoiser's estimate.

    Args:
        estimate, x0: (B, C, h, w), the estimate that of ``denoised``. ``sigma``: (B,), positive.

    Returns:
        (B,) loss of each sample; up to rounding ``diffusion_loss`` of the network's eps.

    Raises:
        ValueError: shapes differ.
    """
    return squared_error(estimate, x0).flatten(1).mean(dim=1) / sigma.to(estimate.device).square()
