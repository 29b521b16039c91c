"""The set-up script says what is wrong and what to do: driven here with fakes, nothing is installed."""
import ast
import fcntl
import importlib.util
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "setup.py"
spec = importlib.util.spec_from_file_location("setup_script", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
REFUSING = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", "PIP_NO_CACHE_DIR": "1"}


def fake_python(path, version=(3, 12, 1), missing=""):
    """A program that answers like an interpreter of this version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '[{list(version)}, \"{path}\", \"{missing}\"]'\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def project(tmp_path):
    """A folder with a space in its name, and in it what the script reads of the repository."""
    folder = tmp_path / "a project"
    (folder / ".ci").mkdir(parents=True)
    (folder / ".ci" / "setup.py").write_text(SCRIPT.read_text())
    (folder / ".ci" / "hashes.lock").write_text(f"six==1.17.0 \\\n    --hash=sha256:{'0' * 64}\n")
    (folder / "requirements.lock").write_text("six==1.17.0\n")
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    return folder


@pytest.fixture
def finished(project):
    """An environment that claims to be finished, with a fake interpreter."""
    environment = script.Environment(project)
    fake_python(environment.python)
    environment.stamp.write_text(environment.mark("complete"))
    return environment


def command(project):
    return [sys.executable, str(project / ".ci" / "setup.py")]


def settings(**env):
    """The environment without settings of pip but those in `env`."""
    base = {k: v for k, v in os.environ.items() if k != "PYTHON" and not k.startswith("PIP_")}
    return base | {"PIP_CONFIG_FILE": os.devnull} | env


def run(project, **env):
    return subprocess.run(command(project), cwd="/", env=settings(**env), capture_output=True, text=True, timeout=120)


def test_script_parses_on_old_interpreters():
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 6))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


# --- which Python ---

@pytest.mark.parametrize("version", [(3, 10, 13), (3, 15, 0), (2, 7, 18)])
def test_wrong_python_is_named_with_its_version_and_a_remedy(tmp_path, version):
    fake = fake_python(tmp_path / "p", version)
    with pytest.raises(script.Problem) as problem:
        script.choose_python(fake)
    text = str(problem.value)
    assert f"{fake}: version {'.'.join(map(str, version))} is outside 3.11 to 3.14" in text
    assert "install Python 3.11 to 3.14" in text and "PYTHON=" in text


def test_first_suitable_python_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", fake_python(tmp_path / "old", (3, 9, 1)))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    fake_python(tmp_path / "bin" / "python3", (3, 15, 0))
    good = fake_python(tmp_path / "bin" / "python3.14", (3, 14, 0))
    assert script.choose_python() == ([3, 14, 0], good, "")


def test_debian_without_venv_gets_the_name_of_the_package(tmp_path):
    with pytest.raises(script.Problem, match="lacks ensurepip .*sudo apt install python3-venv"):
        script.choose_python(fake_python(tmp_path / "p", (3, 11, 2), "ensurepip"))


def test_probe_runs_a_real_interpreter_and_survives_what_is_none(tmp_path):
    assert script.probe(sys.executable) == (list(sys.version_info[:3]), sys.executable, "")
    assert script.probe(tmp_path / "absent")[2] == script.probe("false")[2] == "does not run"


# --- what is to be done ---

def test_nothing_there_is_built(project):
    assert script.Environment(project).plan() == "build"


def test_finished_environment_is_left_alone_until_its_requirements_change(finished):
    assert finished.plan() == "ready"
    (finished.root / "requirements.lock").write_text("six==1.16.0\n")
    assert finished.plan() == "update"
    finished.stamp.write_text(finished.mark("updating"))
    assert finished.plan() == "update", "an update that failed is tried again"


def test_environment_is_built_anew_when_it_cannot_be_used(finished, tmp_path):
    assert finished.plan(fake_python(tmp_path / "new", (3, 13, 0))) == "build"
    assert finished.plan(fake_python(tmp_path / "same", (3, 12, 9))) == "ready"
    finished.stamp.write_text(finished.mark("building"))
    assert finished.plan() == "build", "the last set-up was interrupted"
    finished.stamp.write_text(finished.mark("complete"))
    finished.python.unlink()
    assert finished.plan() == "build", "its interpreter is gone"


def test_moved_repository_is_built_anew(finished, tmp_path):
    finished.root.rename(tmp_path / "elsewhere")
    assert script.Environment(tmp_path / "elsewhere").plan() == "build"


@pytest.mark.parametrize("link", [False, True])
def test_foreign_environment_is_not_touched(project, tmp_path, link):
    there = tmp_path / "other" if link else project / ".venv"
    there.mkdir()
    (there / "pyvenv.cfg").write_text("")
    if link:
        (project / ".venv").symlink_to(there)
    with pytest.raises(script.Problem, match="did not make it"):
        script.Environment(project).plan()
    assert (there / "pyvenv.cfg").exists()


# --- whole runs, with a fake interpreter or an index that refuses connections ---

def test_finished_environment_costs_little_from_any_folder_and_through_a_link(finished, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(finished.root)
    begin = time.monotonic()
    done = run(link, **REFUSING)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and time.monotonic() - begin < 10


def test_run_with_a_wrong_python_fails_with_one_message(project, tmp_path):
    done = run(project, PYTHON=fake_python(tmp_path / "py39", (3, 9, 1)))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "set-up failed: no suitable Python" in done.stderr and "py39: version 3.9.1" in done.stderr
    assert not (project / ".venv").exists()


def test_run_without_network_leaves_nothing_and_says_so(project):
    done = run(project, **REFUSING)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "set-up failed: no network" in done.stderr and "HTTPS_PROXY" in done.stderr
    assert not (project / ".venv").exists() and "six==1.17.0" in (project / ".setup.log").read_text()


def test_a_package_that_is_not_the_locked_file_is_refused(project, tmp_path):
    wheel = tmp_path / "six-1.17.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as parts:
        parts.writestr("six-1.17.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: six\nVersion: 1.17.0\n")
        parts.writestr("six-1.17.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        parts.writestr("six-1.17.0.dist-info/RECORD", "")
    done = run(project, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert done.returncode == 1 and "set-up failed: a downloaded package is not the file that" in done.stderr
    assert not (project / ".venv").exists()


def test_failed_update_keeps_the_environment_and_tries_again(finished):
    pip_fails = '[ "$1" = -c ] || { echo "No space left on device"; exit 1; }\n'
    finished.python.write_text(finished.python.read_text() + pip_fails)
    (finished.root / "requirements.lock").write_text("six==1.16.0\n")
    done = run(finished.root)
    assert done.returncode == 1 and "set-up failed: the disk is full" in done.stderr and "TMPDIR" in done.stderr
    assert finished.python.exists() and finished.plan() == "update"


def test_too_little_space_is_an_error_with_figures(project, monkeypatch):
    monkeypatch.setattr(script.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1e9}))
    with pytest.raises(script.Problem, match=r"1\.0 GB free in .*, 3 GB are needed"):
        script.Environment(project).build(sys.executable)
    assert not (project / ".venv").exists()


def test_second_call_waits_for_the_first(project, finished):
    """While another call is at work, an environment that it builds is neither touched nor refused."""
    finished.stamp.write_text(finished.mark("building"))
    with (project / ".setup.log").open("a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        second = subprocess.Popen(command(project), env=settings(**REFUSING), stderr=subprocess.PIPE)
        time.sleep(1)
        assert second.poll() is None
        finished.stamp.write_text(finished.mark("complete"))
    assert second.communicate(timeout=60)[1] == b"" and second.returncode == 0
