"""CUDA out of memory: say what to reduce."""

from __future__ import annotations

import json
from pathlib import Path

import lightning.pytorch as pl
import torch

COSTS = Path(__file__).resolve().parents[2] / "configs" / "gpu_costs.json"
"""Written by ``python -m anytext_lib.training.measure`` on a GPU."""


class CudaMemoryAdvice(pl.Callback):
    """Adds to an out-of-memory error what is set and what would take less."""

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, torch.cuda.OutOfMemoryError):
            exception.add_note(advice(trainer, module))


def advice(trainer: pl.Trainer, module: pl.LightningModule) -> str:
    """Options that lower the memory of this run, the cheapest in time first."""
    h = module.hparams
    batch = getattr(trainer.datamodule, "hparams", {}).get("batch_size", 1)
    accumulate = trainer.accumulate_grad_batches
    found = []
    if batch > 1:
        found.append(f"batch_size {batch} -> {max(1, batch // 2)} with grad_accum {accumulate} -> {accumulate * 2}: "
                     "the same optimizer step, activations by half")
    if str(trainer.precision) == "32-true":
        found.append("precision bf16-mixed: activations of the networks by about half; weights and optimizer stay")
    if not h.gradient_checkpointing:
        found.append("gradient_checkpointing true: keeps the inputs of blocks only, about a third more time")
    if h.loss_alpha > 0 or h.loss_beta > 0:
        found.append("loss_alpha 0 and loss_beta 0 until loss_start: no decoder and recogniser in the backward pass")
    if h.monitor_every:
        found.append("monitor_every 0: no decoded pictures for terms that are only watched")
    if trainer.world_size == 1:
        found.append("several GPUs with trainer.strategy fsdp: weights, gradients and optimizer are shared out")
    told = "CUDA is out of memory. What takes less, in this run:\n" + "\n".join(f"  - {line}" for line in found)
    return f"{told}\n{measured()}".rstrip()


def measured(path: Path = COSTS) -> str:
    """What steps of the official size were measured to take, one line a case; '' where nothing is recorded."""
    if not path.is_file():
        return ""
    recorded = json.loads(path.read_text(encoding="utf-8"))
    lines = [f"  - {name}: {case['gib']:.1f} GiB, {case['s_per_step']:.2f} s a step"
             for name, case in recorded["cases"].items() if "gib" in case]
    size, batch = recorded["image_size"], next(iter(recorded["cases"].values()))["batch_size"]
    head = f"Measured with {recorded['model']} on {recorded['device']}, {size} pixels, batch {batch}:"
    return "\n".join([head, *lines]) if lines else ""
