"""The training loop of the small recipes: AdamW with clipped gradients and one cycle of the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch


def fit(parameters: Iterable[torch.nn.Parameter], loss_of: Callable[[], Any], steps: int, learning_rate: float,
        rise: float = 0.1, clip: float = 1.0, rate: Callable[[int], float] | None = None,
        **adamw) -> Iterator[tuple[int, Any]]:
    """Train, and yield after every optimizer step its number, counted from 1, and what ``loss_of`` returned.

    Args:
        loss_of: called before each step; returns a scalar with gradient, or terms whose ``loss`` is one.
        rise: share of the steps in which the learning rate goes up, of torch's OneCycleLR.
        clip: largest norm of the gradient.
        rate: factor on the learning rate at a step, counted from 0, in the place of the cycle.
        adamw: options of AdamW.
    """
    trained = list(parameters)
    optimizer = torch.optim.AdamW(trained, learning_rate, **adamw)
    schedule = (torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=rise) if rate is None
                else torch.optim.lr_scheduler.LambdaLR(optimizer, rate))
    for step in range(1, steps + 1):
        terms = loss_of()
        optimizer.zero_grad()
        getattr(terms, "loss", terms).backward()
        torch.nn.utils.clip_grad_norm_(trained, clip)
        optimizer.step()
        schedule.step()
        yield step, terms
