"""The command line: what it starts, how fast, and how it says no."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import anytext_lib
from anytext_lib import cli
from anytext_lib.errors import CourseError
from anytext_lib.publishing import run as runner
from anytext_lib.publishing.command import parse_parameters

ROOT = Path(anytext_lib.__file__).resolve().parents[1]


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == f"anytext {anytext_lib.__version__}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == anytext_lib.__version__ and project["scripts"]["anytext"] == "anytext_lib.cli:main"


def test_start_loads_nothing_heavy():
    check = ("import sys, anytext_lib.cli; anytext_lib.cli.build_parser(); "
             "print([m for m in ('torch', 'numpy', 'matplotlib', 'papermill', 'nbformat', 'cv2') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_run_hands_all_options_on(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(runner, "run", lambda request: seen.append(request) or 0)
    status = cli.main([
        "course", "run", "02", "05_loss_ocr", "--profile", "quick", "-p", "steps=3", "-p", "rate=1e-3", "-p", "name=x",
        "--parameter", "sizes=[1, 2]", "--jobs", "2", "--check", "--in-place", "--out", str(tmp_path / "out"),
        "--folder", str(tmp_path), "--device", "cpu", "--budget-factor", "2.5",
    ])
    assert status == 0
    assert seen == [runner.RunRequest(
        notebooks=["02", "05_loss_ocr"], profile="quick",
        parameters={"steps": 3, "rate": 1e-3, "name": "x", "sizes": [1, 2]}, jobs=2, check=True, in_place=True,
        out=tmp_path / "out", folder=tmp_path, device="cpu", budget_factor=2.5,
    )]


def test_defaults_run_everything(monkeypatch):
    seen = []
    monkeypatch.setattr(runner, "run", lambda request: seen.append(request) or 1)
    assert cli.main(["course", "run"]) == 1
    assert list(seen[0].notebooks) == [] and seen[0] == runner.RunRequest(notebooks=seen[0].notebooks)


@pytest.mark.parametrize("pair", ["steps", "=3", "two words=1"])
def test_malformed_parameters_are_explained(pair):
    with pytest.raises(CourseError, match="write NAME=VALUE"):
        parse_parameters([pair])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["course", "run", "--check", "--update-baselines"], "exclude each other"),
        (["course", "run", "-p", "steps"], "write NAME=VALUE"),
        (["course", "list", "--folder", "/nowhere"], "does not exist"),
        (["course", "run", "77"], "There is no notebook '77'"),
    ],
)
def test_wrong_requests_end_with_status_2_and_a_sentence(capsys, arguments, message):
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"anytext course {arguments[1]}: ") and message in said


@pytest.mark.parametrize("arguments", [[], ["course"], ["data"], ["db"], ["evaluate"]])
def test_a_command_without_its_part_shows_help(capsys, arguments):
    assert cli.main(arguments) == 0
    said = capsys.readouterr()
    assert said.out.startswith("usage: anytext") and "-h, --help" in said.out and said.err == ""


@pytest.mark.parametrize(("arguments", "message"), [
    (["fly"], "anytext: there is no command fly; there are fit, "),
    (["fitt"], "anytext: there is no command fitt; did you mean fit? See anytext --help"),
    (["data", "chekc", "x.json"], "anytext data: there is no command chekc; did you mean check?"),
    (["db", "train"], "anytext db: output is missing. See anytext db train --help"),
    (["data", "check", "--shwo", "3", "x"], "there is no option --shwo; did you mean --show?"),
    (["data", "check", "--show", "many", "x"], "show is many, but takes int. See"),
    (["course", "run", "--jobs", "many"], "anytext course: jobs is many, but takes int. See anytext course run --help"),
    (["generate", "--promt", "x"], "there is no option --promt; did you mean --prompt?"),
    (["--verison"], "there is no option --verison; did you mean --version?"),
    (["fit", "--config", "tiny.yaml", "--loss_alhpa", "1"], "there is no option --loss_alhpa; did you mean "
                                                           "--loss_alpha? See anytext fit --help"),
    (["fit", "--config", "tiny.yaml", "--max_steps", "x"], "trainer.max_steps is x, but takes int. See anytext fit"),
    (["fit", "--config", "tiny.yaml", "--lr_schedule", "x"], "model.lr_schedule is x, but takes Literal['constant'"),
    (["fit", "--config", "tiny.yaml", "--trainer.precision", "7"], "trainer.precision is 7, but takes "),
    (["fit", "--config", "tiny.yaml", "stray"], "stray cannot be placed: there are more arguments than the command"),
    (["fit", "--config"], "expected one argument. See anytext fit --help"),
    (["validate", "--config", "tiny.yaml", "--val_limt", "x"], "did you mean --val_limit?"),
])
def test_malformed_command_lines_are_told_in_one_line(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and said.err.startswith("anytext") and len(said.err) < 700
    assert list(tmp_path.iterdir()) == []


def test_help_names_types_plainly(capsys):
    for arguments in (["data", "check"], ["course", "run"], ["fit"]):
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, "--help"])
        said = capsys.readouterr().out
        assert ended.value.code == 0 and "type: " in said and "<class" not in said


def test_interruption_has_its_own_status(monkeypatch, capsys):
    def interrupted(request):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", interrupted)
    assert cli.main(["course", "run"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_doctor_gives_its_status(monkeypatch):
    monkeypatch.setattr("anytext_lib.doctor.doctor", lambda as_json: 1)
    assert cli.main(["doctor"]) == 1


def test_mistakes_in_the_code_keep_their_traceback(monkeypatch):
    for error in (ValueError("no"), KeyError("no"), OSError("no")):
        monkeypatch.setattr(runner, "run", lambda request, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(type(error)):
            cli.main(["course", "run"])
