"""The project's own files agree with each other, and the package imports lightly from anywhere."""
import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from anytext_lib.cli import main
from anytext_lib.publishing.contents import readme_rows

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OF_USERS = PROJECT["dependencies"] + [text for name in ("read", "train", "eval", "course") for text in EXTRAS[name]
                                      if not text.startswith(PROJECT["name"])]
DIRECT = [Requirement(text) for text in OF_USERS + EXTRAS["dev"] + EXTRAS["site"]]
PINS = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines() if line[0] != "#"]
MACHINES = [
    {"python_version": full.rpartition(".")[0], "python_full_version": full, "sys_platform": system, "os_name": "posix",
     "platform_system": {"linux": "Linux", "darwin": "Darwin"}[system], "platform_machine": machine,
     "implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": ""}
    for full in ("3.11.0", "3.11.9", "3.12.4", "3.13.1", "3.14.0")
    for system, machine in (("linux", "x86_64"), ("darwin", "arm64"))
]
BROUGHT_BY_TORCH = ("nvidia-", "cuda-", "triton")
SITE = {canonicalize_name(Requirement(text).name) for text in EXTRAS["site"]}
DISTRIBUTIONS = {canonicalize_name(each.name) for each in metadata.distributions()}
FORBIDDEN = {"torchvision", "torchaudio", "opencv-python-headless"}
# Packages of the project that no module of anytext_lib imports, and why they are there.
NOT_IMPORTED = {
    "ipykernel": "runs the notebooks",
    "tensorboard": "Lightning's logger of training writes with it",
    "rapidocr": "brings the weights of PP-OCRv4, which are read from its folder",
    "rapidocr-onnxruntime": "brings the weights of PP-OCRv3, which are read from its folder",
}
OUR_OWN = {"anytext_lib", "tests"}
# Modules imported from packages that a declared one always brings.
BROUGHT = {"google": "onnx", "cycler": "matplotlib", "nbconvert": "jupyterlab", "traitlets": "ipywidgets"}


def pins_on(machine):
    """The lock as {name: version} on one machine; a name twice is an error."""
    found = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate(machine):
            name = canonicalize_name(pin.name)
            assert name not in found, f"{name} is pinned twice for {machine['python_full_version']}"
            found[name] = next(iter(pin.specifier)).version
    return found


# --- dependencies ---

def test_lock_pins_everything_exactly():
    loose = [str(pin) for pin in PINS if [s.operator for s in pin.specifier] != ["=="] or "*" in str(pin.specifier)]
    local = [str(pin) for pin in PINS if "+" in str(pin.specifier)]
    assert not loose and not local
    assert "torch==2.13.0" in map(str, PINS)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: f"{m['python_full_version']}-{m['sys_platform']}")
def test_lock_satisfies_pyproject(machine):
    pins = pins_on(machine)
    for wanted in DIRECT:
        version = pins.get(canonicalize_name(wanted.name))
        assert version, f"{wanted} is not in requirements.lock: run `make lock`"
        assert wanted.specifier.contains(version), f"requirements.lock has {version} for {wanted}: run `make lock`"


def test_lock_is_closed_and_holds_nothing_else():
    """Follow what the installed packages require: all of it is pinned, and every pin is reached from pyproject."""
    machine = {"extra": ""}
    pins, reached = pins_on(machine), set()
    waiting = [(canonicalize_name(r.name), frozenset(r.extras)) for r in DIRECT]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in reached or name.startswith(BROUGHT_BY_TORCH):
            continue
        reached.add((name, extras))
        assert name in pins, f"{name} is required but not pinned: run `make lock`"
        if name in SITE and name not in DISTRIBUTIONS:
            pytest.skip(f"{name} is not installed: run `make setup`")
        for text in metadata.requires(name) or []:
            r = Requirement(text)
            if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in extras | {""}):
                waiting.append((canonicalize_name(r.name), frozenset(r.extras)))
    assert set(pins) == {name for name, _ in reached}


