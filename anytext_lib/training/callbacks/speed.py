"""How fast, and how much memory."""

from __future__ import annotations

import sys
import time

import lightning.pytorch as pl
import torch


class Speed(pl.Callback):
    """Logs t/samples_per_s and t/s_per_step since the last optimizer step, over all processes, and the peak memory.

    t/gpu_gib is the peak of what torch took on this GPU since the last log, t/ram_gib the peak of this process.
    """

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.step, self.samples, self.since = trainer.global_step, 0, time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.paused = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if hasattr(self, "since"):
            self.since += time.perf_counter() - self.paused

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        """Log what the optimizer step that just ended took."""
        self.samples += len(batch)
        if trainer.global_step == self.step:
            return
        now = time.perf_counter()
        seconds = max(now - self.since, 1e-9)
        values = {"t/samples_per_s": self.samples * trainer.world_size / seconds, "t/s_per_step": seconds,
                  "t/ram_gib": peak_ram_gib()}
        if module.device.type == "cuda":
            values["t/gpu_gib"] = torch.cuda.max_memory_allocated(module.device) / 2**30
        module.log_dict(values, batch_size=len(batch))
        module.log("t/lr", trainer.optimizers[0].param_groups[0]["lr"], prog_bar=False, batch_size=len(batch))
        self.step, self.samples, self.since = trainer.global_step, 0, now


def peak_ram_gib() -> float:
    """Peak resident memory of this process in GiB."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**30
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20
