"""DB's probability map as a term of AnyText2's objective: more weight where a detector sees the core of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from anytext_lib.db.dbnet import DBNet, load_network
from anytext_lib.losses.step import Step
from anytext_lib.losses.terms import region_loss

Rows = Callable[[torch.Tensor, Callable[[Sequence[int]], torch.Tensor]], torch.Tensor]


class Detected:
    """(B,) mean of P (1 - m) times the squared error, with P the probability map of the true picture.

    `anytext fit --terms '[{name: anytext_lib.db.detected.Detected, detector: detector.safetensors, weight: 4}]'`.

    Args:
        detector: a DB network, or a file of one. ``keep``: (images, compute) -> maps, which calls ``compute(rows)`` for
            the pictures that it does not know; by default all are looked at every time.
    """

    def __init__(self, detector: DBNet | str | Path, keep: Rows | None = None):
        self.network = (detector if isinstance(detector, DBNet) else load_network(Path(detector))).eval()
        self.keep = keep or (lambda images, compute: compute(list(range(len(images)))))

    @torch.no_grad()
    def probability(self, images: torch.Tensor) -> torch.Tensor:
        """P (B, 1, H, W) in [0, 1] of images (B, 3, H, W)."""
        look = self.network.to(images.device).probability
        return self.keep(images, lambda rows: look(images[rows]))

    def __call__(self, step: Step) -> torch.Tensor:
        return region_loss(step.output, step.target, self.probability(step.batch.images), step.batch.invalid_mask)
