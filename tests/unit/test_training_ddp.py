"""Two processes with half the batch each do what one process does: same loss, same gradients.

This file is also the program of the processes: test_training_ddp.py OUT PROCESSES BATCH_SIZE.
"""
import copy
import os
import socket
import subprocess
import sys
import warnings
from dataclasses import replace
from datetime import timedelta

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from anytext_lib.files import data_folder
from anytext_lib.models import AnyText2Model
from anytext_lib.training import AnyText2Training, AnyTextData

CASES = ("full", "blank")


class Recorder(pl.Callback):
    """Keeps loss, lines and gradients of the only step."""

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients = {name: p.grad.clone() for name, p in module.model.named_parameters() if p.grad is not None}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.loss, self.lines, self.names = float(outputs["loss"]), len(batch.lines), list(batch.names)


class Double(AnyText2Training):
    """In double precision: the recogniser's gradient is rough, and rounding would hide what is tested here."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.double()

    def prepare(self):
        super().prepare()
        self.instruments = replace(self.instruments, recognizer=copy.deepcopy(self.model.reader).double())


class Full(AnyTextData):
    """All pictures as they are."""

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        doubles = {name: value.double() for name, value in vars(batch).items()
                   if isinstance(value, torch.Tensor) and value.is_floating_point()}
        return replace(batch, **doubles)


class Blank(Full):
    """Pictures at odd places of a step lose their lines: with two processes, all of the second one's."""

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        world, rank = self.trainer.world_size, self.trainer.global_rank
        keep = [i for i in range(len(batch)) if (i * world + rank) % 2 == 0]
        rows = [r for r, image in enumerate(batch.lines.image_index.tolist()) if image in keep]
        return replace(batch, lines=batch.lines.select(rows), positions=batch.positions[rows],
                       glyph_lines=batch.glyph_lines[rows], colors=batch.colors[rows],
                       text_captions=[c if i in keep else "" for i, c in enumerate(batch.text_captions)])


def train_one_step(out: str, processes: int, batch_size: int) -> None:
    """One step of each case; what was computed goes to the files OUT-CASE-RANK.pt."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    start = AnyText2Model.from_config("tiny")
    for case, data_class in zip(CASES, (Full, Blank), strict=True):
        recorder = Recorder()
        strategy = DDPStrategy(find_unused_parameters=True, timeout=timedelta(seconds=200)) if processes > 1 else "auto"
        trainer = pl.Trainer(accelerator="cpu", devices=processes, max_steps=1, logger=False, callbacks=[recorder],
                             strategy=strategy,
                             enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                             use_distributed_sampler=False)
        module = Double(copy.deepcopy(start), loss_alpha=0.5, loss_beta=0.5)
        trainer.fit(module, data_class(train=str(data_folder() / "annotations.json"), percent=0.125,
                                       batch_size=batch_size, image_size=(32, 64), max_lines=1))
        found = {name: getattr(recorder, name) for name in ("loss", "lines", "names", "gradients")}
        torch.save(found, f"{out}-{case}-{trainer.global_rank}.pt")


def environment(rank: int, port: int) -> dict[str, str]:
    """What torchrun tells one of two processes."""
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}


def train_in_two_processes(out: str) -> None:
    """This process is the first, another one the second."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    second = subprocess.Popen([sys.executable, __file__, out, "2", "2"], stdout=subprocess.DEVNULL, text=True,
                              env={**os.environ, "OMP_NUM_THREADS": "1", **environment(1, port)},
                              stderr=subprocess.PIPE)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment(0, port).items():
                patch.setenv(name, value)
            train_one_step(out, 2, 2)
        _, errors = second.communicate(timeout=200)
        assert second.returncode == 0, errors[-3000:]
    finally:
        second.kill()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What one process with four samples and two with two each computed, by name of the case."""
    folder = tmp_path_factory.mktemp("ddp")
    with warnings.catch_warnings():
        train_in_two_processes(str(folder / "two"))
        train_one_step(str(folder / "one"), 1, 4)
    return {case: (torch.load(folder / f"one-{case}-0.pt", weights_only=True),
                   [torch.load(folder / f"two-{case}-{rank}.pt", weights_only=True) for rank in (0, 1)])
            for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(results, case):
    one, two = results[case]
    assert [name for pair in zip(*(part["names"] for part in two), strict=True) for name in pair] == one["names"]
    assert sum(part["loss"] for part in two) / 2 == pytest.approx(one["loss"], rel=1e-5)
    for part in two:
        found = {name: part["gradients"].get(name, torch.zeros_like(g)) for name, g in one["gradients"].items()}
        error = sum(float((found[name] - g).square().sum()) for name, g in one["gradients"].items()) ** 0.5
        whole = sum(float(g.square().sum()) for g in one["gradients"].values()) ** 0.5
        assert error <= 1e-5 * whole
        for name, g in one["gradients"].items():
            assert (found[name] - g).norm() <= 1e-5 * g.norm() + 1e-9 * whole, name


def test_a_process_without_lines_takes_part(results):
    _, (first, second) = results["blank"]
    assert first["lines"] > 0 and second["lines"] == 0 and first["loss"] != second["loss"]
    assert all(torch.equal(value, second["gradients"][name]) for name, value in first["gradients"].items())


if __name__ == "__main__":
    train_one_step(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
