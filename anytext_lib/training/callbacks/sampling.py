"""Pictures sampled during a run, and how much of their text is read correctly."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import lightning.pytorch as pl
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.errors import OptionError
from anytext_lib.evaluation.judge_samples import read_lines, score_samples
from anytext_lib.generation import sample_images
from anytext_lib.losses.step import text_region
from anytext_lib.models.freezing import eval_mode
from anytext_lib.ocr.judge import JUDGES, Judge
from anytext_lib.training.callbacks.average import EverySteps, Measurement, averaged_weights, takes_part

GAP, HEAD = 4, 18  # pixels between pictures, and above them for the names of the columns


class TextJudge(Measurement):
    """Samples images for the first validation conditions and reads them.

    Logs v/sen_acc and v/ned of the judge, v/sen_acc_trained_on and v/ned_trained_on of the losses' own recogniser: a
    gap between the two shows a model that pleases its recogniser only.

    Args:
        every: optimizer steps between two measurements; 0 never during training.  `anytext validate` always measures.
        images: number of images. ``judge``: name of the judge, see Judge.from_name.
        steps, guidance: of the DDIM sampler. ``seed``: of the noise, the same at every measurement.
    """

    def __init__(self, every: int = 0, images: int = 64, judge: str = "ppocrv4", steps: int = 20,
                 guidance: float = 1.0, seed: int = 100):
        super().__init__(every)
        if judge not in JUDGES:
            raise OptionError(f"there is no judge {judge!r}: choose one of {', '.join(sorted(JUDGES))}")
        self.images, self.judge = images, judge
        self.steps, self.guidance, self.seed = steps, guidance, seed
        self.readers: dict = {}

    def measure(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, float]:
        """The four figures, and a line of them in the output; nothing where there is no validation set."""
        batches = list(self._batches(trainer, module))
        if not batches:
            return {}
        if not self.readers:
            self.readers = {"judge": Judge.from_name(self.judge), "own": module.instruments.recognizer}
        found = score_samples(module.model, batches, self.readers, self.steps, self.guidance, self.seed)
        judge, own = found["judge"], found["own"]
        rank_zero_info(f"step {trainer.global_step}: {self.judge} reads {judge.lines} sampled lines: Sen.Acc "
                       f"{judge.sentence_accuracy:.3f}, NED {judge.ned:.3f}; the recogniser of the losses: "
                       f"{own.sentence_accuracy:.3f}, {own.ned:.3f}")
        return {"v/sen_acc": judge.sentence_accuracy, "v/ned": judge.ned,
                "v/sen_acc_trained_on": own.sentence_accuracy, "v/ned_trained_on": own.ned}

    def _batches(self, trainer: pl.Trainer, module: pl.LightningModule):
        if getattr(trainer.datamodule, "val_set", None) is None:
            return
        left = self.images
        for batch in trainer.datamodule.plain_batches(self.images):
            yield batch.to(module.device)
            left -= len(batch)
            if left <= 0:
                return


class ImageLogger(pl.Callback):
    """Writes ``RUN/images/step=N.png``, one row a sample, and ``step=N.json`` with what the recogniser reads.

    Columns: input, reconstruction by the auto-encoder, glyphs, positions, masked image, sample without and with
    guidance.  The samples are the first of the validation set, or of the current batch if there is none.

    Args:
        every: optimizer steps between two pictures; 0 never. ``images``: rows.
        steps, guidance, seed: of the DDIM sampler.
    """

    def __init__(self, every: int = 1000, images: int = 4, steps: int = 20, guidance: float = 7.5, seed: int = 100):
        self.every, self.images = every, images
        self.steps, self.guidance, self.seed = steps, guidance, seed

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.due = EverySteps(self.every, trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        if self.due.due(trainer) and takes_part(trainer, module):
            self.write(trainer, module, batch)

    def write(self, trainer: pl.Trainer, module: pl.LightningModule, batch: AnyTextBatch) -> None:
        """Make the picture of this step now."""
        batch = self._shown(trainer, module, batch)
        with averaged_weights(trainer, module), eval_mode(module.model), torch.no_grad():
            columns = self.columns(module.model, batch)
        if not trainer.is_global_zero:
            return
        reader = module.instruments.recognizer
        picture = grid(columns, self.images)
        folder = Path(trainer.default_root_dir) / "images"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"step={trainer.global_step:07d}"
        _write_png(folder / f"{name}.png", picture)
        rows = _readings(columns, batch, reader)
        (folder / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        for logger in trainer.loggers:
            if hasattr(logger, "experiment") and hasattr(logger.experiment, "add_image"):
                logger.experiment.add_image("images", picture, trainer.global_step, dataformats="HWC")
                logger.experiment.add_text("read", _table(rows), trainer.global_step)

    def columns(self, model, batch: AnyTextBatch) -> dict[str, torch.Tensor]:
        """Name of the column -> images (B, 3, H, W) in [-1, 1]."""
        size = batch.images.shape[-2:]
        found = {
            "input": batch.images,
            "reconstruction": model.decode(model.encode(batch.images)),
            "glyphs": _rgb(F.interpolate(batch.glyphs, size)),
            "positions": _rgb(text_region(batch)),
            "masked image": batch.masked_images,
            "sample": sample_images(model, batch, self.steps, 1.0, self.seed),
        }
        if self.guidance != 1:
            guided = sample_images(model, batch, self.steps, self.guidance, self.seed)
            found[f"guidance {self.guidance:g}"] = guided
        return {name: images.float().clamp(-1, 1) for name, images in found.items()}

    def _shown(self, trainer: pl.Trainer, module: pl.LightningModule, batch: AnyTextBatch) -> AnyTextBatch:
        if getattr(trainer.datamodule, "val_set", None) is None:
            return batch
        return next(trainer.datamodule.plain_batches(self.images, self.images)).to(module.device)


def grid(columns: dict[str, torch.Tensor], rows: int) -> np.ndarray:
    """The first ``rows`` images of each column side by side under its name, (H', W', 3) uint8."""

    first = next(iter(columns.values()))
    rows, (height, width) = min(rows, len(first)), first.shape[-2:]
    page = np.full((HEAD + rows * (height + GAP), len(columns) * (width + GAP) - GAP, 3), 255, np.uint8)
    for c, (name, images) in enumerate(columns.items()):
        left = c * (width + GAP)
        (wide, _), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
        size = 0.4 * min(1.0, width / wide)
        cv2.putText(page, name, (left + 2, HEAD - 5), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
        pixels = ((images[:rows] + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        for r in range(rows):
            top = HEAD + r * (height + GAP)
            page[top : top + height, left : left + width] = pixels[r]
    return page


def _readings(columns: dict[str, torch.Tensor], batch: AnyTextBatch, reader) -> list[dict]:
    """For each line: its picture, the text wanted, and what the recogniser reads in each column that shows text."""
    shown = {name: images for name, images in columns.items() if name in ("input", "reconstruction", "sample")
             or name.startswith("guidance")}
    wanted: list[str] = []
    found = {}
    for name, images in shown.items():
        wanted, texts = read_lines(images, batch, {"own": reader})
        found[name] = texts["own"]
    return [{"wanted": text, **{name: texts[i] for name, texts in found.items()}} for i, text in enumerate(wanted)]


def _table(rows: list[dict]) -> str:
    """Markdown table of readings."""
    if not rows:
        return "no line"
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(str(row[name]).replace("|", "/") for name in names) + " |"
                              for row in rows])


def _rgb(mask: torch.Tensor) -> torch.Tensor:
    """A mask (B, 1, H, W) in [0, 1] as images in [-1, 1]."""
    return mask.expand(-1, 3, -1, -1) * 2 - 1


def _write_png(path: Path, page: np.ndarray) -> None:

    done, data = cv2.imencode(".png", page[..., ::-1])
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {page.shape}")
    path.write_bytes(data.tobytes())
