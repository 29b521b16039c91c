"""The command `anytext data`: exit status and what it says."""

import json
import subprocess
import sys

import pytest
from jsonargparse import ArgumentParser
from PIL import Image

from anytext_lib.datatools.command import add_data_commands, data_parser, run_data
from anytext_lib.files import data_folder

ROWS = "image,x1,y1,x2,y2,x3,y3,x4,y4,text\na.jpg,10,10,90,12,90,40,10,38,Tea\n"


def data(*arguments):
    return run_data(data_parser().parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def folder(tmp_path):
    """A folder of two pictures and a CSV for one of them."""
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (120, 60), (200, 210, 190)).save(tmp_path / name)
    (tmp_path / "lines.csv").write_text(ROWS, "utf-8")
    return tmp_path


def test_from_a_plain_folder_to_an_index(folder, capsys):
    target = folder / "annotations.json"
    assert data("convert", folder) == 0
    said = capsys.readouterr().out
    assert "1 pictures, 1 lines" in said and "1 pictures have no annotation" in said and "anytext data check" in said
    assert data("check", folder, "--sheet", folder / "sheet.png", "--json", folder / "report.json") == 0
    assert "No problem found." in capsys.readouterr().out
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > 384
    assert json.loads((folder / "report.json").read_text())["lines"] == 1
    assert data("index", target) == 0
    assert ".annotations.json.arrow: 1 pictures, 1 lines" in capsys.readouterr().out
    assert data("index", target, "--rebuild", "--cache", folder / "cache") == 0
    assert len(list((folder / "cache").glob("*.arrow"))) == 1


def test_problems_give_1(folder, capsys):
    row = {"img_name": "gone.jpg", "annotations": [
        {"polygon": [[1, 1], [9, 1], [9, 9]], "text": "Tea" * 9, "language": "Latin"}] * 3}
    path = folder / "annotations.json"
    path.write_text(json.dumps({"data_root": ".", "data_list": [row]}), "utf-8")
    assert data("check", path, "--show", 1) == 1
    said = capsys.readouterr().out
    assert "text_too_long: 3" in said and "... and 2 more" in said and "4 problems found." in said
    assert data("check", path, "--ignore", "text_too_long", "--ignore", "missing_image") == 0
    assert data("check", path, "--images", "none", "--max-chars", 30) == 0
    path.write_text('{"data_root": ".", "data_list": [', "utf-8")
    assert data("index", path) == 2 and "ends too soon" in capsys.readouterr().err
    assert data("check", path, "--sheet", folder / "sheet.png") == 1
    assert "no contact sheet" in capsys.readouterr().err
    (folder / "lines.csv").write_text(ROWS.replace("a.jpg", "c.jpg"), "utf-8")
    assert data("convert", folder, "--force") == 1
    assert "lines.csv, line 2: there is no picture 'c.jpg'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, message", [
    (["check", "gone"], "no annotation file"), (["index", "gone.json"], "no annotation file"),
    (["convert", "gone"], "no folder gone"), (["convert", "."], "no annotations in"),
    (["check", ".", "--percent", "2"], "no annotation file"),
])
def test_wrong_requests_give_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert data(*arguments) == 2
    assert f"anytext data {arguments[0]}: " in (said := capsys.readouterr().err) and message in said


@pytest.mark.parametrize(("arguments", "usage"), [
    (["check"], "usage: anytext data check"), (["convert"], "usage: anytext data convert"),
    (["index"], "usage: anytext data index"), ([], "usage: anytext data {check"),
])
def test_without_a_path_it_shows_its_own_help(arguments, usage, capsys):
    assert data(*arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(usage) and "Exit status:" in said


@pytest.mark.parametrize("arguments", [["mend"], ["check", "x", "--images", "some"]])
def test_the_parser_refuses(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        data(*arguments)
    assert caught.value.code == 2 and capsys.readouterr().err


def test_as_a_command_of_another_parser(folder, capsys):
    top, data_part = ArgumentParser(), ArgumentParser()
    top.add_subcommands().add_subcommand("data", data_part)
    add_data_commands(data_part)
    options = top.parse_args(["data", "convert", str(folder)])
    assert run_data(options[options.subcommand]) == 0


@pytest.mark.parametrize("arguments", [["--help"], ["DATA", "--sheet", "sheet.png"]])
def test_a_check_does_not_wait_for_torch(tmp_path, arguments):
    """It would take seconds, and a check of a data set needs none of it."""
    found = [str(data_folder()) if part == "DATA" else part for part in arguments]
    code = ("import sys; from anytext_lib.cli import main\n"
            f"try: main(['data', 'check', *{found}])\n"
            "except SystemExit: pass\n"
            "print('imported:', {'torch', 'diffusers', 'matplotlib.pyplot'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.endswith("imported: set()\n"), done.stdout + done.stderr
