r"""A reward on what a judge reads: policy gradients through the steps of a sampler, no gradient through the reader.

With eta > 0 each step of DDIM is a draw from a Gaussian, so a whole image is a sequence of decisions with

.. math:: \log p_\theta(x_{t'} | x_t) = -\frac{\lVert x_{t'} - \mu_\theta(x_t) \rVert^2}{2 \sigma_t^2} + const

and the expected reward has the gradient of E[A sum_t log p].  A is the advantage: the reward, less the mean reward of
other images for the same scene.  Source: Black et al. 2023 (DDPO); the groups are those of GRPO (Shao et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from anytext_lib.diffusion import ddim_levels, step_moments


class Decision(NamedTuple):
    """One step of the sampler: from ``x`` (B, C, h, w) at timestep ``t`` to ``drawn``; abar before and after it."""

    t: int
    x: torch.Tensor
    drawn: torch.Tensor
    abar: float
    abar_next: float


def log_probability(drawn: torch.Tensor, mean: torch.Tensor, sigma: float) -> torch.Tensor:
    """(B,) log density of what was drawn, without its constant, the mean over the elements (as in DDPO's code)."""
    return -((drawn - mean).square() / (2 * sigma**2)).flatten(1).mean(dim=1)


@torch.no_grad()
def sample_decisions(predict: Callable[[torch.Tensor, int], torch.Tensor], noise: torch.Tensor, abar: torch.Tensor,
                     steps: int, eta: float, generators: Sequence[torch.Generator],
                     prediction_type: str = "epsilon") -> tuple[torch.Tensor, list[Decision]]:
    """Latents and the decisions that led to them; the same numbers as ``generation.sampling.ddim_sample``.

    Args:
        predict: (x_t, t) -> the network's output. ``generators``: one a sample, on the CPU.

    Raises:
        ValueError: eta is not in (0, 1]: without noise there is nothing to decide.
    """
    if not 0 < eta <= 1:
        raise ValueError(f"eta lies in (0, 1], got {eta}: a step without noise has no log probability")
    x, made = noise, []
    for t, before, after in ddim_levels(abar, steps):
        mean, sigma = step_moments(predict(x, t), x, before, after, eta, prediction_type)
        fresh = torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators]).to(x)
        drawn = mean + sigma * fresh
        made.append(Decision(t, x, drawn, before, after))
        x = drawn
    return x, made


def group_advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Rewards (P, K) of K images for each of P scenes, each against the others of its scene, in standard deviations.

    A scene whose images all get the same reward teaches nothing: 0.
    """
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True, unbiased=False) + 1e-4)


def policy_loss(output: torch.Tensor, decision: Decision, advantages: torch.Tensor, eta: float,
                prediction_type: str = "epsilon") -> torch.Tensor:
    """Minus the mean over images of advantage (B,) times log probability of one decision."""
    mean, sigma = step_moments(output, decision.x, decision.abar, decision.abar_next, eta, prediction_type)
    return -(advantages.to(mean) * log_probability(decision.drawn, mean, sigma)).mean()
