"""What a training step costs: seconds, memory and share of the matrix peak, for several options.

    python -m anytext_lib.training.measure --model sd15 --image-size 512 --out gpu_costs.json

Random weights, the sample set's pictures, real optimizer steps.  Run it with nothing else on the machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch.utils.flop_counter import FlopCounterMode

from anytext_lib.files import data_folder
from anytext_lib.models import AnyText2Model
from anytext_lib.training.callbacks import Speed
from anytext_lib.training.datamodule import AnyTextData
from anytext_lib.training.module import AnyText2Training

CASES = {
    "fp32": {}, "fp32 with OCR": {"loss_alpha": 0.003},
    "bf16": {"precision": "bf16-mixed"}, "bf16 with OCR": {"precision": "bf16-mixed", "loss_alpha": 0.003},
    "fp32, checkpointing": {"gradient_checkpointing": True},
    "fp32 with OCR, checkpointing": {"gradient_checkpointing": True, "loss_alpha": 0.003},
    "bf16 with OCR, checkpointing": {"precision": "bf16-mixed", "gradient_checkpointing": True, "loss_alpha": 0.003},
}
PEAKS = {"H100": {"32-true": 67e12, "bf16-mixed": 989e12}, "H200": {"32-true": 67e12, "bf16-mixed": 989e12},
         "A100": {"32-true": 19.5e12, "bf16-mixed": 312e12}}
"""Dense FLOP/s of matrix products by NVIDIA's data sheets; float32 without TF32, which torch leaves off."""


class _Costs(pl.Callback):
    """Seconds of each step and FLOPs of the first one."""

    def __init__(self):
        self.seconds, self.flops, self.counter = [], 0, None

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == 0:
            self.counter = FlopCounterMode(display=False)
            self.counter.__enter__()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if self.counter is not None:
            self.counter.__exit__(None, None, None)
            self.flops, self.counter = self.counter.get_total_flops(), None
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
        else:
            self.seconds.append(float(trainer.callback_metrics["t/s_per_step"]))


def measure(model: AnyText2Model, batch_size: int, size: int, steps: int = 4, precision: str = "32-true",
            **options) -> dict[str, float]:
    """Costs of one option: s_per_step (median), images_per_s, gib (peak on the GPU), tflop, peak_share (if known)."""
    module, costs = AnyText2Training(model, **options), _Costs()
    data = AnyTextData(train=str(data_folder() / "annotations.json"), batch_size=batch_size, image_size=(size, size))
    gpu = torch.cuda.is_available()
    trainer = pl.Trainer(accelerator="gpu" if gpu else "cpu", devices=1, precision=precision, max_steps=steps + 1,
                         max_epochs=-1, callbacks=[Speed(), costs], logger=False, enable_checkpointing=False,
                         enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False)
    trainer.fit(module, data)
    seconds = sorted(costs.seconds)[len(costs.seconds) // 2]
    found = {"batch_size": batch_size, "s_per_step": seconds, "images_per_s": batch_size / seconds,
             "tflop": costs.flops / 1e12}
    if gpu:
        found["gib"] = torch.cuda.max_memory_allocated() / 2**30
        peak = next((p[precision] for name, p in PEAKS.items() if name in torch.cuda.get_device_name()), None)
        found |= {"peak_share": costs.flops / seconds / peak} if peak else {}
    return found


def largest_batch(model: AnyText2Model, size: int, start: int, most: int = 48, **options) -> dict[str, float] | None:
    """Costs of the largest multiple of ``start`` that fits, found by doubling and halving; at most ``most``."""
    best, low, high = None, 0, None
    batch = start
    while batch <= most and (high is None or high - low > start):
        try:
            best, low = measure(model, batch, size, steps=2, **options), batch
        except torch.cuda.OutOfMemoryError:
            high = batch
        _free()
        batch = low + start * max(1, (high - low) // start // 2) if high is not None else low * 2
    return best


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def main() -> None:
    """The command; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="sd15", help="a model configuration (random weights)")
    parser.add_argument("--image-size", type=int, default=512, help="pixels")
    parser.add_argument("--batch-size", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="steps of each case, after one to warm up")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--largest", action="store_true", help="also find the largest batch of each case")
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    options = parser.parse_args()
    model = AnyText2Model.from_config(options.model, tokenizer="bytes")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"
    results = {"device": device, "torch": torch.__version__, "model": options.model, "image_size": options.image_size,
               "cases": {}}
    for name in options.cases:
        results["cases"][name] = measure(model, options.batch_size, options.image_size, options.steps, **CASES[name])
        _free()
        if options.largest:
            results["cases"][name]["largest"] = largest_batch(model, options.image_size, options.batch_size,
                                                              **CASES[name])
        print(name, results["cases"][name], flush=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
