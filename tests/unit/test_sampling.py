"""The DDIM sampler: its steps, and its independence of what else is in the batch."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import nn

from anytext_lib.data.lines import TextLines
from anytext_lib.generation import ddim_sample, ddim_timesteps, sample_images, unconditional
from anytext_lib.generation.denoise import UpstreamDDIMScheduler, denoise, replace


@pytest.mark.parametrize("steps", [1, 3, 333, 500, 501, 1000])
def test_timesteps_stay_inside_the_schedule(steps):
    times = ddim_timesteps(steps)
    assert times[0] == 1 and times[-1] < 1000 and len(times) >= min(steps, 999)


def test_step_numbers_are_checked():
    with pytest.raises(ValueError, match="1..1000, got 0"):
        ddim_timesteps(0)


def test_eta_adds_the_noise_of_ddpm(alphas_cumprod):
    """With a perfect eps prediction for x0 = 0 and eta = 1, every x_t has the variance 1 - abar_t."""
    abar = alphas_cumprod.double()
    generators = [torch.Generator().manual_seed(i) for i in range(8)]
    start = torch.randn(8, 4, 16, 16) * (1 - abar[951]).sqrt().float()
    found = ddim_sample(lambda x, t: x / (1 - abar[t]).sqrt().float(), start, alphas_cumprod, 20, eta=1.0,
                        generators=generators)
    assert found.std().item() == pytest.approx((1 - abar[0]).sqrt().item(), rel=0.05)
    with pytest.raises(ValueError, match="needs generators"):
        ddim_sample(lambda x, t: x, start, alphas_cumprod, 20, eta=0.5)


def predicted(x, t):
    """A smooth function of latents and timestep in the place of a network."""
    return torch.cos(1.7 * x) * (0.4 + float(t) / 2000)


@pytest.mark.parametrize("steps", [4, 20])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_eta_is_that_of_diffusers(alphas_cumprod, eta, steps):
    """The plain DDIMScheduler, where its timesteps are upstream's: for numbers of steps that divide 1000."""
    betas = 1 - alphas_cumprod / torch.cat([torch.ones(1), alphas_cumprod[:-1]])
    options = {"trained_betas": betas.tolist(), "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
    plain, noise = DDIMScheduler(**options), torch.randn(3, 4, 6, 10, generator=torch.Generator().manual_seed(9))

    def generators():
        return [torch.Generator().manual_seed(seed) for seed in (4, 7, 9)]

    plain.set_timesteps(steps)
    x, drawn = noise, generators()
    for t in plain.timesteps:
        x = plain.step(predicted(x, t), t, x, eta=eta, generator=drawn).prev_sample
    ours = ddim_sample(predicted, noise, alphas_cumprod, steps, eta=eta, generators=generators())
    piped = denoise(predicted, noise, UpstreamDDIMScheduler(**options), steps, alphas_cumprod, eta, generators())
    assert plain.timesteps[0] == 1001 - 1000 // steps
    assert torch.allclose(ours, x, atol=1e-4) and torch.allclose(piped, x, atol=1e-4)
    still = ddim_sample(predicted, noise, alphas_cumprod, steps)
    assert torch.equal(ours, still) == (eta == 0)


class Analytic(nn.Module):
    """Stands for an AnyText2Model: the output depends on caption, control and x; counts WriteNet's runs."""

    prediction_type = "epsilon"

    def __init__(self, abar, fast=True):
        super().__init__()
        self.alphas_cumprod, self.controls = abar, 0
        self.writenet = SimpleNamespace(config=SimpleNamespace(fast_control=fast))

    def conditions(self, batch):
        strength = torch.tensor([0.3 if caption else -0.1 for caption in batch.captions])
        return SimpleNamespace(strength=strength.view(-1, 1, 1, 1), masked_latents=torch.zeros(len(batch), 4, 4, 8))

    def control(self, conditions):
        self.controls += 1
        return 1.0

    def forward(self, x, timesteps, conditions, control=None, control_scale=1.0):
        return 0.5 * x + conditions.strength * torch.cos(x) * (control or 1.0) * control_scale

    def decode(self, latents):
        return latents[:, :3]


@pytest.fixture
def batch():
    from anytext_lib.data.batch import AnyTextBatch

    n, size = 3, (16, 32)
    plane = torch.zeros(n, 1, *size)
    return AnyTextBatch(torch.zeros(n, 3, *size), torch.zeros(n, 3, *size), ["a", "b", "c"], ["* "] * n,
                        TextLines.empty(), torch.zeros(0, 1, 80, 512), plane, torch.zeros(0, 1, *size),
                        torch.zeros(0, 3), plane, plane, torch.zeros(n, dtype=torch.bool), ["x"] * n, torch.arange(n))


def test_writenet_runs_once_a_condition(batch, alphas_cumprod):
    model = Analytic(alphas_cumprod)
    sample_images(model, batch, steps=5)
    assert model.controls == 1
    sample_images(model, batch, steps=5, guidance=3.0)
    assert model.controls == 3
    slow = Analytic(alphas_cumprod, fast=False)
    sample_images(slow, batch, steps=5)
    assert slow.controls == 0  # the model's forward runs it at every step


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_image_does_not_depend_on_its_neighbours(batch, alphas_cumprod, eta):
    model = Analytic(alphas_cumprod)
    all_of_them = sample_images(model, batch, 5, guidance=2.0, seed=3, eta=eta)
    alone = replace(batch, **{name: value[1:2] for name, value in vars(batch).items()
                              if isinstance(value, torch.Tensor) and len(value) == 3},
                    captions=["b"], text_captions=["* "], names=["x"])
    assert torch.equal(sample_images(model, alone, 5, guidance=2.0, seed=3, eta=eta, places=[1])[0], all_of_them[1])
    assert not torch.equal(sample_images(model, batch, 5, guidance=2.0, seed=4, eta=eta), all_of_them)


def test_guidance_one_is_the_plain_model(batch, alphas_cumprod):
    model = Analytic(alphas_cumprod)
    near = sample_images(model, batch, 5, guidance=1.0 + 1e-6)
    assert torch.allclose(sample_images(model, batch, 5), near, atol=1e-4)
    assert sample_images(model, batch, 5).abs().max() <= 1


def test_unconditional_keeps_the_layout(batch):
    plain = unconditional(batch, "bad")
    assert plain.captions == ["bad"] * 3 and plain.text_captions == [""] * 3 and plain.glyphs is batch.glyphs


def test_ddim_ends_at_the_first_alpha(alphas_cumprod):
    """A model that always finds the same x0 ends at sqrt(abar_0) x0 + sqrt(1 - abar_0) eps, as upstream."""
    x0, a = torch.full((1, 4, 4, 4), 0.7), alphas_cumprod
    noise = torch.randn(1, 4, 4, 4)
    start = a[951].sqrt() * x0 + (1 - a[951]).sqrt() * noise
    found = ddim_sample(lambda x, t: noise, start, a, 20)
    assert np.allclose(found, a[0].sqrt() * x0 + (1 - a[0]).sqrt() * noise, atol=1e-4)
