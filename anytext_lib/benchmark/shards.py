"""Make the pictures of a benchmark: resumable item by item, by one process or by several that share the items.

Items are dealt out to the shards in turn, so that 2 of 8 means the items 1, 9, 17, ...  An item is made as a whole,
from its own seeds, so that pictures do not depend on who makes them, or on where a run was killed.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anytext_lib.benchmark.items import picture_names, prepare_item, read_items
from anytext_lib.benchmark.published import PublishedSettings
from anytext_lib.data.anyword import AnnotatedImage
from anytext_lib.errors import AnyTextError, OptionError
from anytext_lib.files import file_hash, print_report, write_json

PLAN, PICTURES, ITEMS = "plan.json", "pictures", "items.json"
EVERY = 10.0  # seconds between two reports


class BenchmarkError(AnyTextError, RuntimeError):
    """A benchmark cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class SetPlan:
    """All that the pictures of one set depend on.

    Attributes:
        annotations: benchmark file. ``folder``: of this set, in which everything is written.
        model: folder. ``settings``: how it is sampled. ``dtype``: of its networks, as "float16".
        glyph_font, font_hint: see ``items.prepare_item``. ``limit``: only the first so many items.
    """

    annotations: Path
    folder: Path
    model: Path
    settings: PublishedSettings
    glyph_font: str | None = None
    font_hint: str = "none"
    dtype: str = "float32"
    limit: int | None = None

    @property
    def pictures(self) -> Path:
        return self.folder / PICTURES

    @property
    def items(self) -> Path:
        """The entries that are measured, as a file in the AnyWord form."""
        return self.folder / ITEMS

    def entries(self) -> list[AnnotatedImage]:
        return read_items(self.annotations, self.limit)

    def missing(self, entries: Sequence[AnnotatedImage]) -> list[AnnotatedImage]:
        """Entries of which a picture is not there yet."""
        return [entry for entry in entries if any(not (self.pictures / name).is_file()
                                                  for name in picture_names(entry, self.settings.per_item))]

    def identity(self) -> dict[str, Any]:
        """What must stay the same from start to end."""
        from anytext_lib.generation.metadata import model_record

        return {"annotations": {"name": self.annotations.name, "sha256": file_hash(self.annotations)},
                "model": model_record(self.model)["sha256"], "settings": asdict(self.settings),
                "glyph_font": self.glyph_font and Path(self.glyph_font).name, "font_hint": self.font_hint,
                "dtype": self.dtype, "limit": self.limit}


def begin(plan: SetPlan) -> None:
    """Note the plan in its folder, or see that it is the one that was begun there.

    Raises:
        BenchmarkError: the folder was begun with another plan; the message names what differs.
    """
    now, path = plan.identity(), plan.folder / PLAN
    if not path.is_file():
        plan.pictures.mkdir(parents=True, exist_ok=True)
        write_json(path, now)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    if differing := [f"{name}: {before.get(name)!r} there, {value!r} now" for name, value in now.items()
                     if before.get(name) != value]:
        raise BenchmarkError(f"{plan.folder} was begun with other settings ({'; '.join(differing)}): choose another "
                             "output folder, or remove this one")


def make_pictures(plan: SetPlan, device: Any = "cpu", shard: tuple[int, int] = (1, 1), offload: bool = False,
                  report: Callable[[str], None] = print_report) -> int:
    """Make the pictures of one shard that are not there yet; returns how many items were made.

    Args:
        shard: (i, n), the i-th of n, from 1. ``device``: torch's. ``offload``: see the pipeline.
    """
    import torch

    from anytext_lib.generation.metadata import model_record, write_png
    from anytext_lib.generation.pipeline import AnyText2Pipeline

    todo = plan.missing(plan.entries()[shard[0] - 1 :: shard[1]])
    if not todo:
        return 0
    pipeline = AnyText2Pipeline.from_pretrained(plan.model, "cpu" if offload else device, getattr(torch, plan.dtype))
    if offload:
        pipeline.enable_model_cpu_offload(device=device)
    chosen, model = plan.settings, model_record(plan.model)
    settings = pipeline.default_settings().changed(ddim_steps=chosen.ddim_steps, cfg_scale=chosen.cfg_scale,
                                                   strength=chosen.strength, eta=chosen.eta)
    who = "" if shard[1] == 1 else f"shard {shard[0]} of {shard[1]}: "
    start = told = time.monotonic()
    for done, entry in enumerate(todo, 1):
        item, left_out = prepare_item(entry, pipeline.model, pipeline.defaults, chosen, plan.glyph_font, plan.font_hint)
        made = pipeline.run_prepared([item], settings, chosen.per_item, chosen.seed, batch_size=chosen.per_item)
        for name, picture, record in zip(picture_names(entry, chosen.per_item), made.images, made.records, strict=True):
            write_png(picture, record | {"model": model, "left_out": left_out}, plan.pictures / name)
        now = time.monotonic()
        if done == len(todo) or now - told >= EVERY:
            told = now
            report(f"{who}{done} of {len(todo)} items, about {(now - start) / done * (len(todo) - done):.0f} s left")
    return len(todo)


def make_side_by_side(plan: SetPlan, devices: Sequence[str], offload: bool = False) -> None:
    """Make all pictures with one process for each device.

    Raises:
        BenchmarkError: a process failed; the pictures that are finished stay.
    """
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(plan, device, (i, len(devices)), offload), daemon=True)
                 for i, device in enumerate(devices, 1)]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
    failed = [i for i, process in enumerate(processes, 1) if process.exitcode]
    if failed:
        raise BenchmarkError(f"the processes {failed} of {len(processes)} failed (what they said stands above); what "
                             "is finished stays, and the same command goes on from there")


def _work(plan: SetPlan, device: str, shard: tuple[int, int], offload: bool) -> None:
    """One process of several: an error is one line, and Ctrl-C is left to the first process."""
    import torch

    from anytext_lib.device import cpu_count, pick_device

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if device == "cpu":
        torch.set_num_threads(max(1, cpu_count() // shard[1]))
    try:
        make_pictures(plan, pick_device(device), shard, offload)
    except AnyTextError as error:
        print(f"anytext benchmark: shard {shard[0]} of {shard[1]}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_status)


def parse_shard(text: str) -> tuple[int, int]:
    """``"2/8"`` as (2, 8); OptionError for anything else."""
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise OptionError(f"a shard is written as 2/8, the second of eight, from 1 on; got {text!r}")
    return int(number), int(count)
