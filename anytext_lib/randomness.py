"""Random numbers of a training step that depend on the seed, the step and the sample's place in the step only.

Timesteps and noise are drawn one sample at a time, each from a generator of its own.  So the arms of an experiment
share them, a resumed run repeats them, and R processes with batches of B draw what one process with a batch of R B
draws: sample i of process r stands at place i R + r.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

TIMESTEPS, NOISE, STEP, CHANCE = 1, 2, 3, 4  # independent streams


def generator(*key: int) -> torch.Generator:
    """A generator on the CPU seeded by non-negative integers; different keys give independent streams."""
    state = np.random.SeedSequence([int(part) for part in key]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def places(batch: int, rank: int = 0, world_size: int = 1) -> list[int]:
    """Place in the whole step of each of the ``batch`` samples of process ``rank``."""
    return [i * world_size + rank for i in range(batch)]


def draw_timesteps(seed: int, step: int, at: Iterable[int], steps: int = 1000, first: int = 0) -> torch.Tensor:
    """Uniform timesteps in first..steps-1, (B,) int64 on the CPU, for the samples at the places ``at``."""
    draws = [torch.randint(first, steps, (1,), generator=generator(seed, TIMESTEPS, step, place)) for place in at]
    return torch.cat(draws) if draws else torch.zeros(0, dtype=torch.int64)


def draw_noise(seed: int, step: int, at: Iterable[int], shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise (B, *shape), float32 on the CPU, for the samples at the places ``at``."""
    draws = [torch.randn(tuple(shape), generator=generator(seed, NOISE, step, place)) for place in at]
    return torch.stack(draws) if draws else torch.zeros(0, *shape)


def draw_chances(seed: int, step: int, at: Iterable[int]) -> torch.Tensor:
    """Uniform numbers in [0, 1), (B,) float32 on the CPU, for the samples at the places ``at``."""
    draws = [torch.rand(1, generator=generator(seed, CHANCE, step, place)) for place in at]
    return torch.cat(draws) if draws else torch.zeros(0)


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed torch's own generators: dropout and the sampling of the auto-encoder repeat when a run is resumed."""
    torch.manual_seed(int(np.random.SeedSequence([seed, STEP, step, rank]).generate_state(1, np.uint32)[0]))
