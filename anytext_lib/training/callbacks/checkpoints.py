"""Checkpoints step=N.ckpt: every so many steps or epochs, the newest ones kept, and one when asked to stop."""

from __future__ import annotations

import signal
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from anytext_lib.errors import OptionError
from anytext_lib.training.callbacks.interruption import Interrupted, StopRequest
from anytext_lib.training.callbacks.steps import EverySteps
from anytext_lib.training.storage import checkpoints_in, remove_partial


class Checkpoints(Checkpoint):
    """Saves the whole state of the run in ``RUN/checkpoints``.

    A file appears under its name only when it is complete, and an older one is deleted only after that.  At SIGTERM
    or Ctrl-C the optimizer step is finished and saved, and ``Interrupted`` ends the run.

    Args:
        save_steps: every so many optimizer steps; 0 never.
        save_epochs: every so many epochs; 0 never.
        save_ckpt_top: number of checkpoints to keep, the newest ones; -1 keeps all.
        save_last: save the end of the run as well.
    """

    def __init__(self, save_steps: int = 0, save_epochs: int = 1, save_ckpt_top: int = 3, save_last: bool = True):
        if save_ckpt_top == 0 or save_ckpt_top < -1:
            raise OptionError(f"save_ckpt_top is the number of checkpoints to keep, or -1 for all, got {save_ckpt_top}")
        self.save_steps, self.save_epochs, self.save_last = save_steps, save_epochs, save_last
        self.save_ckpt_top = save_ckpt_top
        self.request = StopRequest()
        self.saved: Path | None = None

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        self.folder = Path(trainer.default_root_dir) / "checkpoints"
        if trainer.is_global_zero and self.folder.is_dir():
            remove_partial(self.folder)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Listen for signals from now on."""
        self.request.listen()
        self.any_step = EverySteps(1, trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        """Save if it is time, or if a signal asked to stop, and then stop."""
        if not self.any_step.due(trainer):
            return
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if self.request.agreed(trainer):
            self.save(trainer)
            raise Interrupted(f"stopped by a signal after step {trainer.global_step}; the state is in {self.saved}. "
                              "Go on with the same command and --ckpt_path last",
                              self.request.received or signal.SIGTERM)
        if self.save_steps and trainer.global_step % self.save_steps == 0 and not (last and self._epoch_due(trainer)):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._epoch_due(trainer):
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.save_last and (self.saved is None or self.saved != self._path(trainer)):
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> Path:
        """Save now and delete what is too old; all processes take part.

        Raises:
            RunStateError: the disk does not take it.
        """
        path = self._path(trainer)
        trainer.save_checkpoint(path, weights_only=False)  # optimizer and loops too
        self.saved = path
        if trainer.is_global_zero and self.save_ckpt_top > 0:
            newest = sorted(checkpoints_in(self.folder), key=lambda file: file.stat().st_mtime_ns)
            for old in newest[: -self.save_ckpt_top]:
                old.unlink()
        rank_zero_info(f"saved {path}")
        return path

    def _epoch_due(self, trainer: pl.Trainer) -> bool:
        return self.save_epochs > 0 and (trainer.current_epoch + 1) % self.save_epochs == 0

    def _path(self, trainer: pl.Trainer) -> Path:
        return self.folder / f"step={trainer.global_step:07d}.ckpt"
