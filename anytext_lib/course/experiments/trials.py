"""The trials of notebook 16: weightings of timesteps, features, regions, and a loss that only pleases its reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from anytext_lib.course.experiments.objectives import Sizes
from anytext_lib.losses import Weighting, abar, hard_gate, min_snr, snr

WEIGHTINGS: dict[str, Weighting] = {"abar": abar, "snr": snr, "min_snr": min_snr(5.0), "gate": hard_gate(0.5)}


@dataclass(frozen=True)
class Trial:
    """One way to fine-tune.

    Attributes:
        name: in the tables. ``label``: in figures.
        weighting: of the OCR loss, a name in WEIGHTINGS; "" for no OCR loss.
        features: "neck", or "multi" for several stages of the recogniser.
        region: weight of the diffusion loss inside the text; 1 is the plain loss.
        diffusion: False leaves only the reading losses (OCR and CTC).
        watched: read by a third judge as well, and pictures are kept.
        longer: how many times the profile's steps.
    """

    name: str
    label: str
    weighting: str = ""
    features: str = "neck"
    region: float = 1.0
    diffusion: bool = True
    watched: bool = False
    longer: int = 1


TRIALS = (
    Trial("none", "no reading loss", watched=True),
    Trial("abar", "OCR loss, abar", "abar", watched=True),
    Trial("snr", "OCR loss, SNR", "snr"),
    Trial("min_snr", "OCR loss, min-SNR", "min_snr"),
    Trial("gate", "OCR loss, hard gate", "gate"),
    Trial("multi", "OCR loss, four stages", "abar", "multi"),
    Trial("region_5", "region weight 5", region=5.0),
    Trial("region_20", "region weight 20", region=20.0),
    Trial("reader_only", "reading losses alone", "abar", diffusion=False, watched=True),
    Trial("reader_long", "reading losses alone, 8x", "abar", diffusion=False, watched=True, longer=8),
)


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
