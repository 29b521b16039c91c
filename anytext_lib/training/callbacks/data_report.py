"""What the data set had to leave out: pictures that cannot be read, lines that cannot be drawn."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

SHOWN = 5  # reasons of each kind that are printed in full


class DataReport(pl.Callback):
    """Logs t/skipped_pictures and t/dropped_lines, counted since the run began; shows the first reasons."""

    def __init__(self):
        self.pictures = self.lines = 0

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        self._tell(batch.skipped, self.pictures, "picture skipped")
        self._tell(batch.dropped, self.lines, "line left out")
        self.pictures, self.lines = self.pictures + len(batch.skipped), self.lines + len(batch.dropped)
        counts = {"t/skipped_pictures": float(self.pictures), "t/dropped_lines": float(self.lines)}
        module.log_dict(counts, batch_size=len(batch))

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.pictures or self.lines:
            rank_zero_info(f"{self.pictures} pictures were skipped and {self.lines} lines left out; "
                           "`anytext data check` lists all of them")

    def state_dict(self) -> dict[str, int]:
        return {"pictures": self.pictures, "lines": self.lines}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.pictures, self.lines = state["pictures"], state["lines"]

    @staticmethod
    def _tell(reasons: list[str], before: int, what: str) -> None:
        for reason in reasons[: max(0, SHOWN - before)]:
            rank_zero_warn(f"{what}: {reason}")
