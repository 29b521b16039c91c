"""How many files a reader opens to follow a batch, a training step, and a generated picture from top to bottom."""
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

import anytext_lib
from anytext_lib.data.batch import collate
from anytext_lib.files import data_folder
from anytext_lib.models import AnyText2Model
from anytext_lib.training import AnyText2Training, AnyTextData

ROOT = Path(anytext_lib.__file__).parent
# files in all, and without the networks (models/ and ocr/); limits may only fall
STEP, BATCH, PICTURE = (19, 11), (12, 12), (24, 15)


@contextmanager
def traced() -> Iterator[set[str]]:
    """Files of the library whose functions run within the block."""
    files: set[str] = set()

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(ROOT)) and code.co_name != "<module>":
            files.add(str(Path(code.co_filename).relative_to(ROOT)))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield files
    finally:
        sys.setprofile(before)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return AnyText2Model.from_config("tiny")


@pytest.fixture(scope="module")
def pictures():
    data = AnyTextData(train=str(data_folder() / "annotations.json"), batch_size=2, image_size=(32, 64))
    data.setup("fit")
    return data.train_set


def within(files: set[str], limits: tuple[int, int]) -> None:
    followed = {file for file in files if not file.startswith(("models/", "ocr/"))}
    assert len(files) <= limits[0] and len(followed) <= limits[1], (
        f"{len(files)} files, {len(followed)} without the networks: " + ", ".join(sorted(files)))


def test_a_batch(pictures):
    """From annotated pictures to tensors."""
    with traced() as files:
        collate([pictures[i] for i in range(2)])
    within(files, BATCH)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_training_step(model, pictures, tmp_path):
    """Forward with both OCR losses, backward, and the step of the optimizer."""
    files: set[str] = set()

    class Trace(pl.Callback):
        def on_train_batch_start(self, *_):
            self.block = traced()
            self.files = self.block.__enter__()

        def on_train_batch_end(self, *_):
            self.block.__exit__(None, None, None)
            files.update(self.files)

    trainer = pl.Trainer(default_root_dir=tmp_path, accelerator="cpu", devices=1, max_steps=1, logger=False,
                         enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                         callbacks=[Trace()])
    batch = collate([pictures[i] for i in range(2)])
    module = AnyText2Training(model, loss_alpha=0.01, loss_beta=0.01)
    trainer.fit(module, torch.utils.data.DataLoader([batch], batch_size=None))
    assert module.trainer.global_step == 1 and {"t/ocr", "t/ctc"} <= set(trainer.callback_metrics)
    within(files, STEP)


def test_a_picture(model):
    """From a prompt to a picture."""
    from anytext_lib.generation import AnyText2Pipeline

    pipeline = AnyText2Pipeline(model.eval())
    with traced() as files:
        pipeline('a sign that says "Tea"', ddim_steps=2, width=96, height=48)
    within(files, PICTURE)
