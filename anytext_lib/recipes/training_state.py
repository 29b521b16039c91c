"""What a small training keeps to go on from, and the average of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from anytext_lib.files import atomic_path


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
