"""Sen.Acc and NED of sampled images, by an independent judge and by the recogniser of the losses."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from anytext_lib.errors import OptionError
from anytext_lib.ocr.judge import JUDGES, Judge
from anytext_lib.training.callbacks.measurement import Measurement
from anytext_lib.training.sampled_text import score_samples


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
