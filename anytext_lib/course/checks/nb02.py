"""Checks of the exercises of notebook 02."""

from __future__ import annotations

from collections.abc import Callable

import torch

from anytext_lib.course.checks import expect, expect_int, expect_tensor, expect_value, passed, result_of


def check_02_eps_from_v(function: Callable) -> None:
    """`function(v, x_t, a)` gives eps (B, C, H, W); probed with a batch of two noise levels."""
    generator = torch.Generator().manual_seed(20)
    x0, eps = torch.randn(2, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
    a = torch.tensor([0.9, 0.2], dtype=torch.float64)
    c, s = a.sqrt().reshape(-1, 1, 1, 1), (1 - a).sqrt().reshape(-1, 1, 1, 1)
    x_t, v = c * x0 + s * eps, c * eps - s * x0
    reshape = ("a has shape (B,), the pictures (B, C, H, W): reshape a to (B, 1, 1, 1), so that every picture of the "
               "batch gets its own noise level.")
    got = result_of("eps_from_v", function, v, x_t, a, hints={"must match": reshape})
    expect_tensor(got, x_t.shape, "eps has the shape of x_t.")
    mistakes = {
        "This has the sign of the wrong direction. Insert x_t and v: which sign lets x0 cancel?": c * v - s * x_t,
        "This is x0, not eps: the two components have changed places.": c * x_t - s * v,
        "Sine and cosine have changed places: v is eps at t = 0, where abar = 1, so abar goes with v.": s * v + c * x_t,
        "Mind the square roots: abar is a share of the power, sqrt(abar) of the amplitude.": c**2 * v + s**2 * x_t,
        "A factor is left over: nothing needs to be divided, because cos^2 + sin^2 = 1.": (v + s * x_t) / c,
    }
    expect_value(got, eps, mistakes, "This is not eps. Turn x_t and v back by the angle: eps = (something) v + "
                                     "(something) x_t, and x0 must cancel.")
    passed("eps = sqrt(abar) v + sqrt(1 - abar) x_t, for every picture at its own noise level")


def check_02_last_readable(function: Callable) -> None:
    """`function(alphas_cumprod, eps_error, x0_error)` gives an int; probed with two schedules."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    diffusers = torch.cumprod(1 - betas, dim=0)
    other = torch.cos(torch.linspace(0.05, 1.5, 600, dtype=torch.float64)) ** 2
    doubt = False  # a wrong answer that fits several mistakes: the next probe tells them apart
    for abar, eps_error, x0_error in ((diffusers, 0.05, 0.2), (diffusers, 0.2, 0.1), (diffusers, 0.1, 0.1),
                                      (other, 0.1, 0.1)):
        got = result_of("last_readable", function, abar, eps_error, x0_error)
        expect_int(got, "one timestep")
        right = _last(((1 - abar) / abar).sqrt() * eps_error <= x0_error)
        at_home = _last(((1 - diffusers) / diffusers).sqrt() * eps_error <= x0_error)
        expect(got != at_home or got == right, "Right for Stable Diffusion's schedule, whatever schedule is given: use "
                                               "the argument `alphas_cumprod`, which may be another one.")
        expect(got != right + 1, "One too far: at the timestep that you return, the error is already too large. Is "
                                 "the number of good timesteps the same as the last of them?")
        fitting = [hint for hint, good in _mistakes(abar, eps_error, x0_error).items() if got == _last(good) != right]
        expect(len(fitting) != 1, "".join(fitting))
        doubt = doubt or len(fitting) > 1
        expect(got == right or doubt, f"For eps_error {eps_error} and x0_error {x0_error} you return {got}. Compute "
                                      f"the error of x0 at all {len(abar)} timesteps first, then look for the last "
                                      "one within bounds.")
    expect(not doubt, "For eps_error = 0.05 and x0_error = 0.2 not every timestep is within bounds.")
    passed("the reader may look as far as sqrt((1 - abar) / abar) eps_error allows: at equal errors up to t = 353")


def _mistakes(abar: torch.Tensor, eps_error: float, x0_error: float) -> dict[str, torch.Tensor]:
    """Timesteps that a typical wrong formula calls good, by the hint for it."""
    return {
        "1/sqrt(abar) is only the limit at large t; the noise's share is missing: sqrt((1 - abar) / abar).":
            abar.rsqrt() * eps_error <= x0_error,
        "The errors are rms values, so the factor is an amplitude: take the square root of (1 - abar) / abar.":
            (1 - abar) / abar * eps_error <= x0_error,
        "This is the factor of a network that predicts v. For eps it is sqrt((1 - abar) / abar).":
            (1 - abar).sqrt() * eps_error <= x0_error,
        "The factor is upside down: an error of eps grows with t, as sqrt((1 - abar) / abar).":
            (abar / (1 - abar)).sqrt() * eps_error <= x0_error,
    }


def _last(good: torch.Tensor) -> int:
    """Index of the last True, -1 if there is none."""
    rows = good.nonzero()
    return int(rows.max()) if len(rows) else -1
