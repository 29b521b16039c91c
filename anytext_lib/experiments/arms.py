"""What an experiment compares: arms, each a list of terms; and the arms and sizes of the one about the OCR losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anytext_lib.losses.terms import Term, ctc, ocr, region, simple
from anytext_lib.losses.weights import abar, uniform

Measured = Mapping[str, Any]
"""What was measured at the start: lengths of gradients, seconds, and the weights that follow; see ``calibrate``."""

SIMPLE = Term("simple", simple)


@dataclass(frozen=True)
class Arm:
    """One way to fine-tune.

    Attributes:
        name: in the tables. ``label``: in figures.
        terms: (profile, measured) -> what is trained with.
        steps: (profile, measured) -> number of optimizer steps; by default the profile's.
        watched: read by a third judge as well, and pictures are kept.
    """

    name: str
    label: str
    terms: Callable[[Any, Measured], list[Term]]
    steps: Callable[[Any, Measured], int] = lambda profile, measured: profile.steps
    watched: bool = False


def find_arm(arms: Sequence[Arm], name: str) -> Arm:
    """The arm of a name."""
    return next(arm for arm in arms if arm.name == name)


def weights_row(terms: Sequence[Term]) -> dict[str, float | bool]:
    """The weights of a list of terms, by the names that the options of training have."""
    by_name = {term.name: term for term in terms}
    weight = {name: float(by_name[name].weight_at(None)) if name in by_name else 0.0
              for name in ("ocr", "ctc", "region")}
    plain = "ocr" in by_name and by_name["ocr"].weighting is uniform
    return {"loss_alpha": weight["ocr"], "loss_beta": weight["ctc"], "with_step_weight": not plain,
            "region_weight": 1 + weight["region"]}


ARMS = (
    Arm("simple", "no reading loss", lambda p, m: [SIMPLE]),
    Arm("simple_time", "no reading loss, equal time", lambda p, m: [SIMPLE], steps=lambda p, m: m["time_steps"]),
    Arm("ocr", "OCR loss", lambda p, m: [SIMPLE, Term("ocr", ocr, p.loss_alpha, abar)]),
    Arm("ocr_ctc", "OCR + CTC loss", lambda p, m: [SIMPLE, Term("ocr", ocr, p.loss_alpha, abar),
                                                   Term("ctc", ctc, p.loss_beta, abar)]),
    Arm("ocr_no_step", "OCR loss without step weight",
        lambda p, m: [SIMPLE, Term("ocr", ocr, m["no_step_alpha"], uniform)]),
    Arm("region", "region-weighted loss", lambda p, m: [SIMPLE, Term("region", region, m["region_weight"] - 1)]),
)
"""``measured``: no_step_alpha and region_weight give gradients as long as the arm "ocr" has, time_steps its time."""


@dataclass(frozen=True)
class Profile:
    """Sizes of the experiment.

    Attributes:
        seeds: paired repetitions. ``steps``, ``batch``: of fine-tuning. ``scenes``: to fine-tune on.
        words: held-out scenes that are written and read. ``probes``: scenes whose losses are followed.
        probe_times: timesteps of the probes. ``probe_every``: steps between them.
        loss_alpha, loss_beta: weights of the arms with reading losses.
        learning_rate: peak of one cycle. ``calibration``: batches on which gradients are compared.
        sampling_steps, guidance: of DDIM. ``judges``: who reads; the training recogniser always does as well.
        starts: folders in data_samples/mini, by the name of the starting point.
    """

    seeds: int = 5
    steps: int = 30
    batch: int = 8
    scenes: int = 320
    words: int = 40
    probes: int = 8
    probe_times: tuple[int, ...] = (300, 500, 700)
    probe_every: int = 10
    loss_alpha: float = 1.5
    loss_beta: float = 0.1
    learning_rate: float = 5e-4
    calibration: int = 6
    sampling_steps: int = 20
    guidance: float = 1.0
    judges: tuple[str, ...] = ("ppocrv4",)
    starts: tuple[tuple[str, str], ...] = (("under-trained", "early"), ("converged", "before"))


PROFILES = {
    "default": Profile(),
    "quick": Profile(seeds=2, steps=4, scenes=32, words=4, probes=2, probe_times=(500,), probe_every=4, calibration=1,
                     sampling_steps=4),
    "gpu": Profile(seeds=10, steps=400, batch=32, scenes=12800, words=512, probes=128, probe_every=40, calibration=16),
}
