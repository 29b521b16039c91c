"""`make gpu`, rehearsed on the CPU: all that it measures and writes, how it stops, and how it goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import torch
import yaml

from anytext_lib.course.paths import notebooks_folder, project_root
from anytext_lib.publishing import notebooks
from anytext_lib.publishing.notebooks import load_profiles
from tests.gpu.__main__ import PARTS, main, within
from tests.gpu.measuring import measure, measure_or_none
from tests.gpu.pages import executed
from tests.gpu.records import Records, file_name
from tests.gpu.sizes import OFFICIAL, REHEARSAL
from tests.gpu.steps import Bench, largest, one_case

HEAD = {"machine": {"device": "cpu"}, "versions": {"torch": "2"}, "library": "abc"}
COURSE = project_root()


def rehearse(folder, *parts: str) -> str:
    """What `make gpu GPU_ARGS='--dry-run --folder FOLDER PART ...'` says."""
    done = subprocess.run([sys.executable, "-m", "tests.gpu", "--dry-run", "--folder", str(folder), *parts],
                          cwd=COURSE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def written() -> dict[str, int]:
    """When each file of the course that a run writes was last changed."""
    paths = [COURSE / "README.md", *notebooks_folder().rglob("*.ipynb"), *notebooks_folder().rglob("*.yaml"),
             *(notebooks_folder() / "baselines").glob("*.json")]
    return {str(path): path.stat().st_mtime_ns for path in paths}


@pytest.mark.slow
def test_rehearsal_measures_and_writes_all_and_leaves_the_course_alone(tmp_path):
    before = written()
    said = rehearse(tmp_path)
    assert all(f"\n{part}: done" in said for part in PARTS) and said.endswith("gpu: all was measured\n")
    assert written() == before

    baselines = tmp_path / "notebooks" / "baselines"
    found = json.loads((baselines / file_name("cpu")).read_text())
    assert found["machine"]["device"] == "cpu" and found["versions"]["torch"] and found["library"]
    parts = {name: part["cases"] for name, part in found["parts"].items()}
    for precision in ("bf16", "fp32"):
        for alpha in ("0", "0.003"):
            assert {f"{precision}, alpha {alpha}, batch {n}" for n in (1, 2)} <= set(parts["steps"])
        assert {f"{precision}, {control} control" for control in ("fast", "slow")} <= set(parts["sampling"])
    assert set(parts["reading"]) == {"upstream", "library", "cached"} and set(parts["notebooks"]) == {"00"}
    assert all(case["seconds"] > 0 and case["peak_mib"] > 0 for cases in parts.values() for case in cases.values())
    reading = parts["reading"]
    assert reading["library"]["ocr"] == pytest.approx(reading["upstream"]["ocr"], rel=1e-4)

    costs = yaml.safe_load((baselines / "costs.yaml").read_text())
    assert costs["00"]["gpu.cpu"]["seconds"] > 0
    assert yaml.safe_load((baselines / "gpu.cpu.yaml").read_text())["00"]
    book = notebooks.select(notebooks.find_books(tmp_path / "notebooks"), ["00"])[0]
    assert executed(book, REHEARSAL, tmp_path / "notebooks", tmp_path / "build" / "gpu") is not None

    again = rehearse(tmp_path)
    assert all(f"{part}: done before" in again for part in PARTS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_sentence_says_so(capsys):
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "sees no CUDA GPU" in said.err and "--dry-run" in said.err


def test_unknown_parts_and_a_misplaced_folder_are_refused(capsys, tmp_path):
    for arguments, message in ((["step"], "there is no part 'step'"), (["--folder", str(tmp_path)], "for --dry-run")):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert message in capsys.readouterr().err


def test_make_and_its_budgets_fit_ten_minutes():
    assert "$(IN) tests.gpu $(GPU_ARGS)" in (COURSE / "Makefile").read_text(encoding="utf-8")
    assert set(OFFICIAL.seconds) == set(REHEARSAL.seconds) == set(PARTS)
    assert sum(OFFICIAL.seconds.values()) < 600 and OFFICIAL.notebooks == ()


def test_profile_gpu_is_larger_wherever_a_size_is_a_parameter():
    profile = load_profiles(notebooks_folder()).profile("gpu")
    for book in notebooks.find_books(notebooks_folder()):
        known = notebooks.parameters_of(notebooks.read(book.path), book.name)
        given = profile.setting(book.number).parameters
        notebooks.check_overrides(book.name, known, given)
        assert given or book.number == "00", f"{book.name} has no larger size"  # 00 has no size among its parameters
        for name, value in given.items():
            size = (lambda x: len(x)) if isinstance(value, list) else (lambda x: x)
            assert size(value) > size(known[name].value), f"{book.name}: {name} is not larger"


# going on

def test_records_are_kept_for_the_same_library_only(tmp_path):
    path = tmp_path / "device.json"
    records = Records(path, HEAD)
    records.add("steps", "a", {"seconds": 1.0})
    records.close("steps", "stopped", 3.0)
    again = Records(path, HEAD)
    assert again.get("steps", "a") == {"seconds": 1.0} and again.part("steps")["state"] == "stopped"
    again.close("steps", "done", 4.0)
    assert again.part("steps")["seconds"] == 7.0
    assert Records(path, HEAD | {"library": "xyz"}).get("steps", "a") is None
    path.write_text("{")
    assert Records(path, HEAD).get("steps", "a") is None


def test_what_is_known_is_not_measured_again(tmp_path):
    records = Records(tmp_path / "device.json", HEAD)
    records.add("steps", "bf16, alpha 0, batch 3", {"fits": False})
    assert not one_case(records, Bench(REHEARSAL), "bf16", 0.0, 3, 1, print)


def test_a_part_is_stopped_by_its_budget_with_all_its_children(tmp_path):
    alive = tmp_path / "alive"
    child = ("import time, pathlib\n"
             f"for i in range(600): pathlib.Path({str(alive)!r}).write_text(str(i)); time.sleep(.1)")
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert within([sys.executable, "-c", parent], 3.0) == "stopped"
    last = alive.read_text()
    time.sleep(0.5)
    assert alive.read_text() == last
    assert within([sys.executable, "-c", "pass"], 60) == "done"
    assert within([sys.executable, "-c", "raise SystemExit(3)"], 60) == "failed"


# the search

@pytest.mark.parametrize("limit, most, found, tried", [
    (20, 192, 12, [6, 12, 24]), (1, 192, 3, [6]), (999, 24, 24, [6, 12, 24])])
def test_the_largest_batch_is_found_by_doubling(limit, most, found, tried):
    seen = []

    def fits(batch: int) -> bool:
        seen.append(batch)
        return batch <= limit
    assert largest(3, most, fits) == found and seen == tried


def test_memory_that_does_not_suffice_is_a_result():
    def too_much():
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert measure_or_none(too_much, "cpu") is None
    assert measure_or_none(lambda: measure(lambda: None, "cpu", 2, 1), "cpu")["repeats"] == 2
    with pytest.raises(ZeroDivisionError):
        measure_or_none(lambda: 1 / 0, "cpu")
