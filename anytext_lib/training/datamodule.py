"""Training and validation data as a LightningDataModule; options have upstream's names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.training.loader import EpochBatches, ResumableLoader
from anytext_lib.training.sources import SCENES, build_dataset, read_records


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
        color_prob: probability that the colours are told.
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
        from anytext_lib.data.sample import SampleConfig

        names = ("image_size", "glyph_scale", "max_lines", "max_chars", "mask_ratio", "font_hint_prob",
                 "font_hint_area", "font_hint_randaug", "color_prob", "wm_thresh", "rand_font",
                 "font", "fonts", "position_jitter")
        return SampleConfig(**{name: self.hparams[name] for name in names})

    def prepare_data(self) -> None:
        """Build the indices that are missing, in one process of a machine while the others wait."""
        training = self.trainer is None or self.trainer.state.fn == "fit"
        for source in (self.hparams.train if training else None, self.hparams.val):
            for path in [] if source in (None, SCENES) else [source] if isinstance(source, str) else source:
                read_records(path)

    def setup(self, stage: str) -> None:
        h = self.hparams
        if stage == "fit" and self.train_set is None:
            self.train_set = build_dataset(h.train, self.sample_config(), h.seed, h.percent, h.scenes)
        if h.val is not None and self.val_set is None:
            found = build_dataset(h.val, self.sample_config(), h.seed, 1.0, h.val_scenes, "validation")
            self.val_set = found if h.val_limit is None else Head(found, h.val_limit)

    def train_dataloader(self) -> ResumableLoader:
        return self._loader(self.train_set, self.hparams.batch_size, True)

    def val_dataloader(self) -> ResumableLoader | list:
        if self.val_set is None:
            return []
        return self._loader(self.val_set, self.hparams.val_batch_size or self.hparams.batch_size, False)

    def plain_batches(self, count: int, size: int | None = None) -> Iterator[AnyTextBatch]:
        """Batches of the first ``count`` validation samples, in order, on the CPU; the same in every process."""
        from anytext_lib.data.batch import collate

        size, count = size or self.hparams.val_batch_size or self.hparams.batch_size, min(count, len(self.val_set))
        for start in range(0, count, size):
            yield collate([self.val_set[i] for i in range(start, min(start + size, count))])

    def transfer_batch_to_device(self, batch: AnyTextBatch, device: torch.device, dataloader_idx: int) -> AnyTextBatch:
        """Move a batch; Lightning does not know the class."""
        return batch.to(device, non_blocking=True)

    def _loader(self, dataset, batch_size: int, training: bool) -> ResumableLoader:
        from anytext_lib.data.batch import collate

        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = EpochBatches(len(dataset), batch_size, self.hparams.seed, training, rank, world, drop_last=training)
        pin = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return ResumableLoader(dataset, batches, collate, self.hparams.num_workers, pin)


class Head:
    """The first ``count`` samples of a data set."""

    def __init__(self, dataset, count: int):
        self.dataset, self.count = dataset, min(count, len(dataset))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        if not 0 <= index < self.count:
            raise IndexError(f"sample {index} of {self.count}")
        return self.dataset[index]
