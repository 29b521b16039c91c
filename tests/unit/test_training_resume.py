"""Runs that are stopped: resumed, they end with bit-identical weights."""
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from anytext_lib.cli import main
from anytext_lib.files import data_folder
from anytext_lib.training import cli
from anytext_lib.training.run_files import checkpoints_in

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

STEPS = 5


def arguments(runs: Path, name: str, *more: str) -> list[str]:
    """A run of five steps in epochs of three, with everything that has a state: average, accumulation, schedules."""
    return ["--config", "tiny.yaml", "--runs", str(runs), "--name", name, "--max_steps", str(STEPS), "--train",
            str(data_folder() / "annotations.json"), "--val", "null", "--percent", "0.125", "--batch_size", "1",
            "--grad_accum", "2", "--save_steps", "2", "--loss_alpha", "0.01", "--loss_start", "2", "--ema", "0.9",
            "--lr_schedule", "cosine", "--learning_rate", "1e-3", "--progress.every", "100", "--trainer.logger",
            "false", *more]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def uninterrupted(runs):
    """The state at the end of a run that nobody disturbed."""
    assert main(["fit", *arguments(runs, "whole")]) == 0
    assert [path.name for path in checkpoints_in(runs / "whole" / "checkpoints")] == [
        f"step={step:07d}.ckpt" for step in (2, 4, 5)]
    return final_state(runs / "whole")


