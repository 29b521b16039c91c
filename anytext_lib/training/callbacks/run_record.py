"""What a run leaves beside its results: its whole configuration."""

from __future__ import annotations

from collections.abc import Callable

import lightning.pytorch as pl

from anytext_lib.training.run_folder import RunFolder


class RunRecord(pl.Callback):
    """Writes ``RUN/config.yaml`` when the first batch has been read: from then on the folder is kept.

    Args:
        folder: of the run. ``text``: gives the configuration in YAML.
    """

    def __init__(self, folder: RunFolder, text: Callable[[], str]):
        self.folder, self.text = folder, text

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch, batch_idx: int) -> None:
        if self.folder.begun:
            return
        self.folder.begun = True
        if trainer.is_global_zero:
            (self.folder.path / "config.yaml").write_text(self.text(), encoding="utf-8")
