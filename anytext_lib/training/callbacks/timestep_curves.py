"""The losses of a run by timestep: means over bins of timesteps, every so many steps."""

from __future__ import annotations

import lightning.pytorch as pl
import torch

from anytext_lib.errors import OptionError
from anytext_lib.training.callbacks.average import EverySteps


class TimestepCurves(pl.Callback):
    """Logs t/sim/t000-099 and the like: means since the last log over the samples of a bin of timesteps.

    t/sim and t/ocr are what the terms add to the loss, all weights included; t/ocr_raw is the mean over the lines
    before any weight, as without bins; t/samples is the number of samples (of lines, where it is greater).  A bin
    without a sample has no mean.  A run that is resumed begins a new mean.

    Args:
        every: optimizer steps between two logs; 0 never.
        bins: number of bins of equal width.
    """

    def __init__(self, every: int = 20, bins: int = 10):
        if every < 0 or bins < 1:
            raise OptionError(f"every is at least 0 and bins at least 1, got {every} and {bins}")
        self.every, self.bins = every, bins
        self.sums: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.steps, self.sums = EverySteps(self.every, trainer), {}

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        """Add the batch; log if it is time."""
        if not self.every:
            return
        count = len(module.model.alphas_cumprod)
        for key, (timesteps, values) in module.last_parts.items():
            rows = (timesteps * self.bins // count).long().to(values.device, non_blocking=True)
            total = self.sums.setdefault(key, torch.zeros(2, self.bins, device=values.device))
            total.index_add_(1, rows, torch.stack([values.to(total), torch.ones_like(values).to(total)]))
        if self.steps.due(trainer):
            self._log(trainer, count)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log what is left."""
        if self.sums:
            self._log(trainer, len(module.model.alphas_cumprod))

    def _log(self, trainer: pl.Trainer, count: int) -> None:
        found, most = {}, [0.0] * self.bins
        for key, own in sorted(self.sums.items()):  # in one order in all processes
            sums, numbers = trainer.strategy.reduce(own, reduce_op="sum").tolist()
            found |= {f"t/{key}/{bin_name(i, self.bins, count)}": total / number
                      for i, (total, number) in enumerate(zip(sums, numbers, strict=True)) if number}
            most = list(map(max, most, numbers))
        found |= {f"t/samples/{bin_name(i, self.bins, count)}": number for i, number in enumerate(most)}
        for logger in trainer.loggers:
            logger.log_metrics(found, step=trainer.global_step)
        self.sums = {}


def bin_name(index: int, bins: int, count: int) -> str:
    """Name of a bin of ``count`` timesteps, its first and last one: t000-099."""
    first, last = -(-index * count // bins), -(-(index + 1) * count // bins) - 1
    return f"t{first:03d}-{last:03d}"
