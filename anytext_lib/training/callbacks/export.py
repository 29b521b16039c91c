"""The trained model as a folder of its own, for generation and for further training."""

from __future__ import annotations

import shutil
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_only

from anytext_lib.training.callbacks.ema import averaged_weights


class ExportModel(pl.Callback):
    """Writes ``RUN/model`` with ``save_pretrained`` at the end of training; with the average if there is one."""

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        folder = Path(trainer.default_root_dir) / "model"
        fresh = folder.with_name(".model.partial")
        shutil.rmtree(fresh, ignore_errors=True)
        with averaged_weights(trainer, module):
            module.model.save_pretrained(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
        rank_zero_info(f"the trained model is in {folder}")
