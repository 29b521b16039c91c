"""Checks of notebook 16: where half of a weighting's pull lies, and the advantage of a picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from anytext_lib.course.checks import as_number, expect, expect_value, passed, result_of


def check_16_half_pull(function: Callable) -> None:
    """Exercise 1: `function(weights, lengths)` is the smallest t with half of the squared pull at or below it."""
    rng = np.random.default_rng(16)
    probes = [(np.linspace(1, 0, 40), np.linspace(1, 30, 40)), (rng.random(25), rng.random(25)),
              (np.array([0.0, 0, 1, 1]), np.ones(4)), (np.ones(30), np.r_[10.0, np.ones(29)])]
    found = []
    for weights, lengths in probes:
        got = result_of("half_pull", function, weights.copy(), lengths.copy())
        got = as_number(got, "what half_pull returns")
        expect(got == int(got), f"Return a timestep, a whole number; you return {got:g}.")
        found.append(int(got))
    right = [_half((weights * lengths) ** 2) for weights, lengths in probes]
    for hint, wrong in _WRONG_HALVES.items():
        expect(found == right or found != [wrong(*probe) for probe in probes], hint)
    for (weights, lengths), got, wanted in zip(probes, found, right, strict=True):
        expect(got == wanted, f"For weights {np.round(weights[:4], 2).tolist()}... and lengths "
                              f"{np.round(lengths[:4], 2).tolist()}... the answer is {wanted}, yours is {got}.")
    passed("weights and gradients together say where a reader is heard")


def _half(pull: np.ndarray) -> int:
    return int(np.argmax(pull.cumsum() >= pull.sum() / 2))


_WRONG_HALVES: dict[str, Callable[[np.ndarray, np.ndarray], int]] = {
    "Square the pull: the length of a sum of unrelated gradients grows with the squares.": lambda w, g: _half(w * g),
    "The lengths of the gradients are missing.": lambda w, g: _half(w**2),
    "The weights are missing.": lambda w, g: _half(g**2),
    "One too many: t itself belongs to the timesteps 0..t.": lambda w, g: _half((w * g) ** 2) + 1,
    "This is where the pull is largest, not where half of it lies.": lambda w, g: int(np.argmax(w * g)),
    "Count from t = 0 upwards.": lambda w, g: len(w) - 1 - _half(((w * g) ** 2)[::-1]),
}
"""What a typical wrong answer gives, by the hint for it."""


def check_16_advantages(function: Callable) -> None:
    """Exercise 2: `function(rewards)` is each reward against the others of its scene, in standard deviations."""
    for rows in ([[0.0, 1.0, 0.5], [0.2, 0.3, 0.9]], [[0.5, 0.5, 0.5, 0.5], [0.1, 0.0, 0.0, 1.0]]):
        rewards = torch.tensor(rows)
        got = result_of("advantages", function, rewards.clone())
        expect(isinstance(got, torch.Tensor) and got.shape == rewards.shape,
               "Return a tensor (P, K): an advantage for every picture.")
        expect(torch.isfinite(got).all(), "Equal rewards have a standard deviation of 0: add 0.0001 before you divide.")
        right = _advantages(rewards)
        expect_value(got, right, _wrong_advantages(rewards), f"For {rows} expected "
                     f"{np.round(right.numpy(), 3).tolist()}, got {np.round(got.detach().numpy(), 3).tolist()}.",
                     1e-3, 1e-3)
    passed("a picture is praised for being better than its siblings, not for an easy word")


def _advantages(rewards: torch.Tensor) -> torch.Tensor:
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True, unbiased=False) + 1e-4)


def _wrong_advantages(rewards: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a typical wrong answer gives, by the hint for it."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    spread = rewards.std(dim=1, keepdim=True, unbiased=False) + 1e-4
    return {
        "The mean is that of the *scene*, not of all pictures: an easy word would be praised for being easy.":
            (rewards - rewards.mean()) / (rewards.std(unbiased=False) + 1e-4),
        "The mean of the scene is right, but divide by the standard deviation of the scene as well.":
            centred / (rewards.std(unbiased=False) + 1e-4),
        "Divide by the standard deviation.": centred,
        "The mean is missing: without it every picture with any reward is praised.": rewards / spread,
        "Population form: unbiased=False.": centred / (rewards.std(dim=1, keepdim=True) + 1e-4),
        "Rows are scenes: the mean goes over dim 1.":
            (rewards - rewards.mean(0)) / (rewards.std(0, unbiased=False) + 1e-4),
        "The sign is swapped: a high reward is praised.": -centred / spread,
        "Divide by the standard deviation, not by the variance.": centred / (spread**2 + 1e-4),
    }
