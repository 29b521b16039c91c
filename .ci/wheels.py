"""Builds the two wheels of the course: the library, and its samples (fonts, mini models, scenes, records).

Usage: python .ci/wheels.py [FOLDER]        (default dist; `make wheels`)

Both are made from copies, so that nothing is left in the source folders and nothing old gets in.  The second holds the
folder data_samples as the package anytext_samples, where the library looks for it outside of a clone.
"""
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = """\
[build-system]
requires = ["setuptools>=77.0.3"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}-samples"
version = "{version}"
description = "Fonts, small models, scenes and records of {name}"
requires-python = "{python}"
license = "Apache-2.0 AND OFL-1.1"

[tool.setuptools]
packages = ["anytext_samples"]

[tool.setuptools.package-data]
anytext_samples = ["**"]
"""


def build(source: Path, folder: Path) -> None:
    """Build the wheel of the project in `source` into `folder`."""
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps",
                    "--no-build-isolation", "--wheel-dir", str(folder), str(source)], check=True)


def main(folder: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder.mkdir(parents=True, exist_ok=True)
    unwanted = shutil.ignore_patterns("__pycache__", ".*")
    with tempfile.TemporaryDirectory() as work:
        library, samples = Path(work) / "library", Path(work) / "samples"
        shutil.copytree(ROOT / "anytext_lib", library / "anytext_lib", ignore=unwanted)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, library / name)
        shutil.copytree(ROOT / "data_samples", samples / "anytext_samples", ignore=unwanted)
        (samples / "pyproject.toml").write_text(SAMPLES.format(
            name=project["name"], version=project["version"], python=project["requires-python"]), encoding="utf-8")
        for source in (library, samples):
            build(source, folder)
    for wheel in sorted(folder.glob("*.whl")):
        print(f"{wheel}  {wheel.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve())