def final_state(run: Path) -> dict:
    """Weights, optimizer, schedule and average at the last step."""
    state = torch.load(run / "checkpoints" / f"step={STEPS:07d}.ckpt", weights_only=True)
    average = [value for key, value in state["callbacks"].items() if "ExponentialAverage" in key]
    return {"weights": state["state_dict"], "optimizer": state["optimizer_states"], "lr": state["lr_schedulers"],
            "average": average, "step": state["global_step"],
            "batches": state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"]}


def assert_equal(a, b, where="state"):
    """Bit by bit."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f"{where}[{i}]")
    else:
        assert a == b, where


@pytest.mark.parametrize("step", [1, 3])  # in the middle of an epoch, and after its last batch
def test_sigterm_saves_and_the_run_goes_on_bit_identically(runs, uninterrupted, monkeypatch, capsys, step):
    assert threading.current_thread() is threading.main_thread()
    name = f"terminated{step}"

    class Terminate(pl.Callback):
        def on_before_zero_grad(self, trainer, module, optimizer):
            if trainer.global_step == step - 1:
                os.kill(os.getpid(), signal.SIGTERM)

    callbacks = cli.AnyTextCLI._callbacks
    with monkeypatch.context() as patch:
        patch.setattr(cli.AnyTextCLI, "_callbacks", lambda self, config: [Terminate(), *callbacks(self, config)])
        assert main(["fit", *arguments(runs, name, "--save_steps", "0")]) == 143
    assert f"stopped by a signal after step {step}" in capsys.readouterr().err
    assert [path.name for path in checkpoints_in(runs / name / "checkpoints")] == [f"step={step:07d}.ckpt"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert main(["fit", *arguments(runs, name, "--save_steps", "0", "--ckpt_path", "last")]) == 0
    assert_equal(final_state(runs / name), uninterrupted)


KILLED = """
import json, os, signal, sys
import torch
from anytext_lib.cli import main
from anytext_lib.training import run_files

real, saves = torch.save, []

def dies(value, file):
    saves.append(value)
    if len(saves) < 2:
        return real(value, file)
    import io
    whole = io.BytesIO()
    real(value, whole)
    file.write(whole.getvalue()[: whole.tell() // 2])
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

run_files.torch.save = dies
main(["fit", *json.loads(sys.argv[1])])
"""


def test_killed_while_saving_the_run_goes_on_bit_identically(runs, uninterrupted):
    """SIGKILL when half of the second checkpoint is written: the half is never taken for a checkpoint."""
    done = subprocess.run([sys.executable, "-c", KILLED, json.dumps(arguments(runs, "killed"))], capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = runs / "killed" / "checkpoints"
    (partial,) = folder.glob(".*.partial")
    assert partial.stat().st_size > 0
    assert [path.name for path in checkpoints_in(folder)] == ["step=0000002.ckpt"]
    assert main(["fit", *arguments(runs, "killed", "--ckpt_path", "last")]) == 0
    assert not partial.exists()
    assert_equal(final_state(runs / "killed"), uninterrupted)


def test_a_run_leaves_its_configuration_and_its_model(runs, uninterrupted):
    import yaml

    from anytext_lib.models import AnyText2Model

    config = yaml.safe_load((runs / "whole" / "config.yaml").read_text(encoding="utf-8"))
    assert config["model"]["loss_alpha"] == 0.01 and config["grad_accum"] == 2
    assert uninterrupted["step"] == 5 and uninterrupted["batches"] == 10
    model = AnyText2Model.from_pretrained(runs / "whole" / "model")
    (average,) = [part["average"] for part in uninterrupted["average"]]
    name = "writenet.fuse_block.weight"
    assert torch.equal(dict(model.named_parameters())[name], average[name])  # the average is what is handed on


def test_the_defaults_for_generation_go_along_and_the_abilities_do_not(runs, uninterrupted):
    start = runs / "whole" / "model"
    defaults = {"width": 192, "height": 64, "cfg_scale": 1.0, "capabilities": {"colors": "brightness"}}
    (start / "generation.json").write_text(json.dumps(defaults), encoding="utf-8")
    assert main(["fit", *arguments(runs, "tuned", "--model.model", str(start), "--max_steps", "1")]) == 0
    written = json.loads((runs / "tuned" / "model" / "generation.json").read_text(encoding="utf-8"))
    assert written == {"width": 192, "height": 64, "cfg_scale": 1.0}


def test_validation_with_the_configuration_of_a_run(runs, uninterrupted, capsys):
    """`anytext validate` takes the run's own configuration and checkpoint, and measures with the average."""
    status = main(["validate", "--config", str(runs / "whole" / "config.yaml"), "--ckpt_path", "last", "--val",
                           str(data_folder() / "annotations.json"), "--val_limit", "1", "--judge.steps", "2"])
    shown = capsys.readouterr()
    assert status == 0 and "v/sen_acc" in shown.out and "v/sim" in shown.out


def test_last_needs_a_checkpoint_and_auto_does_not(runs, capsys):
    """A misspelt --name must not train anew; a job that restarts itself says so by `auto`."""
    for command in ("fit", "validate"):
        assert main([command, *arguments(runs, "fresh", "--ckpt_path", "last")]) == 2
        said = capsys.readouterr().err
        assert "--ckpt_path last: there is no checkpoint in" in said and "--ckpt_path auto" in said
        assert not (runs / "fresh").exists()
    assert main(["fit", *arguments(runs, "fresh", "--ckpt_path", "auto", "--max_steps", "1")]) == 0
    assert checkpoints_in(runs / "fresh" / "checkpoints")[-1].name == "step=0000001.ckpt"
    assert main(["fit", *arguments(runs, "fresh", "--ckpt_path", "auto", "--max_steps", "2")]) == 0
    assert [path.name for path in checkpoints_in(runs / "fresh" / "checkpoints")] == [
        "step=0000001.ckpt", "step=0000002.ckpt"]


def test_a_run_is_not_overwritten(runs, uninterrupted, capsys):
    before = {path: path.stat().st_mtime_ns for path in (runs / "whole").rglob("*")}
    assert main(["fit", *arguments(runs, "whole")]) == 2
    said = capsys.readouterr().err
    assert "whole holds checkpoints up to step=0000005 and would be overwritten" in said and "--ckpt_path last" in said
    assert {path: path.stat().st_mtime_ns for path in (runs / "whole").rglob("*")} == before


def test_damaged_checkpoints_are_no_new_start(runs, capsys):
    folder = runs / "broken" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "step=0000002.ckpt").write_bytes(b"PK" + b"x" * 100)
    for word in ("last", "auto"):
        assert main(["fit", *arguments(runs, "broken", "--ckpt_path", word)]) == 2
        assert "step=0000002.ckpt are cut off" in capsys.readouterr().err


def test_validation_says_what_it_did_not_compute(runs, uninterrupted, capsys):
    """A loss without a weight is no 0.0: it was not looked at."""
    status = main(["validate", "--config", str(runs / "whole" / "config.yaml"), "--ckpt_path", "last", "--val",
                   str(data_folder() / "annotations.json"), "--val_limit", "1", "--judge.steps", "1"])
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("v/"))
    assert status == 0 and float(rows["v/ocr"]) > 0 and float(rows["v/sim"]) > 0
    assert rows["v/ctc"] == "not computed: loss_beta is 0; --monitor_every 1 shows the unweighted term"
