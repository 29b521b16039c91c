"""Working copies: made when missing, renewed when nobody changed them, never overwritten; saved without widgets."""

from __future__ import annotations

import datetime
import json

import pytest

from anytext_lib.errors import CourseError
from anytext_lib.publishing import workspace

PAGE, TODAY = "01_page.ipynb", datetime.date.today().isoformat()


@pytest.fixture
def folder(tmp_path):
    """A folder of one page and its learner's copy."""
    folder = tmp_path / "my course" / "notebooks"
    (folder / "exercises").mkdir(parents=True)
    for name in (PAGE, f"exercises/{PAGE}"):
        (folder / name).write_text(f"published {name}", encoding="utf-8")
    (folder / "notes.ipynb").write_text("no page of the course")
    return folder


def prepared(folder) -> tuple[dict[str, str], list[str]]:
    """(the copies by name, what was said)."""
    said: list[str] = []
    target = workspace.prepare(folder, said.append)
    paths = sorted(path for path in target.rglob("*.ipynb"))
    return {path.relative_to(target).as_posix(): path.read_text(encoding="utf-8") for path in paths}, said


def test_copies_are_made_and_left_alone(folder):
    fresh = {PAGE: f"published {PAGE}", f"exercises/{PAGE}": f"published exercises/{PAGE}"}
    assert prepared(folder) == (fresh, [])
    (folder.parent / "work" / PAGE).write_text("my answers", encoding="utf-8")
    assert prepared(folder) == (fresh | {PAGE: "my answers"}, []), "the published page is the one it was made from"


def test_newer_page_replaces_an_unchanged_copy(folder):
    prepared(folder)
    (folder / PAGE).write_text("newer", encoding="utf-8")
    copies, said = prepared(folder)
    assert copies[PAGE] == "newer" and len(copies) == 2 and said == []


def test_changed_copy_is_kept_under_a_dated_name(folder):
    prepared(folder)
    copy = folder.parent / "work" / "exercises" / PAGE
    for round_, kept in enumerate((f"exercises/01_page.{TODAY}.ipynb", f"exercises/01_page.{TODAY}.2.ipynb")):
        copy.write_text(f"my answers {round_}", encoding="utf-8")
        (folder / "exercises" / PAGE).write_text(f"newer {round_}", encoding="utf-8")
        copies, said = prepared(folder)
        assert copies[f"exercises/{PAGE}"] == f"newer {round_}" and copies[kept] == f"my answers {round_}"
        assert said == [f"There is a newer exercises/{PAGE}; yours is kept as {kept}."]
    assert prepared(folder) == (copies, []), "once is enough"


@pytest.mark.parametrize("state", [None, "{", "[]"])
def test_without_the_record_of_copies_every_other_copy_counts_as_changed(folder, state):
    prepared(folder)
    record = folder.parent / "work" / workspace.STATE
    record.unlink() if state is None else record.write_text(state)
    (folder.parent / "work" / PAGE).write_text("older or mine", encoding="utf-8")
    copies, _ = prepared(folder)
    assert copies[f"01_page.{TODAY}.ipynb"] == "older or mine" and copies[PAGE] == f"published {PAGE}"
    assert set(json.loads(record.read_text())) == {PAGE, f"exercises/{PAGE}"}


def test_copy_that_was_deleted_is_made_again(folder):
    prepared(folder)
    (folder.parent / "work" / PAGE).unlink()
    assert prepared(folder)[0][PAGE] == f"published {PAGE}"


def test_place_that_cannot_be_written_is_named(folder):
    (folder.parent / "work").write_text("a file")
    with pytest.raises(CourseError, match="The working copies in .*work cannot be written"):
        workspace.prepare(folder)


def test_saving_forgets_widgets_and_nothing_else():
    view, text = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "Box()"}, {"text/plain": "5"}
    content = {"metadata": {"widgets": {}, "x": 1}, "cells": [
        {"cell_type": "markdown", "source": "a"},
        {"cell_type": "code", "outputs": [{"output_type": "display_data", "data": view},
                                          {"output_type": "stream", "text": "said"},
                                          {"output_type": "execute_result", "data": text}]}]}
    workspace.forget_widgets(model={"type": "notebook", "content": content}, path="x.ipynb", contents_manager=None)
    assert content["metadata"] == {"x": 1}
    assert [output["output_type"] for output in content["cells"][1]["outputs"]] == ["stream", "execute_result"]
    for other in ({"type": "file", "content": "text"}, {"type": "notebook", "content": None}, {"type": "directory"}):
        workspace.forget_widgets(model=dict(other))


def test_own_options_of_the_user_count_last(tmp_path):
    given = workspace.arguments(tmp_path, tmp_path / "work" / PAGE, ["--port=99", "--ServerApp.root_dir=/x"])
    assert given.index(f"--ServerApp.root_dir={tmp_path}") < given.index("--ServerApp.root_dir=/x")
    assert given[-1] == str(tmp_path / "work" / PAGE)
