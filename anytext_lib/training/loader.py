"""The order of the data: from the seed and the epoch only, split by process, resumable in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import DataLoader, Dataset

from anytext_lib.errors import OptionError
from anytext_lib.randomness import generator


def epoch_order(length: int, seed: int, epoch: int, shuffle: bool = True) -> np.ndarray:
    """(length,) int64: the order in which an epoch visits the items 0..length-1; equal on all machines."""
    return np.random.default_rng([seed, epoch]).permutation(length) if shuffle else np.arange(length)


class EpochBatches:
    """Batches of (epoch, index) pairs, the same number for every process.

    The epoch travels with the index, so that a data set whose samples depend on the epoch gives the same ones in any
    worker process, persistent or not.  Process r of R takes every R-th index from the r-th on: the R batches of a step
    are together the batch that one process with an R times larger batch takes.

    Args:
        length: number of samples. ``batch_size``: samples of one process in one step.
        shuffle: a new order in every epoch, from ``seed`` and the epoch; False keeps the order of the data set.
        rank, world_size: this process and their number.
        drop_last: leave out the samples of the end that do not fill a batch of all processes; else the last batches
            are smaller, and for ``world_size`` > 1 they are filled with samples from the start.

    Raises:
        OptionError: not even one batch.
    """

    def __init__(self, length: int, batch_size: int, seed: int = 0, shuffle: bool = True, rank: int = 0,
                 world_size: int = 1, drop_last: bool = True):
        if batch_size < 1:
            raise OptionError(f"batch_size is at least 1, got {batch_size}")
        if length < (batch_size * world_size if drop_last else 1):
            raise OptionError(f"{length} samples do not fill one batch of {batch_size} in each of {world_size} "
                                  "processes: use a smaller batch_size or more data")
        self.length, self.batch_size, self.seed, self.shuffle = length, batch_size, seed, shuffle
        self.rank, self.world_size, self.drop_last = rank, world_size, drop_last
        self.epoch, self.start = 0, 0
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        step = self.batch_size * self.world_size
        return self.length // step if self.drop_last else -(-self.length // step)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Batches from number ``start`` on, which is then 0 again."""
        start, self.start = self.start, 0
        order = self._order()
        step = self.batch_size * self.world_size
        for batch in range(start, len(self)):
            mine = order[batch * step : (batch + 1) * step][self.rank :: self.world_size]
            yield [(self.epoch, int(i)) for i in mine]

    def _order(self) -> np.ndarray:
        order = epoch_order(self.length, self.seed, self.epoch, self.shuffle)
        missing = 0 if self.drop_last else -self.length % self.world_size
        return np.concatenate([order, np.resize(order, missing)])


class EpochItems(Dataset):
    """A map-style data set asked for (epoch, index) pairs; its ``set_epoch``, if it has one, is told the epoch."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]):
        epoch, index = key
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)
        return self.dataset[index]


class ResumableLoader(DataLoader):
    """A DataLoader over ``EpochBatches`` that goes on after the last batch handed out; Lightning saves its state."""

    def __init__(self, dataset, batches: EpochBatches, collate: Callable, workers: int = 0, pin_memory: bool = False):
        super().__init__(EpochItems(dataset), batch_sampler=batches, collate_fn=collate, num_workers=workers,
                         pin_memory=pin_memory, persistent_workers=workers > 0, generator=generator(batches.seed))
        self.handed_out = 0

    def __iter__(self):
        """Lazy on purpose: Lightning tells the epoch after it has asked for the iterator."""
        self.handed_out = self.batch_sampler.start = self.handed_out % len(self.batch_sampler)
        for batch in super().__iter__():
            self.handed_out += 1
            yield batch
        self.handed_out = 0

    def state_dict(self) -> dict[str, int]:
        """Number of batches of this epoch that were handed out."""
        return {"handed_out": self.handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after as many batches at the next iteration."""
        self.handed_out = int(state["handed_out"])
