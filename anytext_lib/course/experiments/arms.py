"""The arms and the sizes of the experiment about the OCR losses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Arm:
    """One way to fine-tune.

    Attributes:
        name: in the tables. ``label``: in figures.
        reading: factors of the profile's loss_alpha and loss_beta.
        options: of ``AnyText2Training``.
        match: "" as it is; "gradient": its extra term is scaled until its gradient is on average as long as that of
            the arm "ocr"; "time": it may make as many steps as that arm's time allows.
    """

    name: str
    label: str
    reading: tuple[float, float] = (0.0, 0.0)
    options: dict[str, Any] = field(default_factory=dict)
    match: str = ""


ARMS = (
    Arm("simple", "no reading loss"),
    Arm("simple_time", "no reading loss, equal time", match="time"),
    Arm("ocr", "OCR loss", (1.0, 0.0)),
    Arm("ocr_ctc", "OCR + CTC loss", (1.0, 1.0)),
    Arm("ocr_no_step", "OCR loss without step weight", (1.0, 0.0), {"with_step_weight": False}, match="gradient"),
    Arm("region", "region-weighted loss", match="gradient"),
)


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