def entries(name):
    """The entries of a lock file in .ci: the requirement, and its hashes."""
    text = (ROOT / ".ci" / name).read_text(encoding="utf-8").replace("\\\n", "")
    for line in filter(lambda line: line[0] != "#", text.splitlines()):
        requirement, *hashes = line.split(" --hash=")
        yield Requirement(requirement), [each.strip() for each in hashes]


def test_all_but_torch_have_hashes():
    locked = {str(pin): hashes for pin, hashes in entries("hashes.lock")}
    assert set(locked) == {str(pin) for pin in PINS if pin.name != "torch"}
    for pin, hashes in locked.items():
        assert hashes and all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes), pin


def test_oldest_versions_are_the_lower_bounds():
    """Of a package without wheels of its oldest version, the next one that has them."""
    oldest = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin, _ in entries("oldest.lock")}
    for wanted in map(Requirement, OF_USERS):
        (bound,) = [each.version for each in wanted.specifier if each.operator in (">=", "==")]
        assert Version(oldest[canonicalize_name(wanted.name)]) == Version(bound), wanted
    assert not FORBIDDEN & set(oldest)


def test_packages_that_break_others_are_absent():
    assert not FORBIDDEN & {canonicalize_name(pin.name) for pin in PINS + DIRECT}
    assert not FORBIDDEN & {*DISTRIBUTIONS}


def sources(*folders):
    """The Python text of modules and of the code cells of notebooks, with the file it stands in."""
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
    for path in sorted(path for folder in folders for path in (ROOT / folder).glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path.relative_to(ROOT), "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def imported_by(*folders):
    """Top-level names that the modules and notebooks in `folders` import, with one file each."""
    found = {}
    for path, text in sources(*folders):
        for node in ast.walk(ast.parse("\n".join(line for line in text.splitlines() if not line.startswith("%")))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else (
                [node.module] if isinstance(node, ast.ImportFrom) and not node.level else [])
            found.update({name.split(".")[0]: path for name in names})
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | OUR_OWN}


@cache
def installed():
    return metadata.packages_distributions()


def distributions_of(module):
    """The packages that install a module (opencv-python for cv2, say); where there are none, that of its name."""
    module = BROUGHT.get(module, module)
    return {canonicalize_name(name) for name in installed().get(module, [module])}


def declared(*groups):
    return {canonicalize_name(Requirement(text).name) for group in groups for text in group}


@pytest.mark.parametrize("folders, names", [
    (("anytext_lib", "notebooks"), declared(OF_USERS, EXTRAS["site"])),
    (("tests", "data_samples"), declared(OF_USERS, EXTRAS["dev"])),
], ids=["course", "tests"])
def test_every_import_is_declared(folders, names):
    for module, path in imported_by(*folders).items():
        assert distributions_of(module) & names, f"{path} imports {module}, which pyproject.toml does not list"


def test_every_declared_package_is_used():
    used = set().union(*map(distributions_of, imported_by("anytext_lib", "notebooks"))) | set(NOT_IMPORTED)
    unused = declared(OF_USERS) - used
    assert not unused, f"neither anytext_lib nor a notebook uses {sorted(unused)}: remove them from pyproject.toml"


def test_environment_file_agrees_with_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    assert environment["name"] == PROJECT["name"] and environment["channels"][0] == "conda-forge"
    assert SpecifierSet(python.removeprefix("python ")) == SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip" and packages == {"pip": ["-r requirements.lock", "-e ."]}


def test_set_up_accepts_the_versions_of_pyproject():
    source = (ROOT / ".ci" / "setup.py").read_text()
    oldest, newest = re.search(r"OLDEST, NEWEST = (\(.*?\)), (\(.*?\))\n", source).groups()
    allowed = SpecifierSet(PROJECT["requires-python"])
    for minor in range(8, 20):
        accepted = ast.literal_eval(oldest) <= (3, minor) <= ast.literal_eval(newest)
        assert accepted == allowed.contains(f"3.{minor}"), f"Python 3.{minor}"


# --- the package ---

def python(code, folder):
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)


