"""The set-up script says what is wrong and what to do: driven here with fakes, nothing is installed."""
import ast
import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "setup.py"
spec = importlib.util.spec_from_file_location("setup_script", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


def answer(version=(3, 12, 1), missing=(), executable="/opt/python"):
    return {"version": version, "missing": list(missing), "executable": executable}


def asking(**answers):
    """A stand-in for `probe` that knows only these interpreters."""
    return lambda name: answers.get(str(name))


@pytest.fixture
def project(tmp_path):
    """A folder with what the script reads of the repository."""
    (tmp_path / "requirements.lock").write_text("six==1.17.0\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    return tmp_path


@pytest.fixture
def finished(project):
    """An environment that claims to be finished."""
    environment = script.Environment(project)
    environment.folder.mkdir()
    environment.write_stamp("complete")
    return environment


def test_script_parses_on_old_interpreters():
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 6))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


# --- which Python ---

def test_first_suitable_python_is_taken():
    found = script.choose_python(ask=asking(old=answer((3, 9, 1)), good=answer((3, 13, 0))), candidates=["old", "good"])
    assert found["version"] == (3, 13, 0)


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 14, 0), (2, 7, 18)])
def test_wrong_python_is_named_with_its_version_and_a_remedy(version):
    ask = asking(p=answer(version, executable="/usr/bin/p"))
    with pytest.raises(script.Problem) as problem:
        script.choose_python(ask=ask, candidates=["p", "absent"])
    text = str(problem.value)
    assert f"/usr/bin/p: version {'.'.join(map(str, version))} is outside 3.11 to 3.13" in text
    assert "absent: does not run" in text
    assert "install Python 3.11, 3.12 or 3.13" in text and "PYTHON=" in text


def test_python_that_was_asked_for_is_not_replaced_by_another():
    with pytest.raises(script.Problem, match="3.9.1 is outside"):
        script.choose_python("wanted", ask=asking(wanted=answer((3, 9, 1)), python3=answer()))


def test_debian_without_venv_gets_the_name_of_the_package():
    with pytest.raises(script.Problem) as problem:
        script.choose_python("p", ask=asking(p=answer((3, 11, 2), missing=["ensurepip"])))
    assert "lacks ensurepip" in str(problem.value) and "sudo apt install python3.11-venv" in str(problem.value)


def test_probe_runs_a_real_interpreter_and_survives_what_is_none(tmp_path):
    assert script.probe(sys.executable)["version"] == sys.version_info[:3]
    assert script.probe(tmp_path / "absent") is None
    assert script.probe("false") is None


# --- space ---

def test_too_little_space_is_an_error_with_figures(tmp_path):
    with pytest.raises(script.Problem, match=r"1\.0 GB free in .* needs about 3 GB"):
        script.check_space(tmp_path, {}, free=script.GIB)


def test_space_that_suffices_for_the_cpu_build_only_is_remarked(tmp_path):
    tight, ample = 4 * script.GIB, 20 * script.GIB
    assert "CPU only" in script.check_space(tmp_path, {}, free=tight, platform="linux")
    assert "CPU only" not in script.check_space(tmp_path, {}, free=tight, platform="darwin")
    assert "CPU only" not in script.check_space(tmp_path, {"TORCH_INDEX_URL": "x"}, free=tight, platform="linux")
    assert script.check_space(tmp_path, {}, free=ample, platform="linux") == "20.0 GB free"


# --- what pip's failures mean ---

@pytest.mark.parametrize("line, what, remedy", [
    ("Failed to establish a new connection: [Errno -3] Temporary failure in name resolution", "no network", "mirror"),
    ("Failed to establish a new connection: [Errno 111] Connection refused", "no network", "HTTPS_PROXY"),
    ("ReadTimeoutError: Read timed out.", "no network", "mirror"),
    ("ProxyError('Cannot connect to proxy.')", "proxy", "HTTPS_PROXY"),
    ("SSLError: certificate verify failed: CERTIFICATE_VERIFY_FAILED", "certificate", "PIP_CERT"),
    ("ERROR: Could not install packages: OSError: [Errno 28] No space left on device", "disk is full", "TMPDIR"),
    ("ERROR: No matching distribution found for torch==2.13.0", "no build of torch", "Apple silicon"),
    ("ERROR: Could not find a version that satisfies six (from versions: none)", "or a mirror", "PIP_INDEX_URL"),
    ("ERROR: No matching distribution found for six==1.17.0", "does not offer", "PIP_INDEX_URL"),
    ("ImportError: libGL.so.1: cannot open shared object file", "library of the system", "apt install libgl1"),
    ("PermissionError: [Errno 13] Permission denied: '/x'", "could not be written", "sudo"),
    ("Segmentation fault", "does not know", "log"),
])
def test_failures_are_explained(line, what, remedy):
    found_what, found_remedy = script.explain(["Collecting x", line])
    assert what in found_what and remedy in found_remedy


