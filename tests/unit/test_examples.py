"""The example scripts run as they stand, in a folder of the user's own, and are short enough to be copied."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

import anytext_lib.examples

SCRIPTS = sorted(path for path in Path(anytext_lib.examples.__file__).parent.glob("*.py") if path.stem != "__init__")
LONGEST = 40  # lines of code


def test_there_is_one_for_stable_diffusion_and_one_for_flows():
    assert [path.stem for path in SCRIPTS] == ["flow_transformer", "text_to_image"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs_with_a_reading_loss(script, tmp_path, monkeypatch):
    code = script.read_text(encoding="utf-8").split('"""', 2)[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= LONGEST
    monkeypatch.setenv("PYTHONPATH", str(Path(anytext_lib.examples.__file__).parents[2]))
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-m", f"anytext_lib.examples.{script.stem}"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    steps = [{name: float(value) for name, value in re.findall(r"([\w/]+) (-?[\d.]+|nan|inf)(?:,|$)", line)}
             for line in done.stdout.splitlines()]
    assert len(steps) == 3 and not list(tmp_path.iterdir())
    for values in ({name.removeprefix("train/"): value for name, value in step.items()} for step in steps):
        assert all(map(math.isfinite, values.values()))
        assert values["ocr"] > 0 and values["loss"] == pytest.approx(
            values["sim"] + values["ocr"] + values.get("ctc", 0), abs=3e-4)