def test_importing_the_losses_is_light(tmp_path):
    """torch, numpy, and nothing that these two do not import by themselves."""
    code = ("import sys, importlib.metadata as m; known = m.packages_distributions(); import torch, numpy;"
            "tops = lambda: {name.split('.')[0] for name in sys.modules} & set(known); before = tops();"
            "import anytext_lib.losses; print(sorted(tops() - before - {'anytext_lib'}))")
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_package_works_from_another_folder(tmp_path):
    done = python("import anytext_lib; from anytext_lib.cli import main; print(anytext_lib.__version__);"
                  "raise SystemExit(main(['course', 'list']))", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == PROJECT["version"] == metadata.version(PROJECT["name"])


def test_data_files_of_the_package_are_installed_with_it():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    data = [p for p in (ROOT / "anytext_lib").rglob("*") if p.is_file() and p.suffix not in {".py", ".pyc"}]
    assert not [str(p) for p in data if not any(p.match(pattern) for pattern in patterns)]


def test_every_folder_of_tests_is_run_by_make():
    pytest_options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    folders = {f"tests/{path.parent.name}" for path in (ROOT / "tests").glob("*/test_*.py")}
    assert folders - {"tests/benchmarks"} <= set(pytest_options["testpaths"])


# --- README and commands ---

def make_targets():
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_readme_begins_with_the_two_commands():
    commands = [line.split("#")[0].split() for line in code_blocks("bash")[0].splitlines()]
    assert commands == [["make", "course"], ["make", "test"]]
    used = set(re.findall(r"`(?:[A-Z_]+=\S+ )?make ([a-z]+)", README)) | {"course", "test"}
    assert used <= make_targets()


def test_lint_and_test_check_style_and_types():
    recipes = dict(re.findall(r"^([a-z]+):[^\n]*\n((?:\t[^\n]*\n)+)", (ROOT / "Makefile").read_text(), flags=re.M))
    for target in ("lint", "test"):
        assert re.search(r"\$\(IN\) ruff check ", recipes[target]) and re.search(r"\$\(IN\) mypy\b", recipes[target])
    assert ".mypy_cache/" in (ROOT / ".gitignore").read_text().splitlines()


def test_continuous_integration_runs_the_readme_test_command():
    assert re.search(r"^make test$", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)


def test_links_of_the_readme_lead_somewhere():
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert links and not [link for link in links if not (ROOT / link).exists()]


def test_table_of_notebooks_is_up_to_date():
    rows = re.findall(r"^\| \d\d[a-z]? \|.*$", README, flags=re.MULTILINE)
    expected = readme_rows(ROOT / "notebooks")
    assert rows == expected, "the README's table should be:\n" + "\n".join(expected)


def test_example_of_the_readme_runs(capsys):
    _, example, _ = code_blocks("python")  # the others: see test_wheels and test_translation
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    terms = names["terms"]
    assert names["output"].grad.abs().sum() > 0 and terms.ocr > 0 and terms.ctc > 0
    assert "train/loss" in capsys.readouterr().out


# --- files about the project ---

def test_citation_and_changes_agree_with_pyproject():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert citation["title"].startswith(PROJECT["name"]) and citation["keywords"] == PROJECT["keywords"]
    assert f"\n## {PROJECT['version']} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_contributing_names_is_there(capsys):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"make ([a-z]+)", text.replace("makes", ""))
    assert named and set(named) <= set(targets)
    for command in re.findall(r"`anytext ([^`]+)`", text):
        with pytest.raises(SystemExit, match="0"):
            main([*command.split()[:2], "--help"])
        told = capsys.readouterr().out
        assert all(option in told for option in re.findall(r"--[a-z-]+", command)), command
    assert all((ROOT / path).is_file() for path in re.findall(r"`((?:tests|anytext_lib)/[\w/]+\.py)`", text))
