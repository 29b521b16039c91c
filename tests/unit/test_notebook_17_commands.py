"""Section 5 of notebook 17: every command of its plan goes through the real parsers."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from anytext_lib.cli import build_parser, main
from anytext_lib.course.paths import notebooks_folder

PAGE = notebooks_folder() / "17_scaling_up.ipynb"
TEXT = "\n".join("".join(cell["source"]) for cell in json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
                 if cell["cell_type"] == "markdown")
LINES = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)).replace("\\\n", " ").splitlines()
COMMANDS = [words[words.index("anytext_lib.cli" if words[0] == "torchrun" else "anytext") + 1:]
            for words in map(shlex.split, LINES)]


def test_the_plan_indexes_trains_and_reads():
    assert [words[0] for words in COMMANDS] == ["data", "fit", "fit"]
    assert all("--save_steps" in words for words in COMMANDS[1:]), "a run of days saves often"


def test_the_index():
    assert build_parser(["data"]).parse_args(COMMANDS[0]).subcommand == "data"


@pytest.mark.parametrize("words", COMMANDS[1:], ids=lambda words: words[words.index("--name") + 1])
def test_training(words, tmp_path, monkeypatch, capsys):
    """All options are known and of the right kind; nothing is trained."""
    monkeypatch.chdir(tmp_path)
    place = words.index("--ckpt_path")
    try:
        status = main([*words[:place], *words[place + 2:], "--print_config"])
    except SystemExit as stop:
        status = stop.code
    assert status in (0, None)
    assert f"name: {words[words.index('--name') + 1]}" in capsys.readouterr().out


@pytest.mark.parametrize("option", sorted(set(re.findall(r"\| `(--[\w.]+) [\w.-]+` \|", TEXT))))
def test_the_options_of_the_table_are_known(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    value = dict(re.findall(r"\| `(--[\w.]+) ([\w.-]+)` \|", TEXT))[option]
    try:
        status = main(["fit", "--config", "sd15.yaml", option, value, "--print_config"])
    except SystemExit as stop:
        status = stop.code
    assert status in (0, None) and value in capsys.readouterr().out
