"""`anytext course run` into a folder that another run writes, and into places that cannot be written."""

from __future__ import annotations

import os

from anytext_lib.cli import main
from anytext_lib.files import folder_lock


def run(course, out) -> int:
    return main(["course", "run", "--device", "cpu", "--folder", str(course.folder), "--out", str(out)])


def test_two_runs_do_not_write_one_folder(course, tmp_path, capsys):
    course.add("01_one", "record('value', n)")
    out = tmp_path / "ausgeführte Seiten"
    with folder_lock(out):
        assert run(course, out) == 2
    said = capsys.readouterr().err
    assert f"{out} is being written by another program" in said and f"process {os.getpid()}" in said
    assert "choose another folder by --out" in said and said.count("\n") == 1 and not list(out.iterdir())
    assert run(course, out) == 0 and [path.name for path in out.iterdir()] == ["01_one.ipynb"]


def test_a_file_in_the_way_is_kept(course, tmp_path, capsys):
    course.add("01_one", "record('value', n)")
    (tmp_path / "file").write_text("mine")
    assert run(course, tmp_path / "file") == 2
    assert "file is in the way" in capsys.readouterr().err and (tmp_path / "file").read_text() == "mine"
