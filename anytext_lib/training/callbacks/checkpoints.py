"""What a run keeps: checkpoints step=N.ckpt, one more when it is asked to stop, and the trained model at its end."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from safetensors import SafetensorError

from anytext_lib.adapters.low_rank import attached
from anytext_lib.errors import AnyTextError, OptionError
from anytext_lib.files import find_sample
from anytext_lib.training.callbacks.average import EverySteps, averaged_weights, takes_part
from anytext_lib.training.low_rank_run import export_low_rank
from anytext_lib.training.run_files import RunStateError, checkpoints_in, remove_partial, write_message

DEFAULTS_FILE = "generation.json"  # size, guidance and prompts that suit a model; the folder ``generation`` reads it


class Interrupted(AnyTextError):
    """The run was asked to stop, and its state was saved; the message says where and how to go on.

    ``exit_status`` is 128 + the signal, or + SIGTERM where another process was asked.
    """

    def __init__(self, message: str, number: int = signal.SIGTERM):
        super().__init__(message)
        self.exit_status = 128 + number


class StopRequest:
    """Remembers that SIGTERM or Ctrl-C asked the run to stop; the processes of a run agree on it."""

    received: int | None = None

    def listen(self) -> None:
        """Take the signals from now on, in place of Lightning, which would stop without saving."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._remember)

    def _remember(self, number: int, frame) -> None:
        self.received = number
        if number == signal.SIGINT:
            print("\nstopping after this step; press Ctrl-C again to stop at once", flush=True)
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def agreed(self, trainer: pl.Trainer) -> bool:
        """Whether any process was asked; to be called by all of them at the same step."""
        asked = self.received is not None
        return asked if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(asked, all=False)


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
        if self.save_last and self.saved != self._path(trainer):
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Save now and delete the oldest checkpoints; all processes take part.

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

    def _epoch_due(self, trainer: pl.Trainer) -> bool:
        return self.save_epochs > 0 and (trainer.current_epoch + 1) % self.save_epochs == 0

    def _path(self, trainer: pl.Trainer) -> Path:
        return self.folder / f"step={trainer.global_step:07d}.ckpt"


class ExportModel(pl.Callback):
    """Writes ``RUN/model`` with ``save_pretrained`` at the end of training; with the average if there is one.

    A run that trains low-rank weights leaves ``RUN/lora.safetensors`` instead, see ``low_rank_run.export_low_rank``.

    Defaults for generation go along from the folder that training started from, its ``capabilities`` excepted: what the
    model can do after more training is for its trainer to say.

    Args:
        at_steps: optimizer steps after which the model is written as well, to ``RUN/model_step=N``.
    """

    def __init__(self, at_steps: list[int] = []):  # noqa: B006
        self.at_steps = list(at_steps)
        self.written = -1

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_) -> None:
        step = trainer.global_step
        if step in self.at_steps and step != self.written and takes_part(trainer, module):
            self.written = step  # several batches can make one step
            self._write(trainer, module, f"model_step={step}")

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if takes_part(trainer, module):
            self._write(trainer, module, "model")

    def _write(self, trainer: pl.Trainer, module: pl.LightningModule, name: str) -> None:
        folder = Path(trainer.default_root_dir) / name
        with averaged_weights(trainer, module):
            updates = attached(module.model)
        if updates:
            export_low_rank(updates, folder.parent, name.replace("model", "lora"))
            return
        fresh = folder.with_name(f".{name}.partial")
        if trainer.is_global_zero:
            shutil.rmtree(fresh, ignore_errors=True)
        try:
            with averaged_weights(trainer, module):
                module.model.save_pretrained(fresh)
            if not trainer.is_global_zero:
                return
            _carry_defaults(module.hparams.get("model"), fresh)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(fresh, ignore_errors=True)
            raise RunStateError(write_message(folder, error, 0)) from error
        rank_zero_info(f"the trained model is in {folder}")


def _carry_defaults(started_from: str | None, folder: Path) -> None:
    source = find_sample(started_from) / DEFAULTS_FILE if isinstance(started_from, str) else None
    if source is not None and source.is_file():
        defaults = json.loads(source.read_text(encoding="utf-8"))
        defaults.pop("capabilities", None)
        (folder / DEFAULTS_FILE).write_text(json.dumps(defaults, indent=2) + "\n", encoding="utf-8")
