"""Two processes that train together, and one that does the same alone; in double precision.

This file is also the program of the second process: it calls FUNCTION ARGUMENT... -- as often as it is told.
"""

from __future__ import annotations

import copy
import io
import os
import signal
import socket
import subprocess
import sys
import warnings
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from anytext_lib.cli import main
from anytext_lib.files import data_folder
from anytext_lib.models import AnyText2Model
from anytext_lib.models.sharding import whole
from anytext_lib.training import AnyText2Training, AnyTextData, run_files
from anytext_lib.training.callbacks import ExponentialAverage
from anytext_lib.training.run_files import AtomicCheckpointIO
from anytext_lib.training.strategy import ShardedStrategy

ROOT = Path(__file__).parents[2]
WAIT = timedelta(seconds=300)


class Recorder(pl.Callback):
    """Keeps loss, lines and names of the batches, and the gradients of the optimizer steps."""

    def __init__(self):
        self.loss, self.lines, self.names, self.gradients = [], [], [], []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients.append({name: whole(p.grad).clone() for name, p in module.model.named_parameters()
                               if p.grad is not None})

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.loss.append(float(outputs["loss"]))
        self.lines.append(len(batch.lines))
        self.names += batch.names


class SaveOnce(pl.Callback):
    """Saves the state after the first optimizer step."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 1 and not trainer.fit_loop._should_accumulate():
            trainer.save_checkpoint(self.path)


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


STRATEGIES = {"alone": lambda: "auto", "ddp": lambda: DDPStrategy(find_unused_parameters=True, timeout=WAIT),
              "fsdp2": lambda: ShardedStrategy(timeout=WAIT)}
ONE_STEP = {"max_steps": 1}
UNEVEN = {"max_steps": -1, "max_epochs": 1, "accumulate_grad_batches": 2}  # seven pictures: three batches, two steps
CASES = {"full": (Full, 0.125, ONE_STEP, {}), "blank": (Blank, 0.125, ONE_STEP, {}),
         "uneven": (Full, 0.15, UNEVEN, {}), "checkpointed": (Full, 0.125, ONE_STEP, {"gradient_checkpointing": True}),
         "everything": (Full, 0.125, ONE_STEP, {"train_all": True})}
"""Data, share of the pictures, options of the Trainer and of the module."""


def start() -> AnyText2Model:
    """The weights that all start from."""
    torch.manual_seed(0)
    return AnyText2Model.from_config("tiny")


def fit(name: str, out: str, case: str, model: AnyText2Model, callbacks=(), resume: str | None = None):
    """Train one case by a strategy; the module and what the process computed, which goes to OUT-CASE-RANK.pt."""
    data, share, options, switches = CASES[case]
    recorder = Recorder()
    trainer = pl.Trainer(accelerator="cpu", devices=1 if name == "alone" else 2, strategy=STRATEGIES[name](),
                         callbacks=[recorder, *callbacks], plugins=[AtomicCheckpointIO()], logger=False,
                         enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                         use_distributed_sampler=False, **options)
    module = Double(copy.deepcopy(model), loss_alpha=0.5, loss_beta=0.5, **switches)
    pictures = data(train=str(data_folder() / "annotations.json"), percent=share, image_size=(32, 64), max_lines=1,
                    batch_size=(1 if case == "uneven" else 2) * (2 if name == "alone" else 1))
    trainer.fit(module, pictures, ckpt_path=resume)
    weights = {key: whole(value.detach()).clone() for key, value in module.model.named_parameters()}
    found = {key: getattr(recorder, key) for key in ("loss", "lines", "names", "gradients")}
    torch.save(found | {"weights": weights}, f"{out}-{case}-{trainer.global_rank}.pt")
    return module


def train(name: str, out: str, *cases: str) -> None:
    """Train cases one after the other."""
    warnings.simplefilter("ignore")
    model = start()
    for case in cases:
        fit(name, out, case, model)


def train_and_resume(name: str, out: str) -> None:
    """OUT.ckpt after the first of two steps, the same run gone on from there (OUT-resumed), the model in OUT-model."""
    warnings.simplefilter("ignore")
    model = start()
    module = fit(name, out, "uneven", model, [ExponentialAverage(0.9), SaveOnce(f"{out}.ckpt")])
    module.model.save_pretrained(f"{out}-model")
    average = ExponentialAverage(0.9)
    fit(name, f"{out}-resumed", "uneven", model, [average], f"{out}.ckpt")
    state = average.state_dict()
    torch.save(state, f"{out}-average-{module.global_rank}.pt")


def command(name: str, out: str, *arguments: str) -> None:
    """`anytext fit` with the tiny configuration and six pictures; OUT is the folder of runs."""
    status = main(["fit", "--config", "tiny.yaml", "--runs", out, "--name", "run", "--val", "null", "--percent",
                   "0.125", "--trainer.logger", "false", "--trainer.strategy", name, *arguments])
    if status:
        raise SystemExit(status)


def command_that_dies(name: str, out: str, *arguments: str) -> None:
    """The same, killed by SIGKILL when half of its second checkpoint is written."""
    real, saves = torch.save, []

    def dies(value, file):
        saves.append(value)
        if len(saves) < 2:
            return real(value, file)
        content = io.BytesIO()
        real(value, content)
        file.write(content.getvalue()[: content.tell() // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    run_files.torch.save = dies
    command(name, out, *arguments)


def environment(rank: int, port: int) -> dict[str, str]:
    """What torchrun tells one of two processes."""
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def begin(rank: int, port: int, *calls: tuple) -> subprocess.Popen:
    """A process that calls functions of this file one after the other, (function, ARGUMENT...) each."""
    words = [word for function, *arguments in calls for word in (function.__name__, *arguments, "--")]
    return subprocess.Popen([sys.executable, "-m", "tests.unit.two_processes", *words], stdout=subprocess.DEVNULL,
                            cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **environment(rank, port)},
                            text=True, stderr=subprocess.PIPE)


def apart(*calls: tuple) -> list[int]:
    """Exit statuses of two processes that call functions, see ``begin``."""
    port = free_port()
    both = [begin(rank, port, *calls) for rank in (0, 1)]
    try:
        return [process.wait(timeout=300) for process in both]
    finally:
        for process in both:
            process.kill()
            process.stderr.close()


def together(*calls: tuple) -> None:
    """Call functions, see ``begin``, in this process and a second."""
    port = free_port()
    second = begin(1, port, *calls)
    try:
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            for name, value in environment(0, port).items():
                patch.setenv(name, value)
            for function, *arguments in calls:
                function(*arguments)
        _, errors = second.communicate(timeout=200)
        assert second.returncode == 0, errors[-3000:]
    finally:
        second.kill()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def assert_same(one: dict, two: list[dict]) -> None:
    """The two processes looked at the one's pictures, and found its loss (mean), gradients and weights."""
    assert [name for pair in zip(*(part["names"] for part in two), strict=True) for name in pair] == one["names"]
    for i, loss in enumerate(one["loss"]):
        assert sum(part["loss"][i] for part in two) / 2 == pytest.approx(loss, rel=1e-5)
    for part in two:
        for wanted, found in zip(one["gradients"], part["gradients"], strict=True):
            assert_close(wanted, {name: found.get(name, torch.zeros_like(g)) for name, g in wanted.items()})
        assert_close(one["weights"], part["weights"])


def assert_close(wanted: dict, found: dict) -> None:
    """To 1e-5 of the whole, and of every tensor."""
    assert set(wanted) <= set(found)
    wanted = {name: value.double() for name, value in wanted.items()}
    found = {name: found[name].detach() for name in wanted}
    whole_norm = sum(float(w.square().sum()) for w in wanted.values()) ** 0.5
    error = sum(float((found[name] - w).square().sum()) for name, w in wanted.items()) ** 0.5
    assert error <= 1e-5 * whole_norm
    for name, w in wanted.items():
        assert (found[name] - w).norm() <= 1e-5 * w.norm() + 1e-9 * whole_norm, name


def results(out: str, case: str, count: int = 2) -> list[dict]:
    """What each process stored."""
    return [torch.load(f"{out}-{case}-{rank}.pt", weights_only=True) for rank in range(count)]


if __name__ == "__main__":
    words = sys.argv[1:]
    while words:
        end = words.index("--")
        globals()[words[0]](*words[1:end])
        words = words[end + 1:]
