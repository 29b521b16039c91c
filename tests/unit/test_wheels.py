"""The wheels of the library and of its samples work outside of a clone."""
import os
import re
import shlex
import subprocess
import sys
import zipfile
from email.parser import Parser
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "anytext-loss-course"
ONLY = """
import importlib.metadata, sys
from importlib.machinery import PathFinder

modules, packages = {modules}, {packages}


class Only(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in modules else super().find_spec(name, path, target)


def from_name(name, found=importlib.metadata.Distribution.from_name):
    if name.lower().replace("_", "-") in packages:
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)


sys.meta_path = [Only if finder is PathFinder else finder for finder in sys.meta_path]
importlib.metadata.Distribution.from_name = from_name
"""
"""Code that hides modules and packages from what comes after it."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what the two wheels hold, as site-packages would have it."""
    dist, folder = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, ROOT / ".ci" / "wheels.py", dist], check=True, capture_output=True)
    wheels = sorted(dist.glob("*.whl"))
    assert [wheel.name.split("-")[0] for wheel in wheels] == ["anytext_loss_course", "anytext_loss_course_samples"]
    for wheel in wheels:
        zipfile.ZipFile(wheel).extractall(folder)
    return folder


def run(code, site, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "ANYTEXT_DATA"}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300,
                          env={**environment, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"})


def command(arguments, site, cwd):
    return run(f"import sys; from anytext_lib.cli import main; sys.exit(main({arguments!r}))", site, cwd)


def test_they_hold_all_that_the_repository_has(installed):
    for folder, packed in ((ROOT / "anytext_lib", "anytext_lib"), (ROOT / "data_samples", "anytext_samples")):
        tracked = subprocess.run(["git", "ls-files", "."], cwd=folder, capture_output=True, text=True, check=True)
        missing = [name for name in tracked.stdout.splitlines() if not (installed / packed / name).is_file()]
        assert not missing and tracked.stdout


def test_a_picture_from_an_empty_folder(installed, tmp_path):
    done = command(["generate", "--prompt", 'A plain poster that says "Tea".', "--ddim-steps", "2", "--out", "tea"],
                   installed, tmp_path)
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "tea").glob("*.png")
    with Image.open(made) as picture:
        assert picture.size == (192, 64)


def test_the_readmes_losses_from_an_empty_folder(installed, tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text[text.index("## The library") :], re.DOTALL)
    assert blocks
    done = run("\n".join(blocks) + "\nimport anytext_lib; print(anytext_lib.__file__)", installed, tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(installed) in done.stdout


def test_a_loss_of_ones_own_as_the_readme_has_it(installed, tmp_path):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = text[text.index("### Outside of a clone") : text.index("## The library")]
    (function,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (line,) = [found for found in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "fit" in found]
    path, _, *arguments = shlex.split(line.replace("\\\n", " "))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "losses.py").write_text(function)
    assert path == "PYTHONPATH=mine"
    done = command([*arguments, "--trainer.max_steps", "1"], f"{installed}{os.pathsep}mine", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "mini" / "model").is_dir()


def test_what_needs_the_clone_says_so(installed, tmp_path):
    done = command(["course", "list"], installed, tmp_path)
    assert done.returncode == 2
    assert "whole repository" in done.stderr and "Traceback" not in done.stderr


def test_without_the_samples_the_error_says_what_to_do(installed, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "anytext_lib").symlink_to(installed / "anytext_lib")
    done = command(["generate", "--prompt", '"Tea"', "--out", "tea"], site, tmp_path)
    assert done.returncode == 2 and "anytext-loss-course-samples" in done.stderr and "Traceback" not in done.stderr


# --- extras ---

@cache
def requirements_of(name, site):
    if name != PROJECT:
        return metadata.requires(name) or []
    (told,) = site.glob("anytext_loss_course-*.dist-info/METADATA")
    return Parser().parsestr(told.read_text(encoding="utf-8")).get_all("Requires-Dist")


def only(extra, site):
    """ONLY, for what the package with one extra does not bring."""
    seen, waiting = set(), [(PROJECT, frozenset([extra]))]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen or name.startswith(("nvidia-", "cuda-", "triton")):
            continue
        seen.add((name, extras))
        for text in requirements_of(name, site):
            r = Requirement(text)
            if r.marker is None or any(r.marker.evaluate({"extra": each}) for each in extras | {""}):
                waiting.append((canonicalize_name(r.name), frozenset(r.extras)))
    brought = {name for name, _ in seen} | {"setuptools", "pip"}
    owners = {module: set(map(canonicalize_name, names)) for module, names in metadata.packages_distributions().items()}
    return ONLY.format(modules={module for module, names in owners.items() if not brought & names},
                       packages=set().union(*owners.values()) - brought)


def command_with(extra, arguments, site, cwd):
    """A command where only the packages of an extra are installed."""
    return run(f"{only(extra, site)}\nfrom anytext_lib.cli import main; sys.exit(main({list(map(str, arguments))!r}))",
               site, cwd)


def test_the_losses_need_the_core_alone(installed, tmp_path):
    done = run(only("core", installed) + "import torch\nfrom anytext_lib.losses import ctc_loss\n"
               "assert ctc_loss(torch.zeros(1, 4, 3), [[1, 2]]).item() > 0\nimport cv2", installed, tmp_path)
    assert "No module named 'cv2'" in done.stderr
    assert not {"torch", "numpy", "sympy"} & set(re.search(r"modules, packages = ({.*?}),", only("core", installed))[1])


COMMANDS = {
    "read": [["explain", "{image}", "--text", "TEXT", "--output", "told.png"], ["data", "check", "{annotations}"]],
    "train": [["generate", "--prompt", 'A poster that says "Tea".', "--ddim-steps", "2", "--out", "tea"],
              ["fit", "--config", "mini.yaml", "--trainer.max_steps", "1"]],
    "eval": [["evaluate", "ocr", "{annotations}", "{images}"]],
}


@pytest.mark.parametrize("extra, arguments", [(extra, c) for extra, commands in COMMANDS.items() for c in commands],
                         ids=lambda value: value if isinstance(value, str) else " ".join(value[:2]))
def test_what_each_extra_is_enough_for(installed, tmp_path, extra, arguments):
    samples = ROOT / "data_samples"
    places = {"images": samples / "images", "image": samples / "images" / "scene_00.jpg",
              "annotations": samples / "annotations.json"}
    done = command_with(extra, [word.format(**places) for word in arguments], installed, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("extra, arguments, package, brings", [
    ("core", ["--version"], "jsonargparse", "read"), ("read", ["generate", "--prompt", "x"], "diffusers", "train"),
    ("train", ["evaluate", "ocr", str(ROOT / "data_samples" / "annotations.json")], "scipy", "eval"),
])
def test_a_command_of_another_extra_names_it(installed, tmp_path, extra, arguments, package, brings):
    done = command_with(extra, arguments, installed, tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"the package {package} is not installed" in done.stderr
    assert f"pip install '{PROJECT}[{brings}]'" in done.stderr
