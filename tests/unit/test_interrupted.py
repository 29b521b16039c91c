"""Ctrl-C at any moment after Python's own start: one line, exit status 130, nothing half-written."""
import os
import signal
import subprocess
import sys
import time

import pytest

from anytext_lib.files import data_folder

DATA = str(data_folder() / "annotations.json")
COMMANDS = {
    "fit": ["fit", "--config", "tiny.yaml", "--train", DATA, "--val", "null", "--max_steps", "1000"],
    "generate": ["generate", "--prompt", 'a "Tea"', "--images", "50", "--ddim-steps", "500", "--out", "out"],
    "data": ["data", "check", DATA],
    "convert": ["convert", "--init-from-sd15", "nowhere", "model"],
    "course": ["course", "run", "00", "--out", "out"],
}
DELAYS = [0.2, 1.5, 4.0]
NOISE = ("Seed set to 0", "GPU available", "TPU available", "anytext: picture")


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("command", COMMANDS)
def test_one_line_and_status_130(tmp_path, command, delay):
    process = subprocess.Popen([sys.executable, "-m", "anytext_lib.cli", *COMMANDS[command]], cwd=tmp_path, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)
    time.sleep(delay)
    if process.poll() is not None:  # it was quicker
        assert process.returncode in (0, 1, 2)
        process.communicate()
        return
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith(NOISE)]
    if process.returncode in (0, 1, 2):  # it had ended by itself, in the moment of the signal
        assert "Traceback" not in err and "interrupted" not in err
        return
    assert process.returncode == 130, err
    assert len(lines) == 1 and lines[0].startswith(f"anytext {command}"), err
    assert "interrupted" in lines[0] or "--ckpt_path last" in lines[0]
    assert "Traceback" not in out + err
    assert command != "fit" or not (tmp_path / "runs").exists() or list(tmp_path.glob("runs/tiny/checkpoints/*.ckpt"))


def test_ctrl_c_inside_a_destructor_is_not_lost(tmp_path):
    """Python reports and drops what is raised in ``__del__``, wherever the signal happens to arrive."""
    program = ("import os, signal, sys, time\nfrom anytext_lib import cli\n"
               "class Late:\n    def __del__(self):\n"
               "        os.kill(os.getpid(), signal.SIGINT)\n        time.sleep(1)\n"
               "def run(arguments):\n    Late()\n    time.sleep(60)\n    return 0\n"
               "cli._run = run\nsys.argv = ['anytext', 'doctor']\nsys.exit(cli.main())\n")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, text=True, capture_output=True, timeout=50)
    assert (done.returncode, done.stderr) == (130, "anytext doctor: interrupted\n")
