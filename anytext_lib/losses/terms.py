"""What the objective returns: the scalars to train on and to log, and the values of each sample and line."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class SampleValues:
    """Values of each sample, all (B,): ``loss = simple + ocr + ctc``; ocr and ctc are weighted."""

    loss: torch.Tensor
    simple: torch.Tensor
    ocr: torch.Tensor
    ctc: torch.Tensor
    step_weight: torch.Tensor


@dataclass(frozen=True)
class LineValues:
    """Values of each line that was read, all (K,): ``ocr`` and ``ctc`` before any weight, None where not computed.

    ``rows`` are the indices of these lines among the lines given, ``too_long`` the rows that CTC cannot fit.
    """

    rows: list[int]
    image_index: torch.Tensor
    language_weight: torch.Tensor
    ocr: torch.Tensor | None
    ctc: torch.Tensor | None
    too_long: list[int]


@dataclass(frozen=True)
class ObjectiveTerms:
    """Result of one evaluation of the objective.

    ``loss``, ``simple``, ``ocr`` and ``ctc`` are scalars, means over the batch; ``ocr`` and ``ctc`` include alpha or
    beta, the step weight and the language weight, as upstream logs them.  ``loss`` carries the gradient.
    """

    samples: SampleValues
    lines: LineValues
    skipped_lines: int

    @property
    def loss(self) -> torch.Tensor:
        return self.samples.loss.mean()

    @property
    def simple(self) -> torch.Tensor:
        return self.samples.simple.mean()

    @property
    def ocr(self) -> torch.Tensor:
        return self.samples.ocr.mean()

    @property
    def ctc(self) -> torch.Tensor:
        return self.samples.ctc.mean()

    @property
    def too_long(self) -> int:
        """Number of lines whose text needs more frames than the recogniser has."""
        return len(self.lines.too_long)

    def log(self, prefix: str) -> dict[str, torch.Tensor]:
        """Detached scalars under upstream's keys: {prefix}/sim, /ocr, /ctc, /loss; prefix "t" or "v"."""
        named = {"sim": self.simple, "ocr": self.ocr, "ctc": self.ctc, "loss": self.loss}
        return {f"{prefix}/{key}": value.detach() for key, value in named.items()}
