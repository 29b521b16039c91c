"""The order of an epoch: from seed and epoch alone, shared out to ranks, and resumable in the middle."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
from torch.utils.data import Sampler


def epoch_order(length: int, seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """(length,) int64: the order in which an epoch visits the items 0..length-1; equal on all machines."""
    return np.random.default_rng([seed, epoch]).permutation(length) if shuffle else np.arange(length)


class EpochSampler(Sampler[int]):
    """Indices for one rank, of an order that depends on seed and epoch only.

    Step k of the epoch takes items k * world .. (k + 1) * world - 1 of the order, one a rank, so that the items seen
    after k steps are the same for any number of ranks, loader workers and interruptions.  Every rank gets equally many:
    the at most world - 1 items at the end are left out (``drop_last``), or the order begins anew to fill up.

    Args:
        data: a data set or its length. ``seed``: of the run. ``rank``, ``world``: this process of how many; by default
            as torch.distributed says, if it runs.
        shuffle: False visits the items in order. ``drop_last``: see above.

    Under Lightning pass ``use_distributed_sampler=False`` to the Trainer: this sampler knows its rank itself.
    """

    def __init__(self, data: Sized | int, seed: int = 0, rank: int | None = None, world: int | None = None,
                 shuffle: bool = True, drop_last: bool = True):
        self.length = data if isinstance(data, int) else len(data)
        self.seed, self.shuffle, self.drop_last = seed, shuffle, drop_last
        if rank is None or world is None:
            rank, world = distributed_rank()
        if not 0 <= rank < world:
            raise ValueError(f"rank counts from 0 to world - 1, got rank {rank} of {world}")
        self.rank, self.world, self.epoch = rank, world, 0
        self.start, self._begun = 0, False  # items of the epoch before the pass that runs, or comes next

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of ``epoch``; going to the current one keeps a position to resume from."""
        if epoch != self.epoch:
            self.epoch, self.start, self._begun = epoch, 0, False

    def __len__(self) -> int:
        """Number of indices of this rank in the pass: fewer than an epoch's when it resumes in the middle."""
        left = self.length - self.start
        return left // self.world if self.drop_last else -(-left // self.world)

    def __iter__(self) -> Iterator[int]:
        if self._begun:
            self.start = 0  # only the first pass resumes
        self._begun = True
        order = epoch_order(self.length, self.seed, self.epoch, self.shuffle)
        places = (np.arange(len(self)) * self.world + self.start + self.rank) % max(self.length, 1)
        return map(int, order[places])

    def state_dict(self, steps: int) -> dict[str, int]:
        """The position after ``steps`` indices of this rank in this pass (trained on, not merely fetched ahead)."""
        return {"seed": self.seed, "epoch": self.epoch, "consumed": self.start + steps * self.world,
                "length": self.length}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume at a position; the number of ranks may have changed.

        Raises:
            ValueError: the state is that of other data or of another seed.
        """
        for name, mine in (("length", self.length), ("seed", self.seed)):
            if state[name] != mine:
                raise ValueError(f"cannot resume the epoch: its {name} was {state[name]}, now it is {mine}; continue "
                                 "with the data and seed of the run, or start an epoch anew")
        self.epoch, self.start, self._begun = state["epoch"], min(state["consumed"], self.length), False


def distributed_rank() -> tuple[int, int]:
    """(rank, world) of torch.distributed if it runs, else (0, 1)."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
