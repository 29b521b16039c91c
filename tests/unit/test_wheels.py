"""The wheels of the library and of its samples work outside of a clone."""
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


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
