"""The steps of a training that goes on where it was stopped, what it keeps for that, and the average of its weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from anytext_lib.files import atomic_path

SAVE_EVERY = 120.0  # seconds


def resumable_steps(steps: int, parts: Mapping, generator: torch.Generator, figures: list[float], state: Path | None,
                    log: Callable[[str], None], name: str = "loss", every: int = 50) -> Iterator[int]:
    """Numbers of the steps that are left to do, counted from 0; what was kept of ``parts`` is loaded first.

    Args:
        parts: models and optimisers, by name. ``generator``: of all random numbers that the steps draw.
        figures: the caller appends one for each step; ``log`` gets their mean and the CPU time every so many steps.
        state: the file to go on from, written every two minutes and after the last step; None keeps nothing.
        name: what ``figures`` are.
    """
    first, seconds = resume(state, parts, generator)
    begin, saved = time.process_time(), time.monotonic()
    for step in range(first, steps):
        yield step
        last, spent = step + 1 == steps, seconds + time.process_time() - begin
        if (step + 1) % every == 0 or last:
            log(f"step {step + 1} of {steps}: {name} {np.mean(figures[-every:]):.4f}, {spent:.0f} s of CPU")
        if state and (last or time.monotonic() - saved > SAVE_EVERY):
            saved = time.monotonic()
            keep(state, parts, generator, step + 1, spent)


def keep(state: Path, parts: Mapping, generator: torch.Generator, step: int, seconds: float) -> None:
    """Write the state of ``parts`` (models, optimisers) and of the generator, whole or not at all.

    Args:
        step: steps done. ``seconds``: CPU time that they took.
    """
    with atomic_path(state) as new:
        torch.save({name: part.state_dict() for name, part in parts.items()}
                   | {"generator": generator.get_state(), "step": step, "seconds": seconds}, new)


def resume(state: Path | None, parts: Mapping, generator: torch.Generator) -> tuple[int, float]:
    """Load what ``keep`` wrote; returns steps done and the seconds that they took, zeros without a file."""
    if state is None or not state.exists():
        return 0, 0.0
    kept = torch.load(state, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(kept[name])
    generator.set_state(kept["generator"])
    return kept["step"], kept["seconds"]


@torch.no_grad()
def lerp_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average of the weights towards those of ``model`` by a share 1 - ``decay``."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
