"""Data set of samples in the AnyWord form; item i depends on the seed, the epoch and i only."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch.utils.data import Dataset

from anytext_lib.data.anyword import AnnotatedImage
from anytext_lib.data.anyword_stream import AnyWordError
from anytext_lib.data.batch import Sample
from anytext_lib.data.pictures import PictureError
from anytext_lib.data.sample import SampleConfig, build_sample
from anytext_lib.errors import OptionError

MOST_TRIES = 32  # pictures tried in the place of one that cannot be read
_SUBSET, _ITEM = 1, 2  # streams of random numbers


class BadImageWarning(UserWarning):
    """A picture cannot be read and another one is taken in its place; the message names it."""


def read_record(record: AnnotatedImage) -> np.ndarray:
    """``record.read()``: the picture of a record from its file, (h, w, 3) uint8, RGB."""
    return record.read()


class AnyWordDataset(Dataset):
    """Samples of annotated pictures, built on access.

    Workers, ranks and a resumed run agree on every item.  A picture that cannot be read is skipped: the next one of the
    data set takes its place, a BadImageWarning says so, and ``Sample.skipped`` and ``AnyTextBatch.skipped`` carry the
    report from the workers to the training process.

    Args:
        records: annotated pictures: a list, or an index that reads them when asked.  If it has a method ``wm_scores()``
            (float array, NaN where there is none), the watermark filter uses it instead of reading all records.
        config: how samples are made.
        seed: of the subset and of everything random in the samples.
        percent: share of the pictures to keep, in (0, 1]: a random choice drawn with ``seed``, not the first ones.
        read_image: from a record to its picture (h, w, 3) uint8, RGB; a PictureError means that it
            cannot be read.

    Raises:
        OptionError: ``percent`` is out of range, or no picture is left.
    """

    def __init__(self, records: Sequence[AnnotatedImage], config: SampleConfig | None = None, seed: int = 0,
                 percent: float = 1.0, read_image: Callable[[AnnotatedImage], np.ndarray] = read_record):
        if not 0 < percent <= 1:
            raise OptionError(f"percent is a share in (0, 1], got {percent}: 0.1 keeps a tenth of the pictures")
        self.records, self.config, self.seed = records, config or SampleConfig(), int(seed)
        self.read_image, self.epoch = read_image, 0
        kept = _below(records, self.config.wm_thresh)
        self.watermarked = len(records) - len(kept)
        self.rows = _subset(kept, percent, self.seed)
        if not len(self.rows):
            raise OptionError(f"no picture is left of {len(records)}: {self.watermarked} have a watermark score "
                                  f"above wm_thresh = {self.config.wm_thresh}, and percent = {percent}")

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose items are made; call it before the workers of that epoch start."""
        self.epoch = int(epoch)

    def __getitem__(self, i: int) -> Sample:
        """Sample ``i``; see the class for pictures that cannot be read.

        Raises:
            IndexError: there is no such item. AnyWordError: 32 pictures one after the other cannot be read.
        """
        i = int(i)
        if not -len(self) <= i < len(self):
            raise IndexError(f"item {i} of a data set of {len(self)} pictures")
        i %= len(self)
        skipped: list[str] = []
        for j in range(min(len(self), MOST_TRIES)):
            row = int(self.rows[(i + j) % len(self)])
            record = self.records[row]
            try:
                image = _checked(self.read_image(record))
            except PictureError as error:
                skipped.append(f"{record.path}: the picture cannot be read: {error}")
                warnings.warn(f"{skipped[-1]}; the next one is taken in its place", BadImageWarning, stacklevel=2)
                continue
            rng = np.random.default_rng([self.seed, self.epoch, i, _ITEM])
            sample = build_sample(image, record, self.config, rng)
            return replace(sample, index=row, skipped=tuple(skipped))
        raise AnyWordError(f"{len(skipped)} pictures one after the other cannot be read; is data_root right? The first "
                           f"is {skipped[0]}. `anytext data check` lists all")


def _checked(image: np.ndarray) -> np.ndarray:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,) or 0 in image.shape:
        raise PictureError("it is not an array (h, w, 3) of uint8")
    return image


def _below(records: Sequence[AnnotatedImage], threshold: float) -> np.ndarray:
    """Indices of the records whose watermark score is not above ``threshold``, or that have none."""
    if threshold >= 1:
        return np.arange(len(records))
    if hasattr(records, "wm_scores"):
        scores = np.asarray(records.wm_scores(), np.float64)
    else:
        scores = np.array([math.nan if r.wm_score is None else r.wm_score for r in records], np.float64)
    return np.flatnonzero(~(scores > threshold))


def _subset(rows: np.ndarray, percent: float, seed: int) -> np.ndarray:
    if percent == 1 or not len(rows):
        return rows
    count = max(1, round(percent * len(rows)))
    return np.sort(np.random.default_rng([seed, _SUBSET]).choice(rows, count, replace=False))