def test_unreachable_index_counts_before_what_pip_concludes_from_it():
    lines = ["WARNING: Retrying after connection broken by 'NewConnectionError(...)': /simple/six/",
             "ERROR: Could not find a version that satisfies the requirement six==1.17.0 (from versions: none)",
             "ERROR: No matching distribution found for six==1.17.0"]
    assert script.explain(lines)[0].startswith("no network")


# --- what is to be done ---

def test_nothing_there_is_built(project):
    assert script.Environment(project).plan() == "build"


def test_finished_environment_is_left_alone_until_its_requirements_change(finished):
    ask = asking(**{str(finished.python): answer()})
    assert finished.plan(ask=ask) == "ready"
    (finished.root / "requirements.lock").write_text("six==1.16.0\n")
    assert finished.plan(ask=ask) == "update"
    finished.write_stamp("updating")
    assert finished.plan(ask=ask) == "update", "an update that failed is tried again"


def test_environment_is_built_anew_when_it_cannot_be_used(finished):
    ask = asking(**{str(finished.python): answer()})
    assert finished.plan(ask=asking()) == "build", "its interpreter is gone"
    assert finished.plan("new", ask=asking(new=answer((3, 13, 0)), **{str(finished.python): answer()})) == "build"
    assert finished.plan("same", ask=asking(same=answer((3, 12, 9)), **{str(finished.python): answer()})) == "ready"
    finished.write_stamp("building")
    assert finished.plan(ask=ask) == "build", "the last set-up was interrupted"


def test_moved_repository_is_built_anew(finished, tmp_path_factory):
    moved = tmp_path_factory.mktemp("elsewhere") / "project"
    finished.root.rename(moved)
    environment = script.Environment(moved)
    assert environment.plan(ask=asking(**{str(environment.python): answer()})) == "build"


def test_foreign_environment_is_not_touched(project):
    (project / ".venv").mkdir()
    (project / ".venv" / "pyvenv.cfg").write_text("")
    with pytest.raises(script.Problem, match="did not make it"):
        script.Environment(project).plan()
    assert (project / ".venv" / "pyvenv.cfg").exists()


# --- whole runs, with a fake interpreter or an index that refuses connections ---

REFUSING = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", "PIP_NO_CACHE_DIR": "1"}


def run(project, **env):
    """Run a copy of the script in `project`, with no settings of pip but those in `env`."""
    base = {k: v for k, v in os.environ.items() if k != "PYTHON" and not k.startswith("PIP_")}
    base.update(env, PIP_CONFIG_FILE=os.devnull)
    (project / ".ci").mkdir(exist_ok=True)
    (project / ".ci" / "setup.py").write_text(SCRIPT.read_text())
    return subprocess.run([sys.executable, ".ci/setup.py"], cwd=project, env=base,
                          capture_output=True, text=True, timeout=120)


def fake_python(folder, body):
    path = folder / "fake-python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_run_with_a_wrong_python_fails_with_one_message(project):
    fake = fake_python(project, """echo '{"version": [3, 9, 1], "executable": "/opt/py39", "missing": []}'""")
    done = run(project, PYTHON=str(fake))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "set-up failed: no suitable Python" in done.stderr and "/opt/py39: version 3.9.1" in done.stderr
    assert not (project / ".venv").exists()


def test_run_without_network_leaves_nothing_and_says_so(project):
    done = run(project, **REFUSING)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "set-up failed: no network" in done.stderr and "HTTPS_PROXY" in done.stderr
    assert "Nothing is half-installed" in done.stderr and not (project / ".venv").exists()
    assert "six==1.17.0" in (project / ".setup.log").read_text()


def test_failed_rebuild_puts_the_earlier_environment_back(project):
    environment = script.Environment(project)
    environment.folder.mkdir()
    environment.write_stamp("complete")
    (environment.folder / "kept").write_text("")
    done = run(project, **REFUSING)
    assert done.returncode == 1 and "earlier .venv was put back" in done.stderr
    assert (environment.folder / "kept").exists() and environment.stamp()["state"] == "complete"
    assert not (project / ".venv.previous").exists()


def test_long_steps_show_what_is_under_way(tmp_path, capsys):
    steps = script.Steps(tmp_path / "log")
    code = "import time; print('  Downloading torch-2.13.0.whl (526 MB)', flush=True); time.sleep(3)"
    status, lines = steps.run([sys.executable, "-c", code], os.environ, beat=1)
    assert status == 0 and len(lines) == 1
    assert "still working: Downloading torch-2.13.0.whl (526 MB)" in capsys.readouterr().out
    assert "Downloading torch" in (tmp_path / "log").read_text()
