"""What `anytext fit` shows on a terminal, looked at through a pseudo-terminal."""
import os
import re
import sys

import pytest

from anytext_lib.files import data_folder

pty = pytest.importorskip("pty", reason="no pseudo-terminals here")


def screen(arguments: list[str], columns: int = 160) -> list[str]:
    """The lines that a terminal shows at the end, and the exit status last."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(COLUMNS=str(columns), LINES="30", TERM="xterm-256color", OMP_NUM_THREADS="1")
        os.execv(sys.executable, [sys.executable, "-m", "anytext_lib.cli", *arguments])
    text = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux's end of file
            break
        if not part:
            break
        text += part
    _, status = os.waitpid(process, 0)
    return [*rows(text.decode("utf-8", "replace")), str(os.waitstatus_to_exitcode(status))]


def rows(text: str) -> list[str]:
    """What is left on the screen after carriage returns, line feeds, cursor up and erasing; colours are dropped."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if token == "\r":
            column = 0
        elif token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token.startswith("\x1b"):
            count, kind = token[2:-1], token[-1]
            if kind == "A":
                row = max(0, row - int(count or 1))
            elif kind == "K":
                lines[row] = "" if count == "2" else lines[row][:column]
        else:
            lines[row] = lines[row][:column].ljust(column) + token + lines[row][column + len(token):]
            column += len(token)
    return [line.rstrip() for line in lines]


def test_one_clean_bar(tmp_path):
    shown = screen(["fit", "--config", "tiny.yaml", "--train", str(data_folder() / "annotations.json"), "--val", "null",
                    "--max_steps", "3", "--save_steps", "1", "--runs", str(tmp_path), "--trainer.logger", "false"])
    assert shown[-1] == "0", shown
    bars = [line for line in shown if line.startswith("Epoch ")]
    assert len(bars) == 1 and re.match(r"Epoch 0 .* 3/3 .*it/s t/loss: [\d.]+$", bars[0]), shown
    assert len([line for line in shown if line.startswith("saved ")]) == 3
    assert not any(word in line for line in shown for word in ("v_num", "-2/", "oard", "step 1/3"))
