"""`anytext fit` and `anytext validate` of UDiffText: the command line of AnyText2's training around another module.

A configuration says by ``system: udifftext`` that it is meant for this one (see ``training.cli.SYSTEMS``).
"""

from __future__ import annotations

import json
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.models.freezing import eval_mode
from anytext_lib.ocr.judge import Judge
from anytext_lib.training import cli
from anytext_lib.training.callbacks import ImageLogger, TextJudge
from anytext_lib.training.callbacks.average import Measurement
from anytext_lib.training.callbacks.sampling import grid
from anytext_lib.udifftext.euler import Sampling, write_words
from anytext_lib.udifftext.word_data import UDiffTextData
from anytext_lib.udifftext.word_losses import measure_sequence_accuracy, sequence_accuracy
from anytext_lib.udifftext.word_training import UDiffTextTraining

SHOWN = 8  # rows of the picture


class WordJudge(Measurement):
    """Writes the words of the first validation pictures and reads them.

    Logs v/seq_acc, and v/seq_acc_refined with ``refine``; writes ``RUN/images/step=N.png`` and what was read in
    ``step=N.json``.

    Args:
        every: optimizer steps between two measurements; 0 never during training. `validate` always measures.
        images: number of words. ``judge``: name of the judge, see Judge.from_name.
        steps, guidance, candidates: see ``Sampling``. ``refine``: write each word a second time with refinement.
        seed: of the noise, the same at every measurement.
    """

    def __init__(self, every: int = 0, images: int = 32, judge: str = "ppocrv4", steps: int = 50,
                 guidance: float = 5.0, candidates: int = 1, refine: bool = False, seed: int = 100):
        super().__init__(every)
        self.images, self.judge, self.seed = images, judge, seed
        self.steps, self.guidance, self.candidates, self.refine = steps, guidance, candidates, refine
        self.reader: Judge | None = None

    def measure(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, float]:
        """The figures, a line of them in the output and the picture; nothing where there is no validation set."""
        if getattr(trainer.datamodule, "val_set", None) is None:
            return {}
        self.reader = self.reader or Judge.from_name(self.judge)
        size = trainer.datamodule.hparams.val_batch_size or trainer.datamodule.hparams.batch_size
        scores, rows, pictures = {}, [], []
        with eval_mode(module.model):
            for batch in trainer.datamodule.plain_batches(self.images, size):
                pictures.append(self._write(module, batch.to(module.device), rows))
        for name in self._ways():
            read, wanted = ([row[key] for row in rows] for key in (name, "wanted"))
            scores[f"v/seq_acc{name.removeprefix('written')}"] = sequence_accuracy(read, wanted)
        self._keep(trainer, pictures, rows)
        rank_zero_info(f"step {trainer.global_step}: {self.judge} reads {len(rows)} written words: "
                       + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()))
        return scores

    def _ways(self) -> list[str]:
        return ["written", "written_refined"] if self.refine else ["written"]

    def _write(self, module, batch: AnyTextBatch, rows: list[dict]) -> dict[str, torch.Tensor]:
        """Make the columns of pictures of one batch; appends wanted and read texts to ``rows``."""
        columns = {"input": batch.images.cpu(), "masked": batch.masked_images.cpu()}
        read = {"wanted": batch.lines.texts}
        for name in self._ways():
            sampling = Sampling(self.steps, self.guidance, self.candidates, refine=name != "written",
                                layers=module.hparams.layers, min_size=module.hparams.min_size)
            columns[name] = write_words(module.model, batch, sampling, seed=self.seed,
                                        places=[int(i) for i in batch.indices]).images.cpu()
            read[name] = measure_sequence_accuracy(columns[name], batch.lines, self.reader)[1]
        rows += [dict(zip(read, values, strict=True)) for values in zip(*read.values(), strict=True)]
        return columns

    @staticmethod
    def _keep(trainer: pl.Trainer, pictures: list[dict[str, torch.Tensor]], rows: list[dict]) -> None:
        import cv2

        folder, name = Path(trainer.default_root_dir) / "images", f"step={trainer.global_step:07d}"
        folder.mkdir(parents=True, exist_ok=True)
        columns = {key: torch.cat([part[key] for part in pictures])[:SHOWN] for key in pictures[0]}
        page = grid({key: images.clamp(-1, 1) for key, images in columns.items()}, SHOWN)
        (folder / f"{name}.png").write_bytes(cv2.imencode(".png", page[..., ::-1])[1].tobytes())
        text = json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


SECTIONS = {name: cls for name, cls in cli.SECTIONS.items() if name not in ("images", "judge")}
SECTIONS |= {"model": UDiffTextTraining, "data": UDiffTextData, "words": WordJudge}


class UDiffTextCLI(cli.AnyTextCLI):
    """AnyText2's, with a callback that writes words in the place of the two that sample AnyText2."""

    sections = SECTIONS

    def add_arguments_to_parser(self, parser) -> None:
        """Those of AnyText2's, and the options of that callback."""
        super().add_arguments_to_parser(parser)
        parser.add_lightning_class_args(WordJudge, "words")

    def _callbacks(self, config) -> list:
        others = [part for part in super()._callbacks(config) if not isinstance(part, (ImageLogger, TextJudge))]
        return [config.words, *others]
