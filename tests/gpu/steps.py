"""Training steps: with and without the OCR loss, float32 and bfloat16, at one batch and at the largest that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, product
from pathlib import Path

import numpy as np
import torch

from anytext_lib.data import AnnotatedImage, AnyTextBatch, SampleConfig, build_sample, collate
from anytext_lib.models import AnyText2Model
from anytext_lib.scenes import render_scene
from anytext_lib.training.module import AnyText2Training
from tests.gpu.measuring import measure, measure_or_none
from tests.gpu.records import Records
from tests.gpu.sizes import Size

PART = "steps"
PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}
ALPHAS = (0.003, 0.0)
DIFFERENT = 12  # pictures; larger batches hold them more than once


def run(records: Records, size: Size, say: Callable[[str], None]) -> None:
    """All four ways at the batch of the recipe first, then the largest batch of each; what is known is left out."""
    ways = list(product(PRECISIONS, ALPHAS))
    bench = Bench(size)
    for precision, alpha in ways:
        one_case(records, bench, precision, alpha, size.batch, size.repeats, say)
    for precision, alpha in ways:
        largest(size.batch, size.most, lambda batch, way=(precision, alpha): one_case(
            records, bench, *way, batch, 1, say))


def largest(start: int, most: int, fits: Callable[[int], bool]) -> int:
    """The last of start, 2 start, 4 start, ... up to ``most`` for which all of them fit; ``start`` is taken to fit."""
    batch = start
    while 2 * batch <= most and fits(2 * batch):
        batch *= 2
    return batch


def one_case(records: Records, bench: Bench, precision: str, alpha: float, batch: int, repeats: int, say) -> bool:
    """Measure one case, unless it is known; return whether it fits into the memory."""
    case = f"{precision}, alpha {alpha:g}, batch {batch}"
    found = records.get(PART, case)
    if found is None:
        measured = measure_or_none(lambda: bench.measure(precision, alpha, batch, repeats), bench.size.device)
        found = {"precision": precision, "alpha": alpha, "batch": batch, "fits": measured is not None}
        found |= {} if measured is None else measured
        records.add(PART, case, found)
        say(f"  {case}: " + ("does not fit" if measured is None else
                             f"{found['seconds']:.3f} s a step, {found['peak_mib']} MiB at the peak"))
    return found["fits"]


class Bench:
    """One model with random weights, built on its device when it is first needed, and pictures for it."""

    def __init__(self, size: Size):
        self.size = size
        self.model: AnyText2Model | None = None
        self.samples: list = []

    def measure(self, precision: str, alpha: float, batch: int, repeats: int) -> dict[str, float]:
        """Seconds and peak memory of a step: encode, predict, all losses, backward, clip, AdamW."""
        device, dtype = torch.device(self.size.device), PRECISIONS[precision]
        if self.model is None:
            with device:
                self.model = AnyText2Model.from_config(self.size.model, "bytes")
            self.samples = list(samples(self.size, min(DIFFERENT, self.size.most)))
        module = AnyText2Training(model=self.model, loss_alpha=alpha).to(device).train()
        trained = [p for group in module.trained.values() for _, p in group]
        optimizer = torch.optim.AdamW(trained, lr=1e-6)
        data = self.batch(batch).to(device)
        generator = torch.Generator().manual_seed(0)

        def step() -> None:
            times = torch.randint(len(self.model.alphas_cumprod), (batch,), generator=generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype != torch.float32):
                latents = module.encode(data)
                noise = torch.randn(latents.shape, generator=generator)
                loss = module.objective(module.predict(data, latents, noise, times), watch=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        try:
            return measure(step, self.size.device, repeats, min(repeats, self.size.warm_up))
        finally:
            optimizer.zero_grad(set_to_none=True)  # the next one is measured without these

    def batch(self, size: int) -> AnyTextBatch:
        """A batch of ``size`` pictures."""
        return collate([self.samples[i % len(self.samples)] for i in range(size)])


def samples(size: Size, number: int) -> Iterator:
    """Samples of rendered scenes that have all their lines; captions are short, for the tokenizer counts letters."""
    config = SampleConfig(image_size=(size.side, size.side), max_lines=size.lines, mask_ratio=0.0)
    scenes = (render_scene(seed, size.side, n_lines=size.lines, invalid=0.0) for seed in count())
    found = 0
    for scene in scenes:
        if len(scene.lines) == size.lines:
            record = AnnotatedImage(Path("scene.png"), "scene.png", scene.caption, scene.lines)
            sample = build_sample(scene.image, record, config, np.random.default_rng(found))
            texts = "Texts are " + " , ".join("*" * len(sample.texts))
            yield replace(sample, caption="a photograph of a street", text_caption=texts, index=found)
            found += 1
        if found == number:
            return
