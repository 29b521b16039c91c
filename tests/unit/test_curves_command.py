"""`anytext course curves`: a sound run is reproduced, recorded faults are found, by the command and by its parts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from anytext_lib.cli import main
from anytext_lib.errors import CourseError
from anytext_lib.experiments.curve_bands import runs_of
from anytext_lib.experiments.curve_check import Recorded, check
from anytext_lib.experiments.loss_curves import CURVES, FAULTS
from anytext_lib.experiments.plan import read_table
from anytext_lib.files import data_folder

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
RECORD = data_folder() / "experiments" / "loss_curves" / "runs.parquet"
IN_BANDS = {"data", "rate_10", "rate_tenth", "schedule", "weights"}
"""Faults that 20 steps of another seed would hide: only the recorded run of the same seed tells them."""


@pytest.fixture(scope="module")
def rows():
    return read_table(RECORD)


@pytest.fixture(scope="module")
def recorded():
    return Recorded.read()


def write_log(folder, run, seed=None):
    """A TensorBoard log of a recorded run, with its seed in config.yaml where one is given."""
    writer = SummaryWriter(str(folder / "tensorboard"))
    for tag, curve in run.items():
        for step, value in zip(*curve, strict=True):
            writer.add_scalar(tag, value, int(step))
    writer.close()
    if seed is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump({"seed_everything": seed}))
    return folder


def test_the_record_has_seeds_and_machines(recorded):
    assert len(recorded.seeds) >= 12 and len(recorded.machines) >= 3 and set(recorded.faults) == set(FAULTS)
    assert recorded.alarms <= 2, "of the seeds, under the others' bands"
    assert max(recorded.gaps.values()) < 0.05, "instruction sets and threads"


@pytest.mark.parametrize("seed", [1, 8, 13])
def test_a_fresh_seed_stays_inside(rows, seed):
    """Held to a record that does not have it; one of the fourteen does not, see above."""
    found, origin = rows
    others = Recorded.of([row for row in found if (row["kind"], row["seed"]) != ("seed", seed)], origin)
    done = check(others, runs_of(found)["seed", "course", seed], {"seed_everything": seed})
    assert done.reproduced and done.twin is None and set(done.departures) == set(CURVES)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_named(recorded, fault):
    run = recorded.faults[fault]
    done = check(recorded, run, {"seed_everything": 0})
    assert not done.reproduced and not done.twin.same and min(filter(
        lambda step: step is not None, done.twin.first.values())) <= 2
    assert bool(done.outside) == (fault not in IN_BANDS)
    assert FAULTS[fault].told in done.reasons[-1]
    assert bool(check(recorded, run, {}).outside) == (fault not in IN_BANDS), "without the seed the bands alone tell"


def said(bands):
    """{(t/ocr, 2), (t/grad/all, 2), (v/ocr, 9)} of "t/ocr, t/grad/all from 2, v/ocr from 9"."""
    found = re.findall(r"((?:[tv]/[a-z/]+(?:, )?)+) from (\d+)", bands)
    return frozenset((tag, int(step)) for tags, step in found for tag in tags.split(", "))


def test_the_readmes_table_is_what_the_record_says(recorded):
    """Each row: a fault, the curves that leave their bands, and the first step that leaves the recorded run."""
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| fault | bands |") :].split("\n\n")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (\d+) \|$", table, re.MULTILINE)
    assert len(rows) == len(FAULTS)
    told = {(said(bands), int(first)) for _, bands, first in rows}
    wanted = set()
    for run in recorded.faults.values():
        done = check(recorded, run, {"seed_everything": 0})
        left = min(step for step in done.twin.first.values() if step is not None)
        wanted.add((frozenset((tag, done.departures[tag].first) for tag in done.outside), left))
    assert told == wanted


@pytest.mark.slow
def test_the_recorder_writes_what_the_command_reads(tmp_path):
    """The smallest recording: a seed, a fault and another instruction set, of two steps."""
    assert main(["course", "experiment", "loss_curves", "--profile", "quick", "--seeds", "1", "--jobs", "1", "--out",
                 str(tmp_path)]) == 0
    rows, origin = read_table(tmp_path / "runs.parquet")
    runs = runs_of(rows)
    assert sorted(kind for kind, *_ in runs) == ["fault", "machine", "seed"]
    assert origin["config"]["model.loss_alpha"] == 1.5 and set(runs["seed", "course", 0]) >= {"t/sim", "t/ocr", "t/ctc"}
    own, other = (runs[key]["t/sim"].values for key in (("seed", "course", 0), ("machine", "avx2-1", 0)))
    np.testing.assert_allclose(own, other, rtol=0.05)
    with pytest.raises(CourseError, match="a band needs four"):
        Recorded.read(tmp_path / "runs.parquet")


def test_a_real_run_is_reproduced_and_one_with_a_fault_is_not(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["course", "curves", "--steps", "2", "--out", str(out), "--", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "\nreproduced\n" in said and "seed 0: the same" in said
    assert [line.split()[1] for line in said.splitlines() if line.startswith("t/")] == ["inside"] * 4
    with Image.open(out / "curves.png") as figure:
        assert figure.size[0] > 1500
    assert sorted(path.name for path in out.iterdir()) == ["curves.png", "run"]
    assert main(["course", "curves", "--steps", "1", "--out", str(out), "--", "--quiet", "--loss_alpha", "15"]) == 1
    said = capsys.readouterr().out
    assert "not reproduced" in said and "t/ocr differs from step 0 on" in said
    assert "t/loss_alpha is 15 at step 0, recorded 1.5" in said and "model.loss_alpha is 15" in said


def test_a_log_that_is_there(recorded, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["course", "curves", "--log", str(write_log(tmp_path / "a", recorded.seeds[5], 5)), "--out", out]) == 0
    assert "seed 5: the same" in capsys.readouterr().out
    assert main(["course", "curves", "--log", str(write_log(tmp_path / "b", recorded.faults["ctc_sum"])),
                 "--out", out]) == 1
    said = capsys.readouterr().out
    assert "not reproduced: t/ctc, v/ctc outside" in said and FAULTS["ctc_sum"].told in said
    assert "t/loss_beta is 4 at step 0, recorded 0.1" in said


@pytest.mark.parametrize(("arguments", "message"), [
    (["--steps", "0"], "--steps is a number from 1 to 20"),
    (["--steps", "21"], "--steps is a number from 1 to 20"),
    (["--log", "gone"], "no log gone"),
    (["--log", "gone", "--steps", "3"], "leave out --steps"),
    (["--log", "sparse"], "the bands are of every step"),
    (["--log", "other"], "has none of the curves"),
])
def test_wrong_requests_are_told_in_one_line(recorded, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    seed = recorded.seeds[0]
    if arguments[1] == "sparse":
        write_log(tmp_path / "sparse", {"t/sim": type(seed["t/sim"])(seed["t/sim"].steps * 5, seed["t/sim"].values)})
    if arguments[1] == "other":
        write_log(tmp_path / "other", {"loss": seed["t/sim"]})
    assert main(["course", "curves", *arguments, "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "out" / "curves.png").exists()
