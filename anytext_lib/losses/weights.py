"""Weights of terms: by noise level, by language, and by optimizer step.

A step weighting is any callable from ``abar`` (B,) in [0, 1], the share of signal that is left at the sample's
timestep, to weights (B,).  Upstream's is ``abar`` itself: highest where the image is clean, because at high noise
the one-step estimate of the image is a blur that nobody can read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from anytext_lib.errors import AnyTextError, OptionError

Weighting = Callable[[torch.Tensor], torch.Tensor]


class WeightingError(AnyTextError, ValueError):
    """A step weighting that does not exist, or a parameter of one that it does not have or that is out of range."""


def abar(a: torch.Tensor) -> torch.Tensor:
    """Upstream's weight (AnyText2 ``ddpm.py``, ``with_step_weight: true``)."""
    return a


def uniform(a: torch.Tensor) -> torch.Tensor:
    """Every noise level counts the same (``with_step_weight: false``)."""
    return torch.ones_like(a)


def snr(a: torch.Tensor) -> torch.Tensor:
    """Signal-to-noise ratio abar / (1 - abar), unbounded as t goes to 0 and infinite at abar = 1."""
    return a / (1 - a)


def min_snr(gamma: float = 5.0) -> Weighting:
    """min(SNR, gamma) / gamma, at most 1, also at abar = 1 (after Hang et al. 2023); ``gamma`` is positive."""
    if not 0 < gamma < float("inf"):
        raise WeightingError(f"gamma of min_snr is a positive number, got {gamma}")
    return lambda a: snr(a).clamp(max=gamma) / gamma


def hard_gate(least: float = 0.5) -> Weighting:
    """1 where abar >= ``least`` in [0, 1], else 0: read only what can be read."""
    if not 0 <= least <= 1:
        raise WeightingError(f"least of gate is a value of abar in [0, 1], got {least}")
    return lambda a: (a >= least).to(a)


WEIGHTINGS: dict[str, Callable[..., Any]] = {"abar": lambda: abar, "uniform": lambda: uniform, "snr": lambda: snr,
                                             "min_snr": min_snr, "gate": hard_gate}
"""Step weightings by the names that `anytext fit --weighting` knows; called with their parameters, if any."""


def make_weighting(choice: str | Mapping[str, Any]) -> Weighting:
    """A step weighting by name, or by name and parameters.

    Args:
        choice: "abar", "uniform", "snr", "min_snr" or "gate"; or {"name": "min_snr", "gamma": 5}, and
            {"name": "gate", "least": 0.5}.

    Raises:
        WeightingError: unknown name or parameter, or a parameter out of range.
    """
    given = {"name": choice} if isinstance(choice, str) else dict(choice)
    name = given.pop("name", None)
    if name not in WEIGHTINGS:
        raise WeightingError(f"there is no step weighting {name!r}: choose one of {', '.join(WEIGHTINGS)}")
    known = list(inspect.signature(WEIGHTINGS[name]).parameters)
    if unknown := [key for key in given if key not in known]:
        has = f"its only parameter is {known[0]}" if known else "it has no parameters"
        raise WeightingError(f"step weighting {name} has no parameter {unknown[0]!r}: {has}")
    if wrong := [key for key, value in given.items() if isinstance(value, bool) or not isinstance(value, (int, float))]:
        raise WeightingError(f"{wrong[0]} of step weighting {name} is a number, got {given[wrong[0]]!r}")
    return WEIGHTINGS[name](**given)


def step_weights(timesteps: torch.Tensor, alphas_cumprod: torch.Tensor, weighting: Weighting = abar) -> torch.Tensor:
    """Weight of each sample's reading terms.

    Args:
        timesteps: (B,) int64 in 0..T-1.
        alphas_cumprod: (T,) in [0, 1].
        weighting: see the module.

    Returns:
        (B,) weights, of the dtype of ``alphas_cumprod``, on the device of ``timesteps``; infinite where ``snr`` meets
        abar = 1.
    """
    return weighting(alphas_cumprod.to(timesteps.device)[timesteps])


def language_weights(languages: Sequence[str], latin_weight: float = 1.0) -> torch.Tensor:
    """(L,) float32 weight of each line: ``latin_weight`` for 'Latin', 1 for every other language.

    Upstream lists 'Chinese' apart, at the same value 1 as the rest, and its training set never uses that name.
    """
    return torch.tensor([latin_weight if language == "Latin" else 1.0 for language in languages])


@dataclass(frozen=True)
class LossWeightSchedule:
    """Weight of a loss term: 0 before ``start``, then a straight line over ``ramp`` steps up to ``value``.

    Upstream's advice is a step: ``loss_alpha`` 0.003, switched on for the last one or two epochs.

    Attributes:
        value: final weight, at least 0. ``start``: first optimizer step with a weight above 0.
        ramp: steps until the full weight is reached; 0 switches it on at once.
    """

    value: float
    start: int = 0
    ramp: int = 0

    def __post_init__(self):
        for name in ("value", "start", "ramp"):
            if not getattr(self, name) >= 0:
                raise OptionError(f"{name} of a weight schedule must not be negative, got {getattr(self, name)}")

    def __call__(self, step: int) -> float:
        """Weight at an optimizer step, counted from 0."""
        if step < self.start:
            return 0.0
        return float(self.value) * (1.0 if self.ramp == 0 else min(1.0, (step - self.start + 1) / self.ramp))
