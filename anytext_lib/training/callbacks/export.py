"""The trained model as a folder of its own, for generation and for further training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_only
from safetensors import SafetensorError

from anytext_lib.files import find_sample
from anytext_lib.training.callbacks.ema import averaged_weights
from anytext_lib.training.storage import RunStateError, write_message

DEFAULTS_FILE = "generation.json"  # size, guidance and prompts that suit a model; the folder ``generation`` reads it


class ExportModel(pl.Callback):
    """Writes ``RUN/model`` with ``save_pretrained`` at the end of training; with the average if there is one.

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
        if step in self.at_steps and step != self.written:
            self.written = step  # several batches can make one step
            self._write(trainer, module, f"model_step={step}")

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._write(trainer, module, "model")

    @rank_zero_only
    def _write(self, trainer: pl.Trainer, module: pl.LightningModule, name: str) -> None:
        folder = Path(trainer.default_root_dir) / name
        fresh = folder.with_name(f".{name}.partial")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            with averaged_weights(trainer, module):
                module.model.save_pretrained(fresh)
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
