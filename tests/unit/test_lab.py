from __future__ import annotations

import pytest
import torch

from anytext_lib.course.lab import LinearDenoiser, identity, sd_alphas_cumprod
from anytext_lib.losses import add_noise, predict_x0


def smooth_images(n=64):
    rough = torch.randn(n, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    return torch.fft.irfft2(torch.fft.rfft2(rough)[..., :4], s=(16, 32))


def test_the_schedule_is_stable_diffusions():
    abar = sd_alphas_cumprod()
    assert abar.shape == (1000,)
    torch.testing.assert_close(abar[[0, 500, 999]], torch.tensor([0.9991, 0.2763, 0.0047]), atol=5e-5, rtol=0)


def test_no_other_gain_of_its_form_does_better():
    images, abar = smooth_images(), sd_alphas_cumprod()
    denoiser = LinearDenoiser(images, abar)
    t = torch.full((len(images),), 500)
    x_t = add_noise(images, torch.randn(images.shape, generator=torch.Generator().manual_seed(1)), abar[t])
    error = (denoiser.predict_x0(x_t, t) - images).square().mean()
    assert error < (x_t / abar[500].sqrt() - images).square().mean()
    assert error < (denoiser.mean - images).square().mean()
    for factor in (0.5, 2.0):
        other = LinearDenoiser(images, abar)
        other.power = other.power * factor
        assert error < (other.predict_x0(x_t, t) - images).square().mean()


def test_the_noise_estimate_implies_the_image_estimate():
    images, abar = smooth_images(4), sd_alphas_cumprod()
    denoiser, t = LinearDenoiser(images, abar), torch.tensor([5, 200, 600, 990])
    x_t = add_noise(images, torch.randn_like(images), abar[t])
    implied = predict_x0(denoiser(x_t, t), x_t, abar[t], "epsilon")
    torch.testing.assert_close(implied, denoiser.predict_x0(x_t, t), atol=1e-4, rtol=1e-4)
    assert identity(images) is images


def test_one_image_is_not_enough():
    with pytest.raises(ValueError, match="at least two"):
        LinearDenoiser(torch.zeros(1, 3, 8, 8), sd_alphas_cumprod())
