"""Learning rates that depend on the optimizer step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from anytext_lib.errors import OptionError

LR_SCHEDULES = ("constant", "linear", "cosine", "one_cycle")


def learning_rate_factor(step: int, schedule: str = "constant", warmup: int = 0, total: int | None = None,
                         final: float = 0.0) -> float:
    """Factor on the learning rate at an optimizer step.

    Args:
        step: optimizer step, counted from 0.
        schedule: "constant" (upstream), "linear" or "cosine" decay to ``final`` at step ``total``, or "one_cycle":
            cosine from 1/25 up to 1 over ``warmup`` steps (0: 30% of ``total``), then cosine down to ``final``.
        warmup: steps of linear increase for the other schedules; step 0 has the factor 1 / warmup.
        total: number of steps of the run; needed by all but "constant".

    Raises:
        OptionError: unknown schedule, or no ``total``.
    """
    if schedule not in LR_SCHEDULES:
        raise OptionError(f"lr_schedule is one of {LR_SCHEDULES}, got {schedule!r}")
    if schedule != "constant" and (total is None or not math.isfinite(total)):
        raise OptionError(f"lr_schedule {schedule!r} needs the length of the run: set trainer.max_steps or max_epochs")
    if schedule == "one_cycle":
        warmup = warmup or max(1, round(0.3 * total))
        if step < warmup:
            return _cosine(step / warmup, 1 / 25, 1.0)
        return _cosine(_share(step, warmup, total), 1.0, final)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    share = _share(step, warmup, total)
    return _cosine(share, 1.0, final) if schedule == "cosine" else 1.0 + (final - 1.0) * share


def require_rate(learning_rate: float, warmup_steps: int) -> None:
    """OptionError if these cannot be a learning rate and its warm-up."""
    if not (math.isfinite(learning_rate) and learning_rate >= 0):
        raise OptionError(f"learning_rate is a number of at least 0, got {learning_rate}")
    if warmup_steps < 0:
        raise OptionError(f"warmup_steps is at least 0, got {warmup_steps}")


def require_timesteps(count: int, **named: Sequence[int]) -> None:
    """OptionError if a value of an option, given by its name, is no timestep of a model with ``count`` of them."""
    for name, values in named.items():
        wrong = [t for t in values if not 0 <= t < count]
        if wrong:
            raise OptionError(f"{name} {wrong[0]} is no timestep: the model has 0 to {count - 1}")


def _share(step: int, warmup: int, total: float) -> float:
    return min(1.0, (step - warmup) / max(1, total - warmup))


def _cosine(share: float, first: float, last: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
