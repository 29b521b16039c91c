"""A run that is killed without warning loses the steps since its last checkpoint, and no more."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from anytext_lib.cli import main
from anytext_lib.files import data_folder
from anytext_lib.training.cli import find_config
from anytext_lib.training.run_files import checkpoints_in
from tests.unit.two_processes import apart, command, command_that_dies, together

EVERY = 2


def arguments(runs: Path, *more: str) -> list[str]:
    return ["fit", "--config", "tiny.yaml", "--runs", str(runs), "--train", str(data_folder() / "annotations.json"),
            "--val", "null", "--batch_size", "1", "--save_steps", str(EVERY), "--save_epochs", "1", "--max_steps", "40",
            "--progress.every", "1", "--trainer.logger", "false", *more]


def test_sigkill_inside_the_first_epoch_loses_at_most_the_steps_between_two_saves(tmp_path, capsys):
    """48 pictures one at a time: the epoch would end after step 48. The process is killed once it has gone beyond a
    save; it goes on from there by the same command with `--ckpt_path last`."""
    process = subprocess.Popen([sys.executable, "-m", "anytext_lib.cli", *arguments(tmp_path)], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
    reached, lines, end = 0, [], time.monotonic() + 240
    while reached < EVERY + 1 and time.monotonic() < end:
        lines.append(process.stdout.readline())
        if lines[-1].startswith("step "):
            reached = int(lines[-1].split()[1].split("/")[0])
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and reached == EVERY + 1, lines
    saved = checkpoints_in(tmp_path / "tiny" / "checkpoints")
    assert saved and int(saved[-1].stem.removeprefix("step=")) >= reached - EVERY
    step = torch.load(saved[-1], weights_only=True)["global_step"]
    assert main(arguments(tmp_path, "--max_steps", str(step + 1))) == 2  # not without --ckpt_path
    assert "would be overwritten: go on with --ckpt_path last" in capsys.readouterr().err
    assert main(arguments(tmp_path, "--max_steps", str(step + 1), "--ckpt_path", "last")) == 0
    said = capsys.readouterr().out
    assert f"step {step + 1}/{step + 1}, epoch 0" in said and f"step {step}/" not in said


@pytest.mark.slow
def test_two_processes_go_on_when_one_is_killed_while_saving(tmp_path):
    """DDP: the first is killed by SIGKILL when half of its second checkpoint is written, the second ends with it."""
    options = ("--devices", "2", "--batch_size", "1", "--max_steps", "4", "--save_steps", "2", "--save_epochs", "0")
    killed, other = apart((command_that_dies, "auto", str(tmp_path / "killed"), *options))
    folder = tmp_path / "killed" / "run" / "checkpoints"
    assert killed == -signal.SIGKILL and other != 0
    assert [path.name for path in checkpoints_in(folder)] == ["step=0000002.ckpt"] and list(folder.glob(".*.partial"))
    together((command, "auto", str(tmp_path / "killed"), *options, "--ckpt_path", "last"))
    assert not list(folder.glob(".*.partial"))
    states = [torch.load(path, weights_only=True) for path in checkpoints_in(folder)]
    assert [state["global_step"] for state in states] == [2, 4]
    done = [state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["processed"] for state in states]
    assert done == [2, 4] and all(value.isfinite().all() for value in states[1]["state_dict"].values())


def test_the_large_configuration_saves_inside_its_epoch():
    config = yaml.safe_load(find_config("sd15.yaml").read_text(encoding="utf-8"))["checkpoint"]
    assert config["save_steps"] == 2000 and config["save_epochs"] == 1
