"""The trials of notebook 16: weightings of timesteps, features, regions, and a loss that only pleases its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from anytext_lib.experiments.arms import SIMPLE, Arm, Measured
from anytext_lib.experiments.objectives import Sizes
from anytext_lib.losses import Term, Weighting, abar, hard_gate, min_snr, snr
from anytext_lib.losses.terms import ctc, ocr, region

WEIGHTINGS: dict[str, Weighting] = {"abar": abar, "snr": snr, "min_snr": min_snr(5.0), "gate": hard_gate(0.5)}


STAGES = ("block3", "block7", "block11", "neck")
"""Layers of the recogniser, from strokes to the line."""


def reading(weighting: str, layered: bool = False) -> Callable[[Any, Measured], list[Term]]:
    """The diffusion loss and the OCR loss with a weighting, on the neck of the recogniser or on ``STAGES``."""
    def terms(profile, measured: Measured) -> list[Term]:
        if layered:
            layers = partial(ocr, layers=STAGES, mean_squares=measured["mean_squares"])
            return [SIMPLE, Term("ocr", layers, measured["alphas"]["multi"], WEIGHTINGS[weighting])]
        return [SIMPLE, Term("ocr", ocr, measured["alphas"][weighting], WEIGHTINGS[weighting])]
    return terms


def readers_alone(profile, measured: Measured) -> list[Term]:
    """OCR and CTC loss, and nothing that asks for the picture; the diffusion loss is only watched."""
    return [replace(SIMPLE, weight=0.0), Term("ocr", ocr, measured["alphas"]["abar"], abar),
            Term("ctc", ctc, profile.loss_beta, abar)]


TRIALS = (
    Arm("none", "no reading loss", lambda p, m: [SIMPLE], watched=True),
    Arm("abar", "OCR loss, abar", reading("abar"), watched=True),
    Arm("snr", "OCR loss, SNR", reading("snr")),
    Arm("min_snr", "OCR loss, min-SNR", reading("min_snr")),
    Arm("gate", "OCR loss, hard gate", reading("gate")),
    Arm("multi", "OCR loss, four stages", reading("abar", layered=True)),
    Arm("region_5", "region weight 5", lambda p, m: [SIMPLE, Term("region", region, 4.0)]),
    Arm("region_20", "region weight 20", lambda p, m: [SIMPLE, Term("region", region, 19.0)]),
    Arm("reader_only", "reading losses alone", readers_alone, watched=True),
    Arm("reader_long", "reading losses alone, 8x", readers_alone, lambda p, m: 8 * p.steps, watched=True),
)
"""``measured``: alphas by weighting, see ``matched_alphas``; mean_squares of the recogniser's layers on true lines."""


@dataclass(frozen=True)
class BeyondSizes(Sizes):
    """Sizes of the experiment; see ``Sizes``.

    Attributes:
        ladder: timesteps at which gradients are measured. ``pictures``: words kept as pictures.
        updates: policy updates of a reward run, each on ``groups`` scenes with ``per_scene`` samples of
            ``reward_steps`` DDIM steps with ``eta``, of which ``reward_trained`` are learnt from.
        reward_rate: learning rate of the policy.
    """

    seeds: int = 3
    steps: int = 20
    scenes: int = 160
    words: int = 32
    sampling_steps: int = 10
    probes: int = 6
    probe_times: tuple[int, ...] = (500,)
    probe_every: int = 20
    ladder: tuple[int, ...] = (0, 10, 50, 150, 250, 350, 450, 550, 650, 800, 950)
    pictures: int = 4
    updates: int = 10
    groups: int = 4
    per_scene: int = 4
    reward_steps: int = 6
    reward_trained: int = 6
    eta: float = 1.0
    reward_rate: float = 2e-4


PROFILES = {
    "default": BeyondSizes(),
    "quick": BeyondSizes(seeds=2, steps=3, batch=4, scenes=24, words=4, probes=2, probe_every=3, sampling_steps=4,
                         ladder=(0, 100, 500, 900), pictures=2, updates=2, groups=2, per_scene=2, reward_steps=3,
                         reward_trained=3),
    "gpu": BeyondSizes(seeds=10, steps=400, batch=32, scenes=12800, words=512, probes=128, probe_every=400,
                       sampling_steps=20, updates=300, groups=16, per_scene=8, reward_steps=20, reward_trained=20),
}


def root_mean_square(weights: np.ndarray, times: Sequence[int], lengths: Sequence[float]) -> float:
    """sqrt(mean over all timesteps of (w_t G_t)^2), with G interpolated (its logarithm, linearly) between ``times``.

    Args:
        weights: (T,) w_t of every timestep. ``lengths``: of the unweighted term's gradient at ``times``, ascending.
    """
    every = np.exp(np.interp(np.arange(len(weights)), times, np.log(np.maximum(lengths, 1e-12))))
    return float(np.sqrt(np.mean((weights * every) ** 2)))


def matched_alphas(alphas_cumprod: torch.Tensor, ladder: Sequence[Mapping[str, float]],
                   alpha: float) -> dict[str, float]:
    """The weight of each weighting, and of "multi", with which its gradient is on average as long as that of ``alpha``
    times abar's.

    Args:
        ladder: rows with t, neck and multi: lengths of the unweighted terms' gradients.
    """
    times = [row["t"] for row in ladder]
    curves = {name: [row[name] for row in ladder] for name in ("neck", "multi")}
    weights = {name: weighting(alphas_cumprod.double().cpu()).numpy() for name, weighting in WEIGHTINGS.items()}
    target = alpha * root_mean_square(weights["abar"], times, curves["neck"])
    found = {name: target / root_mean_square(w, times, curves["neck"]) for name, w in weights.items()}
    return found | {"multi": target / root_mean_square(weights["abar"], times, curves["multi"])}
