"""Small files in upstream's form, made from the tiny model."""

from __future__ import annotations

import torch

from anytext_lib.diffusion import schedule_buffers
from anytext_lib.models import AnyText2Model
from anytext_lib.upstream.checkpoint import key_maps
from anytext_lib.upstream.keys import PARTS


def upstream_state(model: AnyText2Model) -> dict[str, torch.Tensor]:
    """What upstream's checkpoint of ``model`` would hold; batch counters are set, the schedule is half precision."""
    maps = key_maps(model)
    state = {name: value.half() for name, value in schedule_buffers(model.config["scheduler"]).items()}
    for part, (prefix, _) in PARTS.items():
        theirs = maps[part].state_to_upstream(getattr(model, part).state_dict())
        state |= {prefix + name: value.detach().clone() for name, value in theirs.items()}
    counters = [name for name in state if name.endswith("num_batches_tracked")]
    return state | {name: torch.tensor(i) for i, name in enumerate(counters)}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether names, dtypes, shapes and all bits agree."""
    return set(first) == set(second) and all(
        value.dtype == second[name].dtype and torch.equal(value, second[name]) for name, value in first.items())
