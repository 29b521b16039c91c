"""Seconds to sample a picture with guidance: fast control (WriteNet once) against slow control (at every step)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch

from anytext_lib.generation.pipeline import AnyText2Pipeline
from anytext_lib.models import AnyText2Model, read_config
from tests.gpu.measuring import measure
from tests.gpu.records import Records
from tests.gpu.sizes import Size

PART = "sampling"
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def run(records: Records, size: Size, say: Callable[[str], None]) -> None:
    """Both controls in both precisions; what is known is left out."""
    for (name, dtype), control in product(DTYPES.items(), ("fast", "slow")):
        case = f"{name}, {control} control"
        if records.get(PART, case) is None:
            found = measure_sampling(size, control, dtype)
            records.add(PART, case, found)
            say(f"  {case}: {found['seconds']:.3f} s a picture, {found['peak_mib']} MiB at the peak")


def measure_sampling(size: Size, control: str, dtype: torch.dtype) -> dict[str, float]:
    """Seconds a picture and peak memory, decoding included, of a model with random weights."""
    device = torch.device(size.device)
    config = read_config(size.model)
    config["writenet"]["fast_control"] = control == "fast"
    with device:
        model = AnyText2Model.from_config(config, "bytes")
    pipeline = AnyText2Pipeline(model).to(device, dtype)
    pipeline.set_progress_bar_config(disable=True)

    def sample() -> None:
        pipeline.generate('a sign that says "Tea"', width=size.side, height=size.side, ddim_steps=size.ddim_steps,
                          cfg_scale=7.5, images=size.pictures, seed=0, batch_size=size.pictures, output_type="pt")

    found = measure(sample, size.device, size.repeats, size.warm_up)
    return found | {"seconds": round(found["seconds"] / size.pictures, 4), "fastest": round(
        found["fastest"] / size.pictures, 4), "ddim_steps": size.ddim_steps, "pictures": size.pictures}
