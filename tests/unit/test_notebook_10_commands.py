"""Section 3 of notebook 10: every command that it shows goes through the real parsers, its Python lines run."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace

import pytest

from anytext_lib.cli import build_parser, main
from anytext_lib.course.paths import notebooks_folder
from anytext_lib.data import data_folder, write_anyword
from anytext_lib.data.anyword import AnnotatedImage
from anytext_lib.generation import AnyText2Pipeline
from anytext_lib.scenes.scene_dataset import SceneDataset


def blocks(language):
    """The notebook's code blocks of a language in text cells."""
    cells = json.loads((notebooks_folder() / "10_full_fine_tuning.ipynb").read_text(encoding="utf-8"))["cells"]
    return [block for cell in cells if cell["cell_type"] == "markdown"
            for block in re.findall(rf"```{language}\n(.*?)```", "".join(cell["source"]), re.DOTALL)]


def shown_commands():
    """The commands in the bash blocks, split into words, from the subcommand on."""
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line) for line in lines if line.strip() and not line.startswith("#")]
    assert {first for first, *_ in words} == {"anytext", "torchrun"}
    return [each[each.index("anytext_lib.cli" if each[0] == "torchrun" else "anytext") + 1 :] for each in words]


COMMANDS = shown_commands()


def test_the_page_shows_all_doors():
    assert {tuple(words[:2])[:1 + (words[0] in ("data", "evaluate"))] for words in COMMANDS} >= {
        ("convert",), ("data", "check"), ("data", "index"), ("fit",), ("evaluate", "ocr")}


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] != "fit"], ids=" ".join)
def test_other_commands_parse(words):
    assert build_parser(words[:1]).parse_args(words).subcommand == words[0]


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "fit"],
                         ids=lambda words: " ".join(words)[:60] + "..." * (len(words) > 8))
def test_fit_commands_go_through_the_real_parser(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [word for word in words if word not in ("--ckpt_path", "last")]
    assert "--save_steps" in words and "--name" in words, "each command that trains saves often, under a name"
    status = 0
    try:
        status = main([*words, "--print_config"])
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr().out
    assert status in (0, None) and f"name: {words[words.index('--name') + 1]}" in said
    assert f"save_steps: {words[words.index('--save_steps') + 1]}" in said and "loss_alpha: 0.003" in said


def test_the_lines_for_a_benchmark_write_what_the_command_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entries = []
    for i in range(2):
        scene = SceneDataset(seed=0, split="test", epoch_length=2).scene(i)
        entries.append(AnnotatedImage(tmp_path / f"{i}.jpg", f"{i}.jpg", scene.caption, list(scene.lines)))
    write_anyword(tmp_path / "test1k.json", entries)
    folder, run = data_folder() / "mini" / "after", AnyText2Pipeline.run
    few = replace(AnyText2Pipeline.from_pretrained(folder).default_settings(), ddim_steps=2)
    monkeypatch.setattr(AnyText2Pipeline, "run", lambda self, asked, **more: run(self, asked, settings=few, **more))
    (lines,) = blocks("python")
    exec(lines.replace('"runs/ocr_epoch/model"', repr(str(folder))), {})
    (words,) = [words for words in COMMANDS if words[:2] == ["evaluate", "ocr"]]
    assert main(words) == 0
    scores = json.loads((tmp_path / "benchmark" / "scores" / "result.json").read_text(encoding="utf-8"))
    assert "anytext" in json.dumps(scores)
    assert len(list((tmp_path / "benchmark").glob("*.png"))) == 8
