"""The two sizes of a run: the official one on a GPU, and a tiny one that rehearses every path on a CPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """What is measured, and how large.

    Attributes:
        device: as torch names it. ``model``: a configuration's name. ``side``: of pictures, in pixels.
        lines: of text in a picture. ``batch``: where the search for the largest begins; ``most``: where it ends.
        repeats, warm_up: calls that are measured, and calls before them; beyond ``batch`` one step is measured.
        ddim_steps, pictures: of sampling, guided.
        notebooks: that are run (all where empty), ``jobs`` of them at a time.
        seconds: budget of each part, by the clock; 9 minutes and a half together on a GPU.
    """

    device: str
    model: str
    side: int
    lines: int
    batch: int
    most: int
    repeats: int
    warm_up: int
    ddim_steps: int
    pictures: int
    notebooks: tuple[str, ...]
    jobs: int
    seconds: dict[str, float]


OFFICIAL = Size("cuda", "sd15", side=512, lines=5, batch=3, most=192, repeats=5, warm_up=2, ddim_steps=20, pictures=4,
                notebooks=(), jobs=6,
                seconds={"steps": 170.0, "sampling": 60.0, "reading": 40.0, "notebooks": 300.0})
REHEARSAL = Size("cpu", "tiny", side=64, lines=1, batch=1, most=2, repeats=1, warm_up=0, ddim_steps=2, pictures=1,
                 notebooks=("00",), jobs=1,
                 seconds={"steps": 240.0, "sampling": 240.0, "reading": 240.0, "notebooks": 240.0})
