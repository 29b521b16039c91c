"""The runner on tiny notebooks: what it says, what it leaves behind, and its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest
import torch
import yaml

from anytext_lib.course.record import Record, records_of
from anytext_lib.device import cpu_count
from anytext_lib.errors import CourseError
from anytext_lib.publishing import execute, notebooks, provenance

RECORDS = "record('value', n * scale)"


def test_success_keeps_the_numbers_and_the_provenance(course):
    course.add("01_good", RECORDS, "import sys, os\nassert 'JPY_SESSION_NAME' not in os.environ")
    assert course.run() == 0
    assert "01_good" in course.said and "ok" in course.said and "1 number" in course.said
    assert "1 of 1 notebooks" in course.said and "-m jupyterlab" in course.said
    executed = course.output("01_good")
    stamp = executed.metadata["anytext"]
    assert stamp["source_hash"] == provenance.source_hash(notebooks.read(course.folder / "01_good.ipynb"))
    assert stamp["parameters"] == {"n": 2, "scale": 1.5} and stamp["profile"] == "default"
    assert {"cpu", "threads", "instructions", "onednn_limit"} <= set(stamp)
    assert stamp["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert stamp["device"] == "cpu" and stamp["seconds"] > 0 and stamp["peak_memory_mib"] > 20
    assert stamp["versions"]["numpy"] and stamp["python"].startswith("3.")
    assert str(course.folder.parent) not in notebooks.as_text(executed)
    assert "papermill" not in notebooks.as_text(executed)


def test_kernel_is_this_interpreter_even_where_another_kernel_is_installed(course, tmp_path, monkeypatch):
    other = tmp_path / "jupyter" / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text('{"argv": ["false"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("EXPECTED_PYTHON", sys.executable)
    monkeypatch.setenv("JPY_SESSION_NAME", "a front end")
    course.add("01_same", "import os, sys\nassert sys.executable == os.environ['EXPECTED_PYTHON'], sys.executable",
               "assert 'JPY_SESSION_NAME' not in os.environ", RECORDS)
    assert course.run() == 0, course.said


def test_failing_cell_is_shown_and_the_notebook_kept(course):
    course.add("01_bad", RECORDS, "total = 1\ntotal / (n - 2)", "print('never')")
    assert course.run() == 1
    assert "failed" in course.said and "code cell 4 raised ZeroDivisionError" in course.said
    assert "    | total / (n - 2)" in course.said and "division by zero" in course.said
    kept = course.output("01_bad")
    assert kept.metadata["anytext"]["status"] == "failed"
    assert any(output.output_type == "error" for cell in notebooks.code_cells(kept) for output in cell.outputs)


def test_hint_of_a_check_is_shown_without_a_traceback(course):
    course.add("01_hint", "from anytext_lib.course.checks import NotYet\nraise NotYet('count again')")
    assert course.run() == 1
    assert "✗ Not yet: count again" in course.said and "Traceback" not in course.said


def test_hanging_notebook_is_stopped_with_its_kernel(course):
    course.profiles({"default": {"budget_seconds": 5}})
    marker = f"marker_{os.getpid()}"
    wait = f"import time, subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', "\
           f"'import time; {marker} = 1; time.sleep(99)'])\ntime.sleep(99)"
    course.add("01_hang", RECORDS, wait)
    started = time.perf_counter()
    assert course.run() == 1
    assert time.perf_counter() - started < 60
    assert "timeout" in course.said and "    | time.sleep(99)" in course.said
    assert "stopped after 5 s in which it hardly computed (it waits for something)" in course.said
    assert course.output("01_hang").metadata["anytext"]["status"] == "timeout"
    assert not [p for p in psutil.process_iter(["cmdline"]) if marker in " ".join(p.info["cmdline"] or [])]


@pytest.fixture
def load(monkeypatch):
    """Set the load average that the runner sees."""
    return lambda value: monkeypatch.setattr(execute.psutil, "getloadavg", lambda: (value, value, value))


BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end:\n    pass"
TRICKLE = ("import time\nend = time.perf_counter() + {seconds}\nwhile time.perf_counter() < end:\n"
           "    time.sleep(0.2)\n    sum(range(300_000))")


def test_budget_counts_cpu_seconds(course, load):
    load(0.1)
    course.profiles({"default": {"budget_seconds": 6}})
    course.add("01_burn", RECORDS, BURN.format(seconds=60))
    started = time.perf_counter()
    assert course.run() == 1
    assert time.perf_counter() - started < 60
    assert "01_burn: stopped after its budget of 6 CPU seconds: " in course.said and "once more" not in course.said
    assert f"the machine was not busy: load average 0.1 on {cpu_count()} core" in course.said
    assert "3 of 4 code cells had ended" in course.said and "    | while time.process_time() < end:" in course.said
    assert 6 <= course.output("01_burn").metadata["anytext"]["cpu_seconds"] < 12


def test_notebook_that_seldom_gets_the_processor_is_not_stopped(course):
    """Seconds by the clock are many times the budget, those of the processor are not."""
    course.profiles({"default": {"budget_seconds": 6}})
    course.add("01_slow", RECORDS, TRICKLE.format(seconds=10))
    assert course.run() == 0, course.said
    stamp = course.output("01_slow").metadata["anytext"]
    assert stamp["seconds"] > 10 and stamp["cpu_seconds"] < 6


def test_stopped_on_a_busy_machine_is_said_and_tried_once_more(course, load):
    load(99.0)
    course.profiles({"default": {"budget_seconds": 6}})
    once = "import pathlib\nmark = pathlib.Path('mark')\nseen = mark.exists()\nmark.touch()\n"
    course.add("01_once", RECORDS, once + BURN.format(seconds=60).replace("while", "while not seen and"))
    assert course.run() == 0, course.said
    assert "01_once: stopped after its budget of 6 CPU seconds" in course.said
    assert f"the machine was busy: load average 99.0 on {cpu_count()} core" in course.said
    assert "it is tried once more" in course.said and "1 of 1 notebooks ran as they should" in course.said


def test_second_try_is_the_last(course, load):
    load(99.0)
    course.profiles({"default": {"budget_seconds": 4}})
    course.add("01_burn", RECORDS, "open('starts', 'a').write('x')", BURN.format(seconds=60))
    assert course.run() == 1
    assert (course.folder / "starts").read_text() == "xx" and course.said.count("it is tried once more") == 1
    assert "stopped for the second time after its budget of 4 CPU seconds" in course.said


def test_meter_keeps_what_ended_children_used_and_has_a_limit_by_the_clock(monkeypatch):
    burn = BURN.format(seconds=0.7)
    source = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {burn!r}])\ntime.sleep(30)"
    process = subprocess.Popen([sys.executable, "-c", source])
    try:
        monkeypatch.setattr(execute, "SAMPLE_SECONDS", 0.02)
        watch = execute.Meter(process.pid, budget=1.5)
        while (said := watch.excess()) is None:
            time.sleep(0.02)
        assert "hardly computed" in said and watch.usage().cpu_seconds > 0.6 and watch.seconds > 1.5
        late = execute.Meter(process.pid, 2.0, time.perf_counter() - 13, _mark=(12.5, 0.0))
        assert late.excess().startswith("6 times")
    finally:
        process.kill()
        process.wait()


def test_dead_kernel_is_told_from_a_failing_cell(course):
    course.add("01_dead", RECORDS, "import os\nos._exit(9)")
    assert course.run() == 1
    assert "the process or its kernel died" in course.said


def test_notebook_that_records_nothing(course):
    course.add("01_mute", "print('hello')")
    assert course.run() == 1
    assert "01_mute: recorded nothing" in course.said


def test_duplicate_record(course):
    course.add("01_twice", RECORDS, "record('value', 3)")
    assert course.run() == 1
    assert "01_twice: recorded 'value' more than once" in course.said


def test_drift_shows_both_values_and_the_tolerance(course):
    course.add("01_drift", RECORDS, "record('count', n)", "record('time', 1.0 * scale, 's')")
    assert course.run(update_baselines=True) == 0
    assert course.baselines()["01"] == {
        "value": {"value": 3.0, "rtol": 0.01, "atol": 0.0}, "count": {"value": 2, "rtol": 0.0, "atol": 0.0},
    }
    assert course.run(check=True, parameters={"scale": 1.51}) == 0, "within the tolerance; times are not compared"
    assert course.run(check=True, parameters={"scale": 2.0}) == 1
    assert "01_drift: value drifted: recorded 4.0, expected 3.0" in course.said
    assert "differ by 1, the tolerance is 0.03 (rtol 0.01, atol 0.0)" in course.said


def test_missing_and_unrecorded_baselines_are_told_apart(course):
    course.add("01_base", RECORDS)
    folder = course.folder / "baselines"
    folder.mkdir()
    content = {"01": {"gone": {"value": 7}}}
    (folder / "default.cpu.yaml").write_text(yaml.safe_dump(content))
    assert course.run(check=True) == 1
    assert "recorded value = 3, which has no baseline in baselines/default.cpu.yaml" in course.said
    assert "gone has a baseline (7) in baselines/default.cpu.yaml but was not recorded" in course.said


def test_a_kind_of_device_without_baselines_is_said_and_does_not_fail(course):
    course.add("01_base", RECORDS)
    assert course.run(check=True) == 0
    assert "There is no baselines/default.cpu.yaml" in course.said and "nothing is compared" in course.said


def test_update_keeps_tolerances_and_the_other_notebooks(course):
    course.add("01_first", RECORDS)
    (course.folder / "baselines").mkdir()
    content = {"01": {"value": {"value": 9, "rtol": 0.5, "atol": 0.25}}, "02": {"x": {"value": 1}}}
    (course.folder / "baselines" / "default.cpu.yaml").write_text(yaml.safe_dump(content))
    assert course.run(update_baselines=True) == 0
    assert course.baselines() == {"01": {"value": {"value": 3.0, "rtol": 0.5, "atol": 0.25}}, "02": {"x": {"value": 1}}}


def test_profile_overrides_and_unknown_parameters(course):
    settings = {"parameters": {"n": 5}}
    course.profiles({"quick": {"budget_seconds": 60, "notebooks": {"01": settings}}})
    course.add("01_params", RECORDS)
    assert course.run(profile="quick", update_baselines=True) == 0
    assert course.baselines("quick")["01"]["value"]["value"] == 7.5
    assert course.output("01_params", "quick").metadata["anytext"]["parameters"] == {"n": 5, "scale": 1.5}
    with pytest.raises(CourseError, match="01_params has no parameter 'm'. It has: n, scale"):
        course.run(profile="quick", parameters={"m": 1})
    with pytest.raises(CourseError, match="'n' is of type int .* got str 'many'"):
        course.run(parameters={"n": "many"}, profile="quick")
    with pytest.raises(CourseError, match="no profile 'fast' .* There are: quick"):
        course.run(profile="fast")
    with pytest.raises(CourseError, match="no notebook '07'.* There are: 01_params"):
        course.run(profile="quick", notebooks=["07"])


def test_two_jobs_run_side_by_side_and_share_the_cores(course, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    meet = ("import time, pathlib\npathlib.Path(f'{me}.here').touch()\nend = time.time() + 30\n"
            "while not pathlib.Path(f'{other}.here').exists() and time.time() < end:\n    time.sleep(0.05)\n"
            "assert pathlib.Path(f'{other}.here').exists(), 'alone'")
    for me, other in ((1, 2), (2, 1)):
        course.add(f"0{me}_pair", meet, "import os\nrecord('threads', int(os.environ['OMP_NUM_THREADS']))",
                   parameters=f"me = {me}  # this\nother = {other}  # that")
    assert course.run(jobs=2) == 0, course.said
    expected = max(1, cpu_count() // 2)
    for name in ("01_pair", "02_pair"):
        assert course.output(name).metadata["anytext"]["threads"] == expected
        assert records_of(course.output(name)) == [Record("threads", expected, None)]
    assert "[2/2]" in course.said and "2 of 2 notebooks" in course.said


def test_in_place_publishes_only_what_ran_as_it_should(course):
    good = course.add("01_good", RECORDS)
    bad = course.add("02_bad", RECORDS, "1 / 0")
    before = bad.read_bytes()
    assert course.run(in_place=True) == 1
    published = notebooks.read(good)
    assert published.metadata["anytext"]["status"] == "ok"
    assert [cell.execution_count for cell in notebooks.code_cells(published)] == [1, 2, 3]
    assert published.cells[0].source.splitlines()[2].startswith("**Cost:** ")
    assert "peak memory" in published.cells[0].source
    assert bad.read_bytes() == before
    assert sorted(path.name for path in course.folder.iterdir()) == [
        "01_good.ipynb", "02_bad.ipynb", "baselines", "profiles.yaml",
    ]
    hashed = provenance.source_hash(published)
    assert published.metadata["anytext"]["source_hash"] == hashed
    assert course.run(in_place=True, notebooks=["01"], parameters={"n": 4}) == 0
    again = notebooks.read(good)
    assert provenance.source_hash(again) == hashed, "neither the cost nor injected parameters change the sources"
    assert "n = 4" in again.cells[2].source and course.run(notebooks=["01"]) == 0
    assert len(course.output("01_good").cells) == len(published.cells), "the injected cell is not inherited"


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        notebooks.write_atomically(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("notebooks: {2: x}\nprofiles: {}", "notebooks has the key 2: write the notebook's number in quotes"),
        ("notebooks: {}", "the file lacks the key 'profiles'"),
        ("notebooks: {}\nprofiles: {quick: {}}", "profiles.quick lacks the key 'budget_seconds'"),
        ("notebooks: {}\nprofiles: {quick: {budget_seconds: 0}}", "must be a number above 0, got 0"),
        ("notebooks: {}\nprofiles: {quick: {budget_seconds: 9, speed: 1}}", "unknown key 'speed'"),
        ('notebooks: {"01": x}\nprofiles: {q: {budget_seconds: 9, notebooks: {"02": {}}}}', "not one of the notebooks"),
        ('notebooks: {"01": x}\nprofiles: {q: {budget_seconds: 9, notebooks: {"01": {parameters: [1]}}}}',
         "profiles.q.notebooks.01.parameters must be a mapping, got list"),
        ("notebooks: [", "no valid YAML"),
    ],
)
def test_wrong_profiles_are_explained(course, content, message):
    (course.folder / "profiles.yaml").write_text(content)
    course.add("01_any", RECORDS)
    with pytest.raises(CourseError) as caught:
        course.run()
    assert message in str(caught.value) and "profiles.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [("n = len('x')", "must be a literal"), ("import os", "may hold only"), ("a = b = 1", "may hold only")],
)
def test_wrong_parameter_cells_are_explained(course, parameters, message):
    course.add("01_cell", RECORDS, parameters=parameters)
    with pytest.raises(CourseError, match=f"01_cell: .*{message}"):
        course.run()


def test_exit_status_of_the_command(course):
    course.add("01_mute", "print('hello')")
    command = [sys.executable, "-m", "anytext_lib.cli", "course", "run", "--device", "cpu", "--folder", course.folder]
    root = str(notebooks.Path(notebooks.__file__).resolve().parents[2])
    options = {"capture_output": True, "text": True, "env": os.environ | {"PYTHONPATH": root}, "cwd": course.folder}
    mute = subprocess.run(command, **options)
    assert mute.returncode == 1 and "recorded nothing" in mute.stdout
    unknown = subprocess.run([*command, "-p", "speed=3"], **options)
    assert unknown.returncode == 2
    assert unknown.stderr == "anytext course run: 01_mute has no parameter 'speed'. It has: n, scale.\n"
    assert "Traceback" not in unknown.stderr


@pytest.mark.parametrize("failures, status", [(1, 0), (3, 1)])
def test_a_kernel_that_does_not_start_is_started_again(course, monkeypatch, failures, status):
    """A module in front of ipykernel's launcher dies as often as it is told."""
    folder = course.folder.parent
    (folder / "ipykernel_launcher.py").write_text(
        f"import pathlib, runpy, sys\nseen = pathlib.Path({str(folder)!r}) / 'starts'\n"
        "count = len(seen.read_text()) + 1 if seen.exists() else 1\nseen.write_text('x' * count)\n"
        f"sys.path.remove({str(folder)!r})\n"
        f"sys.exit(1) if count <= {failures} else runpy.run_module('ipykernel_launcher', run_name='__main__')\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    course.add("01_start", "record('a', 1)")
    assert course.run() == status, course.said
    assert (folder / "starts").read_text() == "x" * min(failures + 1, 3)
    assert status == 0 or "Kernel died before replying" in course.said
