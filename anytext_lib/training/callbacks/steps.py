"""Counting optimizer steps: with accumulation, several batches make one."""

from __future__ import annotations

import lightning.pytorch as pl


class EverySteps:
    """Says once an optimizer step whether its number is a multiple of ``every``; 0 never.

    Made anew when training starts or is resumed, so that the step at which a run was saved does not count again.
    """

    def __init__(self, every: int, trainer: pl.Trainer):
        self.every, self.seen = every, trainer.global_step

    def due(self, trainer: pl.Trainer) -> bool:
        """To be asked after every batch."""
        step = trainer.global_step
        new, self.seen = step != self.seen, step
        return new and self.every > 0 and step % self.every == 0
