"""Every notebook of the course, executed with the profile `quick`, its numbers held to the baselines."""

from __future__ import annotations

import pytest

from anytext_lib.course.paths import notebooks_folder
from anytext_lib.publishing.notebooks import load_profiles
from anytext_lib.publishing.run import RunRequest, run

LISTED = list(load_profiles(notebooks_folder()).questions)


@pytest.mark.slow
@pytest.mark.parametrize("number", LISTED)
def test_notebook_runs_and_its_numbers_hold(number, tmp_path):
    lines = []
    request = RunRequest(notebooks=[number], profile="quick", check=True, out=tmp_path, device="cpu")
    status = run(request, say=lambda *parts, **_: lines.append(" ".join(map(str, parts))))
    assert status == 0, "\n".join(lines)
