"""Checks of the exercises of notebook 11."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import torch

from anytext_lib.course.checks import expect, expect_value, passed, result_of
from anytext_lib.diffusion import ddim_timesteps


def check_11_ddim_step(function: Callable) -> None:
    """Exercise 1: `function(x, eps, a, a_next)` takes one step of DDIM; a and a_next are numbers."""
    generator = torch.Generator().manual_seed(0)
    x, eps = (torch.randn(2, 4, 3, 5, generator=generator) for _ in range(2))
    for a, a_next in ((0.1, 0.3), (0.5, 0.9), (0.9, 0.999)):
        given = x.clone()
        got = result_of("ddim_step", function, given, eps, a, a_next)
        expect(torch.equal(given, x), "ddim_step changes x: make new tensors, without `+=`.")
        expect(isinstance(got, torch.Tensor) and got.shape == x.shape, "return a tensor of the shape of x.")
        expect_value(got, _step(x, eps, a, a_next), _wrong_steps(x, eps, a, a_next), f"from abar = {a} to {a_next} the "
                     "values differ: first the clean estimate x0, then as much noise back as belongs to a_next.",
                     atol=1e-5)
    passed("the estimate of the clean latents, and the same noise again, but less of it")


def _step(x, eps, a, a_next):
    x0 = (x - (1 - a) ** 0.5 * eps) / a**0.5
    return a_next**0.5 * x0 + (1 - a_next) ** 0.5 * eps


def _wrong_steps(x, eps, a, a_next) -> dict[str, torch.Tensor]:
    """What a typical wrong answer gives, by the hint for it."""
    x0 = (x - (1 - a) ** 0.5 * eps) / a**0.5
    return {
        "that is x0, the estimate of the clean latents: noise must be put back for the next step.": x0,
        "x0 and eps are put together with a, which gives x again: the next step has a_next.": x,
        "the noise that is put back is that of a: take sqrt(1 - a_next).": a_next**0.5 * x0 + (1 - a) ** 0.5 * eps,
        "x0 is not scaled: it has the factor sqrt(a_next).": x0 + (1 - a_next) ** 0.5 * eps,
        "the square roots are missing: abar is a share of the *variance*.":
            a_next * ((x - (1 - a) * eps) / a) + (1 - a_next) * eps,
        "a and a_next are exchanged: x belongs to a.": _step(x, eps, a_next, a),
        "x0 must be divided by sqrt(a): x_t holds sqrt(a) times x0.":
            a_next**0.5 * (x - (1 - a) ** 0.5 * eps) + (1 - a_next) ** 0.5 * eps,
    }


def check_11_keep_outside(function: Callable) -> None:
    """Exercise 2: `function(x, clean, noise, inside, a)` puts an image's latents back outside of the regions."""
    generator = torch.Generator().manual_seed(1)
    x, clean, noise = (torch.randn(2, 4, 6, 8, generator=generator) for _ in range(3))
    inside = (torch.rand(2, 1, 6, 8, generator=generator) < 0.5).float()
    for a in (0.2, 0.7, 1.0):
        got = result_of("keep_outside", function, x.clone(), clean, noise, inside, a)
        expect(isinstance(got, torch.Tensor) and got.shape == x.shape, "return a tensor of the shape of x.")
        expect_value(got, _kept(x, clean, noise, inside, a), _wrong_kept(x, clean, noise, inside, a), f"at abar = {a} "
                     "the values differ: x inside, sqrt(a) clean + sqrt(1 - a) noise outside.", atol=1e-5)
    passed("x where it is written, the image at the same noise level everywhere else")


def _kept(x, clean, noise, inside, a):
    return inside * x + (1 - inside) * (a**0.5 * clean + (1 - a) ** 0.5 * noise)


def _wrong_kept(x, clean, noise, inside, a) -> dict[str, torch.Tensor]:
    return {
        "inside and outside are exchanged: `inside` is 1 where the words go.":
            _kept(x, clean, noise, 1 - inside, a),
        "the image comes in without noise, which is right at the very end only: x is at noise level a.":
            _kept(x, clean, noise, inside, 1.0),
        "image and noise are added in the wrong proportions: sqrt(a) belongs to the image.":
            _kept(x, noise, clean, inside, a),
        "the square roots are missing: abar is a share of the *variance*.":
            inside * x + (1 - inside) * (a * clean + (1 - a) * noise),
        "the image is added on top of x: x must vanish outside.":
            x + (1 - inside) * (a**0.5 * clean + (1 - a) ** 0.5 * noise),
        "nothing was put back.": x,
    }


def check_11_passes(function: Callable) -> None:
    """Exercise 3: `function(images, steps, batch, guided)` counts (passes of WriteNet, passes of the UNet)."""
    for images, steps, batch, guided in ((1, 20, 4, True), (8, 20, 4, True), (8, 20, 4, False), (5, 30, 2, True),
                                         (3, 7, 4, False)):
        got = result_of("passes", function, images, steps, batch, guided)
        expect(hasattr(got, "__len__") and len(got) == 2, "return two numbers: WriteNet's passes, the UNet's.")
        branches, taken = 2 if guided else 1, len(ddim_timesteps(steps))
        right = branches, branches * taken * ceil(images / batch)
        asked = f"{images} images, {steps} steps, batches of {batch}, {'with' if guided else 'no'} guidance"
        _check_writenet(got[0], right[0], images, taken, batch, guided, asked)
        _check_unet(got[1], right[1], images, steps, taken, batch, branches, asked)
    passed("WriteNet works for a condition, the UNet for every batch, step and condition")


def _check_writenet(got, right, images, taken, batch, guided, asked) -> None:
    hints = {
        taken * right * ceil(images / batch): "with fast control WriteNet does not look at the noisy latents: it need "
                                              "not run at every step.",
        right * ceil(images / batch): "all images of one request share what WriteNet says, also those of other "
                                      "batches.",
        right * images: "all images of one request share what WriteNet says.",
        1: "the unconditional pass has another text caption, and so other residuals of WriteNet.",
    }
    for wrong, hint in hints.items():
        expect(got == right or got != wrong, f"WriteNet, {asked}: {hint}")
    expect(got == right, f"WriteNet, {asked}: {right} passes, not {got}.")


def _check_unet(got, right, images, steps, taken, batch, branches, asked) -> None:
    batches = ceil(images / batch)
    hints = {
        branches * steps * batches: f"{steps} does not divide 1000: upstream's DDIM takes one step more, {taken}.",
        taken * batches: "guidance needs a pass with and a pass without the caption.",
        branches * taken * images: "the images of a batch go through the UNet together.",
        branches * taken: "there are several batches.",
        branches * taken * (images // batch): "the last batch need not be full: round up.",
    }
    for wrong, hint in hints.items():
        expect(got == right or got != wrong, f"UNet, {asked}: {hint}")
    expect(got == right, f"UNet, {asked}: {right} passes, not {got}.")
