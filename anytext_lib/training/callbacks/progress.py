"""Progress as plain lines of text: what a log file or a saved page can show."""

from __future__ import annotations

import time

import lightning.pytorch as pl

from anytext_lib.training.callbacks.steps import EverySteps

SHOWN = ("t/loss", "t/sim", "t/ocr_raw", "v/sim", "v/ned", "t/samples_per_s")


class ProgressLines(pl.Callback):
    """Prints a line every so many optimizer steps, and when validation ends.

    Args:
        every: optimizer steps between two lines; 0 takes a fiftieth of the run, and 20 where its length is unknown.
    """

    def __init__(self, every: int = 0):
        self.every = every

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        total = trainer.estimated_stepping_batches
        self.total = int(total) if total != float("inf") else None
        self.steps = EverySteps(self.every or (max(1, self.total // 50) if self.total else 20), trainer)
        self.first, self.since = trainer.global_step, time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        if self.steps.due(trainer) and trainer.is_global_zero:
            print(self._line(trainer), flush=True)

    def _line(self, trainer: pl.Trainer) -> str:
        step = trainer.global_step
        pace = (time.perf_counter() - self.since) / max(1, step - self.first)
        of = f"/{self.total}" if self.total else ""
        left = f", {pace * (self.total - step) / 60:.1f} min left" if self.total else ""
        values = [f"{key} {float(trainer.callback_metrics[key]):.4g}" for key in SHOWN
                  if key in trainer.callback_metrics]
        return f"step {step}{of}, epoch {trainer.current_epoch}: {', '.join(values)} ({pace:.2f} s a step{left})"
