"""When a callback measures: every so many steps with the average of the weights, and always in `anytext validate`."""

from __future__ import annotations

import lightning.pytorch as pl

from anytext_lib.training.callbacks.ema import averaged_weights
from anytext_lib.training.callbacks.steps import EverySteps


class Measurement(pl.Callback):
    """Logs what ``measure(trainer, module)`` of a subclass returns, figures by name.

    Args:
        every: optimizer steps between two measurements; 0 never during training.
    """

    def __init__(self, every: int = 0):
        self.every = every

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begin to count."""
        self.due = EverySteps(self.every, trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        """Measure if it is time."""
        if self.due.due(trainer) and trainer.is_global_zero:
            with averaged_weights(trainer, module):
                module.log_dict(self.measure(trainer, module), batch_size=1)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Measure where nothing is trained."""
        if trainer.state.fn == "validate" and trainer.is_global_zero:
            module.log_dict(self.measure(trainer, module), batch_size=1, rank_zero_only=True)
