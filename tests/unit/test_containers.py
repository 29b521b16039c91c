"""Dockerfile, development container, Binder and Colab: what can be shown without the services themselves."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from anytext_lib.cli import main
from anytext_lib.errors import CourseError
from anytext_lib.publishing import notebooks
from anytext_lib.publishing.colab import set_up_cell

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def of(kind: str) -> list[str]:
    return [arguments for name, arguments in instructions() if name == kind]


def debian_packages() -> set[str]:
    return set(re.search(r"--no-install-recommends([^&]*)", of("RUN")[0]).group(1).split())


def test_the_image_has_a_python_that_the_course_supports():
    (base,) = of("FROM")
    minor = int(re.fullmatch(r"python:3\.(\d+)-slim-bookworm", base).group(1))
    assert "requires-python = \">=3.11,<3.15\"" in (ROOT / "pyproject.toml").read_text() and 11 <= minor <= 14


def test_its_commands_are_those_of_the_course():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    (command,) = of("CMD")
    assert json.loads(command)[:2] == ["make", "lab"] and {"lab", "setup"} <= targets
    assert "make setup" in of("RUN")[-1] and "TORCH_INDEX_URL" in of("ARG")[0]
    for script in of("RUN"):
        assert subprocess.run(["sh", "-n", "-c", script], capture_output=True).returncode == 0, script


def test_the_set_up_runs_without_being_root_and_what_is_not_needed_stays_out():
    names = [name for name, _ in instructions()]
    assert names.index("USER") < len(names) - 1 - names[::-1].index("RUN"), "make setup runs as the reader"
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "build", "runs", "work"} <= set(ignored)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert not [path for path in tracked if path.split("/")[0] in ignored]


@pytest.mark.skipif(not shutil.which("apt-cache"), reason="needs Debian's package lists")
def test_debian_knows_the_packages():
    found = subprocess.run(["apt-cache", "--quiet", "pkgnames"], capture_output=True, text=True).stdout.split()
    if len(found) < 10_000:
        pytest.skip("Debian's package lists are not here")
    wanted = debian_packages() | set((ROOT / ".binder" / "apt.txt").read_text().split())
    assert not {name for name in wanted if name not in found and f"{name}t64" not in found}


@pytest.mark.skipif(not shutil.which("ldd"), reason="needs ldd")
def test_opencv_finds_its_libraries_with_these_packages():
    import cv2

    wheel = Path(cv2.__file__).parent
    (library,) = wheel.glob("cv2*.so")
    needed = subprocess.run(["ldd", library], capture_output=True, text=True).stdout
    assert "not found" not in needed
    outside = {line.split()[0] for line in needed.splitlines() if "=>" in line and "site-packages" not in line}
    brought = {"libgl1": r"libGL|libX|libxcb|libbsd|libmd", "libglib2.0-0": r"libglib|libgthread|libpcre",
               "libxcb1": "libxcb"}
    assert brought.keys() <= debian_packages()
    base = r"lib(c|m|dl|rt|z|gcc_s|stdc\+\+|pthread)\.so"
    assert not {name for name in outside if not re.match("|".join([base, *brought.values(), "linux-vdso"]), name)}


def test_the_development_container_builds_the_same_image():
    settings = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    build = settings["build"]
    assert (ROOT / ".devcontainer" / build["dockerfile"]).resolve() == DOCKERFILE
    assert (ROOT / ".devcontainer" / build["context"]).resolve() == ROOT
    assert settings["remoteUser"] in of("USER") and settings["postCreateCommand"] == "make setup"


def test_binder_takes_the_pinned_packages():
    folder = ROOT / ".binder"
    here, there = (yaml.safe_load((place / "environment.yml").read_text()) for place in (folder, ROOT))
    assert (here["name"], here["channels"]) == (there["name"], there["channels"])
    *_, pip = here["dependencies"]
    paths = [entry.split()[-1] for entry in pip["pip"] if entry.startswith(("-r", "-e"))]
    assert [(folder / path).resolve() for path in paths] == [ROOT / "requirements.lock", ROOT]


def test_colab_clones_installs_and_goes_on(tmp_path, capsys, monkeypatch):
    """The first cell, run by IPython; what pip would install is only written down."""
    origin = tmp_path / "origin"
    for folder in ("notebooks", "anytext_lib"):
        (origin / folder).mkdir(parents=True)
    (origin / "anytext_lib" / "__init__.py").write_text("HERE = True\n")
    (origin / "notebooks" / "page.ipynb").write_text("{}")
    for command in ("init -q -b main", "add -A", "-c user.name=a -c user.email=a@b commit -q -m first"):
        subprocess.run(["git", *command.split()], cwd=origin, check=True)
    cell = set_up_cell(f"file://{origin}", place=str(tmp_path / "course"))
    program = f"""
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.register_magic_function(lambda line: print("pip", line), "line", "pip")
for _ in range(2):
    shell.run_cell({cell!r}).raise_error()
shell.run_cell("import os, anytext_lib; print(anytext_lib.HERE, os.getcwd())").raise_error()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"pip install --quiet --editable '{tmp_path / 'course'}[course]'") == 1, "it is there then"
    assert done.stdout.splitlines()[-1] == f"True {tmp_path / 'course' / 'notebooks'}"


def test_copies_for_colab_are_written(tmp_path, capsys):
    assert main(["course", "colab", "00", "02", "--repository", "https://example.org/some/course.git",
                 "--out", str(tmp_path)]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2 and names[1].startswith("02_") and names[1] in capsys.readouterr().out
    copied = notebooks.read(tmp_path / names[1])
    assert copied.cells[0].source == set_up_cell("https://example.org/some/course.git")
    assert not [cell for cell in copied.cells if cell.cell_type == "code" and cell.outputs]
    page = notebooks.without_injected(notebooks.read(ROOT / "notebooks" / names[1]))
    assert [cell.source for cell in copied.cells[1:]] == [cell.source for cell in page.cells]


@pytest.mark.parametrize(("repository", "branch"), [("git@example.org:a/b", "main"), ("https://a.b/c; rm -r x", "main"),
                                                    ("https://a.b/c.git", "main; ls")])
def test_what_is_no_address_is_refused(repository, branch):
    with pytest.raises(CourseError, match="is no"):
        set_up_cell(repository, branch)
