"""A diffusion laboratory without a trained network: Stable Diffusion's schedule, and the best linear denoiser.

The notebooks about the losses need one-step estimates of x0 with honest errors.  The best linear estimate (the
Wiener filter) is known in closed form from the spectrum of the images, is fitted in a second, and behaves like a
network where it matters here: sharp while there is little noise, a blur when there is much.  It works on the pixels
themselves, so the "latents" of these notebooks are images and ``decode`` is the identity.
"""

from __future__ import annotations

import torch

from anytext_lib.diffusion import implied_noise, scaled_linear_abar


def sd_alphas_cumprod() -> torch.Tensor:
    """abar (1000,) float32 of Stable Diffusion 1.5, with the rounding of diffusers."""
    return scaled_linear_abar(dtype=torch.float32)


def identity(latents: torch.Tensor) -> torch.Tensor:
    """The decoder of a diffusion in pixel space."""
    return latents


class LinearDenoiser:
    r"""Best linear estimate of x0 from x_t for images of one size (Wiener filter per channel and frequency).

    .. math:: \hat X_0 = \mu + \frac{\sqrt{\bar\alpha} S}{\bar\alpha S + 1 - \bar\alpha} (X_t - \sqrt{\bar\alpha} \mu)

    with S the mean power of the images' orthonormal Fourier coefficients around their mean image.

    Args:
        images: (N, C, H, W) in [-1, 1], N >= 2, the images whose statistics are taken.
        alphas_cumprod: (T,) abar of the schedule.
    """

    def __init__(self, images: torch.Tensor, alphas_cumprod: torch.Tensor):
        if images.ndim != 4 or len(images) < 2:
            raise ValueError(f"at least two images (N, C, H, W) are needed, got shape {tuple(images.shape)}")
        self.alphas_cumprod = alphas_cumprod
        self.mean = images.mean(dim=0)
        self.power = torch.fft.rfft2(images - self.mean, norm="ortho").abs().square().mean(dim=0)

    def predict_x0(self, x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Estimate of x0 (B, C, H, W) from x_t of that shape at ``timesteps`` (B,)."""
        a = self.alphas_cumprod[timesteps].reshape(-1, 1, 1, 1)
        gain = a.sqrt() * self.power / (a * self.power + 1 - a)
        spectrum = torch.fft.rfft2(x_t - a.sqrt() * self.mean, norm="ortho")
        return self.mean + torch.fft.irfft2(gain * spectrum, s=x_t.shape[-2:], norm="ortho")

    def __call__(self, x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The noise that this estimate implies, eps = (x_t - sqrt(abar) x0) / sqrt(1 - abar): (B, C, H, W)."""
        return implied_noise(x_t, self.predict_x0(x_t, timesteps), self.alphas_cumprod[timesteps])
