"""Weights of the reader's terms: by noise level, and by language.

A step weighting is any callable from ``abar`` (B,) in (0, 1], the share of signal that is left at the sample's
timestep, to weights (B,).  Upstream's is ``abar`` itself: highest where the image is clean, because at high noise
the one-step estimate of the image is a blur that nobody can read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Weighting = Callable[[torch.Tensor], torch.Tensor]


def abar(a: torch.Tensor) -> torch.Tensor:
    """Upstream's weight (AnyText2 ``ddpm.py``, ``with_step_weight: true``)."""
    return a


def uniform(a: torch.Tensor) -> torch.Tensor:
    """Every noise level counts the same (``with_step_weight: false``)."""
    return torch.ones_like(a)


def snr(a: torch.Tensor) -> torch.Tensor:
    """Signal-to-noise ratio abar / (1 - abar), unbounded as t goes to 0."""
    return a / (1 - a)


def min_snr(gamma: float = 5.0) -> Weighting:
    """min(SNR, gamma) / gamma, at most 1 (after Hang et al. 2023)."""
    return lambda a: snr(a).clamp(max=gamma) / gamma


def hard_gate(least: float = 0.5) -> Weighting:
    """1 where abar >= ``least``, else 0: read only what can be read."""
    return lambda a: (a >= least).to(a)


def step_weights(timesteps: torch.Tensor, alphas_cumprod: torch.Tensor, weighting: Weighting = abar) -> torch.Tensor:
    """Weight of each sample's reading terms.

    Args:
        timesteps: (B,) int64 in 0..T-1.
        alphas_cumprod: (T,) in (0, 1].
        weighting: see the module.

    Returns:
        (B,) weights, of the dtype of ``alphas_cumprod``, on the device of ``timesteps``.
    """
    return weighting(alphas_cumprod.to(timesteps.device)[timesteps])


def language_weights(languages: Sequence[str], latin_weight: float = 1.0) -> torch.Tensor:
    """(L,) float32 weight of each line: ``latin_weight`` for 'Latin', 1 for every other language.

    Upstream lists 'Chinese' apart, at the same value 1 as the rest, and its training set never uses that name.
    """
    return torch.tensor([latin_weight if language == "Latin" else 1.0 for language in languages])
