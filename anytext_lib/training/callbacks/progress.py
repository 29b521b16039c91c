"""Progress: plain lines of text for a log file or a saved page, a bar for a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar

from anytext_lib.training.callbacks.steps import EverySteps

IN_BAR = ("t/loss", "v/sim")
SHOWN = ("t/loss", "t/sim", "t/ocr_raw", "v/sim", "v/ned", "t/samples_per_s")


class ProgressLines(pl.Callback):
    """Prints a line every so many optimizer steps.

    Args:
        every: optimizer steps between two lines; 0 takes a fiftieth of the run, and 20 where its length is unknown, and
            prints none where a bar shows the same.
    """

    def __init__(self, every: int = 0):
        self.every = every

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        total = trainer.estimated_stepping_batches
        self.total = int(total) if total != float("inf") else None
        self.steps = EverySteps(self.every or (max(1, self.total // 50) if self.total else 20), trainer)
        self.first, self.since = trainer.global_step, time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        if not self.every and trainer.progress_bar_callback is not None:
            return
        if self.steps.due(trainer) and trainer.is_global_zero:
            print(self._line(trainer), flush=True)

    def _line(self, trainer: pl.Trainer) -> str:
        step = trainer.global_step
        pace = (time.perf_counter() - self.since) / max(1, step - self.first)
        of = f"/{self.total}" if self.total else ""
        left = f", {pace * (self.total - step) / 60:.1f} min left" if self.total else ""
        values = [f"{key} {value}" for key, value in shown(trainer).items()]
        return f"step {step}{of}, epoch {trainer.current_epoch}: {', '.join(values)} ({pace:.2f} s a step{left})"


class ProgressBar(RichProgressBar):
    """Lightning's, with the figures of ``IN_BAR``, and without a number of epochs where there is none."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, str]:
        """The figures at the end of the bar."""
        return shown(trainer, IN_BAR)

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        return f"Epoch {current_epoch}" + (f"/{last - 1}" if last is not None and last > 0 else "")


def shown(trainer: pl.Trainer, keys: Iterable[str] = SHOWN) -> dict[str, str]:
    """The figures among ``keys`` that have been logged."""
    found = trainer.callback_metrics
    return {key: f"{float(found[key]):.4g}" for key in keys if key in found}
