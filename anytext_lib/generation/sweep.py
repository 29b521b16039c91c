"""Measure sampling: seconds of each part, and readable lines against the number of steps."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch

from anytext_lib.data.lines import TextLines
from anytext_lib.generation.denoise import make_scheduler
from anytext_lib.generation.request import SCHEDULERS, Request, Settings
from anytext_lib.ocr.crops import crop_lines


class StepsRow(NamedTuple):
    """One cell of a sweep: ``accuracy`` is the share of lines read exactly, ``seconds`` those of one image, ``calls``
    the steps that were really taken; ``wanted`` and ``read`` are the texts, for other scores."""

    scheduler: str
    steps: int
    calls: int
    accuracy: float
    seconds: float
    wanted: list[str]
    read: list[str]


def accuracy_by_steps(pipeline, requests: Sequence[Request], judge, steps: Sequence[int] = (5, 10, 20),
                      schedulers: Sequence[str] = SCHEDULERS, settings: Settings | None = None, images: int = 1,
                      seed: int = 0, batch_size: int = 8) -> list[StepsRow]:
    """How many lines are readable, by scheduler and number of steps; every cell starts from the same noise.

    Args:
        requests: of one size. ``judge``: reads crops (L, 3, 48, W); not the recogniser that the model was trained
            with. ``images``: of each request.
    """
    before, rows = pipeline.scheduler, []
    try:
        for name in schedulers:
            pipeline.scheduler = make_scheduler(name, pipeline.model)
            for count in steps:
                chosen = replace(settings or pipeline.default_settings(), ddim_steps=count)
                start = time.perf_counter()
                made = pipeline.run(requests, chosen, images, seed, batch_size=batch_size, output_type="pt")
                seconds = (time.perf_counter() - start) / len(made.images)
                lines = lines_of(made.records)
                read = judge.read(crop_lines(made.images, lines)) if len(lines) else []
                right = sum(a == b for a, b in zip(read, lines.texts, strict=True))
                rows.append(StepsRow(name, count, len(pipeline.scheduler.timesteps), right / max(1, len(lines)),
                                     seconds, lines.texts, read))
    finally:
        pipeline.scheduler = before
    return rows


def lines_of(records: Sequence[dict]) -> TextLines:
    """The lines of generated images, flat, from their records; the regions are in pixels of the images."""
    from anytext_lib.data.hints import position_mask
    from anytext_lib.data.lines import line_quad
    from anytext_lib.data.texts import guess_language

    found = [(i, record["request"], line) for i, record in enumerate(records) for line in record["request"]["lines"]]
    if not found:
        return TextLines.empty()
    quads = [line_quad(position_mask(line["region"], (request["height"], request["width"])))
             for _, request, line in found]
    texts = [line["text"] for _, _, line in found]
    return TextLines([i for i, _, _ in found], torch.stack(quads), texts, [guess_language(text) for text in texts])


@contextmanager
def part_seconds(pipeline, parts: Sequence[str] = ("writenet", "unet")) -> Iterator[dict[str, float]]:
    """A dictionary that fills with the seconds that parts of the model compute within the block, and their "total".

    On a GPU every call of a part is waited for.
    """
    spent, started, handles = dict.fromkeys(parts, 0.0), {}, []

    def now() -> float:
        if pipeline.placement.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def begin(name: str) -> None:
        started[name] = now()

    def end(name: str) -> None:
        spent[name] += now() - started[name]

    for name in parts:
        part = getattr(pipeline.model, name)
        handles += [part.register_forward_pre_hook(lambda *_, name=name: begin(name)),
                    part.register_forward_hook(lambda *_, name=name: end(name))]
    start = now()
    try:
        yield spent
    finally:
        spent["total"] = now() - start
        for handle in handles:
            handle.remove()
