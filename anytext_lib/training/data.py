"""Training and validation data as a LightningDataModule, and the order in which a run visits them.

The order comes from the seed and the epoch only, is split by process, and goes on in the middle of an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from anytext_lib.data.batch import AnyTextBatch, collate
from anytext_lib.data.dataset import AnyWordDataset
from anytext_lib.data.index import AnyWordIndex
from anytext_lib.data.sample import SampleConfig
from anytext_lib.errors import MissingFileError, OptionError
from anytext_lib.randomness import generator

SCENES = "scenes"


class AnyTextData(pl.LightningDataModule):
    """Batches of annotated pictures, or of scenes that are drawn on the fly.

    Args:
        train: "scenes", or annotations in the AnyWord form: a JSON, its index (.arrow), a folder of indices, or a list
            of these, as '[a.json, b.json]'. The index of a JSON is built beside it, once.
        val: the same for validation; null for none.
        batch_size: samples of one process in one step (an optimizer step has grad_accum times as many).
        val_batch_size: null for batch_size.
        num_workers: processes that make samples; 0 makes them in the training process.
        percent: share of the training records, a sample drawn from the seed.
        val_limit: most validation samples, the first ones; null for all.
        scenes: arguments of SceneDataset for training (such as epoch_length).
        val_scenes: arguments of SceneDataset for validation.
        image_size: height and width in pixels.
        glyph_scale: size of the glyph image in multiples of the image, 1 or 2.
        max_lines: most lines of an image. max_chars: most characters of a line.
        mask_ratio: probability of an editing sample.
        font_hint_prob: probability that a sample has a font hint.
        font_hint_area: least and greatest share of the hint that is kept.
        font_hint_randaug: turn, shift and scale the hint.
        color_prob: probability that the colours are given.
        wm_thresh: pictures with a higher watermark score are left out.
        rand_font: draw the glyphs in random fonts of those that can write the text.
        font: name of a font of the course, or a font file, for the texts that it can write; null takes the first that
            can. fonts: the same by language, one or several, asked before those of the course, for example
            '{Japanese: /path/to/NotoSansJP.ttf}'.
        position_jitter: sometimes grow or shrink the position masks; off, the true features can be kept.
        seed: of order and samples; linked to seed_everything on the command line.
    """

    def __init__(self, train: str | list[str] = "scenes", val: str | list[str] | None = None, batch_size: int = 3,
                 val_batch_size: int | None = None, num_workers: int = 0, percent: float = 1.0,
                 val_limit: int | None = None, scenes: dict[str, Any] | None = None,
                 val_scenes: dict[str, Any] | None = None, image_size: tuple[int, int] = (512, 512),
                 glyph_scale: int = 1, max_lines: int = 5, max_chars: int = 20, mask_ratio: float = 0.5,
                 font_hint_prob: float = 0.8, font_hint_area: tuple[float, float] = (0.7, 1.0),
                 font_hint_randaug: bool = True, color_prob: float = 1.0, wm_thresh: float = 1.0,
                 rand_font: bool = False, font: str | None = None,
                 fonts: dict[str, str | list[str]] | None = None, position_jitter: bool = True, seed: int = 0):
        super().__init__()
        self.save_hyperparameters()
        self.train_set = self.val_set = None

    def sample_config(self):
        """The SampleConfig of these options."""
        names = ("image_size", "glyph_scale", "max_lines", "max_chars", "mask_ratio", "font_hint_prob",
                 "font_hint_area", "font_hint_randaug", "color_prob", "wm_thresh", "rand_font",
                 "font", "fonts", "position_jitter")
        return SampleConfig(**{name: self.hparams[name] for name in names})

    def prepare_data(self) -> None:
        """Build the indices that are missing, in one process of a machine while the others wait."""
        training = self.trainer is None or self.trainer.state.fn == "fit"
        for source in (self.hparams.train if training else None, self.hparams.val):
            for path in [] if source is None else self.annotations(source):
                read_records(path)

    def annotations(self, source: str | Sequence[str]) -> list[str]:
        """The annotation files of a source, whose indices are built first."""
        return [] if source == SCENES else [source] if isinstance(source, str) else list(source)

    def dataset(self, source: str | Sequence[str], percent: float, scenes: dict[str, Any] | None, split: str):
        """A map-style data set of samples, see ``build_dataset``."""
        return build_dataset(source, self.sample_config(), self.hparams.seed, percent, scenes, split)

    def setup(self, stage: str) -> None:
        h = self.hparams
        if stage == "fit" and self.train_set is None:
            self.train_set = self.dataset(h.train, h.percent, h.scenes, "train")
        if h.val is not None and self.val_set is None:
            found = self.dataset(h.val, 1.0, h.val_scenes, "validation")
            self.val_set = found if h.val_limit is None else Subset(found, range(min(h.val_limit, len(found))))

    def train_dataloader(self) -> ResumableLoader:
        return self._loader(self.train_set, self.hparams.batch_size, True)

    def val_dataloader(self) -> ResumableLoader | list:
        if self.val_set is None:
            return []
        return self._loader(self.val_set, self.hparams.val_batch_size or self.hparams.batch_size, False)

    def plain_batches(self, count: int, size: int | None = None) -> Iterator[AnyTextBatch]:
        """Batches of the first ``count`` validation samples, in order, on the CPU; the same in every process."""
        size, count = size or self.hparams.val_batch_size or self.hparams.batch_size, min(count, len(self.val_set))
        for start in range(0, count, size):
            yield collate([self.val_set[i] for i in range(start, min(start + size, count))])

    def transfer_batch_to_device(self, batch: AnyTextBatch, device: torch.device, dataloader_idx: int) -> AnyTextBatch:
        """Move a batch; Lightning does not know the class."""
        return batch.to(device, non_blocking=True)

    def _loader(self, dataset, batch_size: int, training: bool) -> ResumableLoader:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = EpochBatches(len(dataset), batch_size, self.hparams.seed, training, rank, world, drop_last=training)
        pin = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return ResumableLoader(dataset, batches, collate, self.hparams.num_workers, pin)


def build_dataset(source: str | Sequence[str], config, seed: int, percent: float = 1.0,
                  scenes: dict[str, Any] | None = None, split: str = "train"):
    """A map-style data set of Samples.

    Args:
        source: "scenes"; or what ``read_records`` takes, one or several.
        config: the SampleConfig. ``seed``: of everything random about a sample. ``percent``: share of the records.
        scenes: arguments of SceneDataset besides ``config`` and ``seed``. ``split``: of the scenes, where ``scenes``
            does not say.

    Raises:
        MissingFileError: there is no such file or folder. OptionError: no record is left.
        AnyWordError, StaleIndexError: a file is malformed, or an index out of date.
    """
    if source == SCENES:
        from anytext_lib.scenes.scene_dataset import SceneDataset

        return SceneDataset(config=config, seed=seed, **{"split": split, **(scenes or {})})
    paths = [source] if isinstance(source, str) else list(source)
    parts = [part for path in paths for part in read_records(path)]
    records = parts[0] if len(parts) == 1 else Chained(parts)
    if len(records) == 0:
        raise OptionError(f"no picture in {', '.join(map(str, paths))}: name the pictures in data_list")
    return AnyWordDataset(records, config, seed=seed, percent=percent)


def read_records(path: str | Path) -> list:
    """The annotated pictures of a subset, mapped into memory: one AnyWordIndex, or those of a folder.

    Args:
        path: an annotation file (.json), whose index is built where it is missing or out of date; an index (.arrow) of
            `anytext data index`; or a folder: all indices in it, else its annotations.json.

    Raises:
        MissingFileError: there is no such file or folder, nothing in it, or the pictures' folder is gone.
        AnyWordError, StaleIndexError: a file is malformed, or an index out of date.
    """
    records = []
    for file in _files(Path(path)):
        records.append(AnyWordIndex.load(file) if file.suffix == ".arrow" else AnyWordIndex.open(file))
        if not records[-1].root.is_dir():
            raise MissingFileError(f"{file}: there is no folder {records[-1].root} with the pictures: correct "
                                    "data_root in the JSON (absolute, or relative to it), or restore the folder")
    return records


def _files(path: Path) -> list[Path]:
    """The annotation files or indices that a path names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise MissingFileError(f"no data {path}: give an annotation file (.json), an index made by `anytext data "
                                f"index` (.arrow), a folder of indices, or {SCENES!r}")
    if found := sorted(path.glob("*.arrow")):  # those beside a JSON begin with a dot, and are found as well
        return found
    if (path / "annotations.json").is_file():
        return [path / "annotations.json"]
    raise MissingFileError(f"neither an index (.arrow) nor an annotations.json in the folder {path}: name the JSON "
                            "itself, or build its index with `anytext data index`")


class Chained(Sequence):
    """Several indices as one sequence; nothing is copied."""

    def __init__(self, parts: Sequence):
        self.parts = list(parts)
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1]) if self.parts else 0

    def __getitem__(self, index: int):
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        part = int(np.searchsorted(self.ends, index, side="right"))
        return self.parts[part][int(index) - int(self.ends[part]) + len(self.parts[part])]

    def wm_scores(self) -> np.ndarray:
        """(len,) float64: the watermark scores of all, NaN where there is none."""
        return np.concatenate([part.wm_scores() for part in self.parts])


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
    """A map-style data set indexed by (epoch, index) pairs; its ``set_epoch``, if any, is called with the epoch."""

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
