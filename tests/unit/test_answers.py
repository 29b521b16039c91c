"""notebooks/ANSWERS.md: every statement of the notes has an answer, and every place that an answer names exists."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from functools import cache
from importlib import import_module

import pytest

from anytext_lib.cli import TRAINING, build_parser
from anytext_lib.course.paths import notebooks_folder, project_root
from anytext_lib.generation import AnyText2Pipeline, Line
from anytext_lib.publishing.links import dead_links
from anytext_lib.usage import innermost
from tests.unit.generation_model import lively_model

PAGE = notebooks_folder() / "ANSWERS.md"
TEXT = PAGE.read_text(encoding="utf-8")
STATEMENTS = {"A": 34, "B": 68, "C": 55, "D": 26, "E": 15}  # of each set of notes
KINDS = ("realised", "corrected", "explained", "not yet")
SUBJECTS = ("Everything that upstream's users have, working",
            "A model worth measuring, and experiments that can decide")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines()
        if re.match(r"\| [A-E]\d+", line)]
NUMBERS = [number for row in ROWS for number in row[0].split(", ")]
SPANS = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))
PLACE = re.compile(r"\[(README|\d\d[a-z]?) · ([^\]\n]+)\]\(([^)\s]+)\)")


@cache
def headings(name: str) -> list[str]:
    """The headings of a notebook beside the page, or of the README."""
    text = (PAGE.parent / name).read_text(encoding="utf-8")
    if name.endswith(".ipynb"):
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"]
                         if cell["cell_type"] == "markdown")
    return re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE)


@cache
def options_of_training() -> set[str]:
    """Names of the options of `anytext fit` that come from this library's classes; without building its parser."""
    from anytext_lib.training.callbacks.checkpoints import Checkpoints
    from anytext_lib.training.cli import option_names
    from anytext_lib.training.data import AnyTextData
    from anytext_lib.training.module import AnyText2Training

    found = {name for cls in (AnyText2Training, AnyTextData, Checkpoints) for name in option_names(cls)}
    return found | {"config", "ckpt_path", "name"}


def test_every_statement_has_one_answer():
    expected = [f"{letter}{i}" for letter, count in STATEMENTS.items() for i in range(1, count + 1)]
    assert sorted(NUMBERS) == sorted(expected), Counter(NUMBERS) - Counter(expected)


def test_every_answer_is_whole():
    for numbers, says, kind, answer, where in ROWS:
        assert says and answer and where, f"{numbers}: a cell is empty"
        assert kind.strip("*") in KINDS, f"{numbers}: there is no kind {kind}"
        if kind == "**not yet**":
            assert any(subject in answer for subject in SUBJECTS), f"{numbers}: what is open names an issue's subject"


def test_every_place_is_of_a_kind_that_is_checked():
    for numbers, *_, where in ROWS:
        for place in where.split("<br>"):
            checked = PLACE.fullmatch(place) or re.fullmatch(r"`(anytext_lib\.|tests/.*::)[\w.]+`", place)
            assert checked, f"{numbers}: {place}"


def test_the_subjects_are_written_alike():
    assert set(re.findall(r'ubject: "([^"]+)"', TEXT)) == set(SUBJECTS)


def test_the_counts_are_those_of_the_rows():
    counts = Counter(kind.strip("*") for numbers, _, kind, *_ in ROWS for _ in numbers.split(", "))
    assert f"{len(NUMBERS)} statements: {', '.join(f'{counts[kind]} {kind}' for kind in KINDS)}." in TEXT
    for letter, count in STATEMENTS.items():
        assert f"| {letter}1 to {letter}{count} |" in TEXT


def test_every_link_leads_to_a_file_and_a_section():
    assert dead_links(TEXT, PAGE.parent) == []
    for label, section, target in PLACE.findall(TEXT):
        name = target.split("#")[0]
        assert section in headings(name), f"{name} has no section {section!r}"
        assert label == "README" or name.startswith(f"{label}_"), f"{label} leads to {name}"


@pytest.mark.parametrize("span", [span for span in SPANS if span.startswith("anytext_lib.")])
def test_every_module_and_name_exists(span):
    parts = span.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for name in parts[count:]:
            assert hasattr(found, name), f"{span}: there is no {name}"
            found = getattr(found, name)
        return
    raise AssertionError(f"there is no module {span}")


@pytest.mark.parametrize("span", [span for span in SPANS if span.startswith("tests/")])
def test_every_test_exists(span):
    path, name = span.split("::")
    assert re.search(rf"^def {name}\(", (project_root() / path).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("span", [span for span in SPANS if span.startswith("anytext ")])
def test_every_command_has_its_options(span):
    words = shlex.split(span)[1:]
    if words[0] in TRAINING:
        options = {word.removeprefix("--").split(".")[-1] for word in words if word.startswith("--")}
        assert options <= options_of_training()
        return
    inner, command, rest = innermost(build_parser(words[:1]), words)
    known = {option for action in inner._actions for option in action.option_strings}
    assert command and set(rest) <= known, f"{span}: {set(rest) - known}"


def test_the_readme_leads_here():
    assert "(notebooks/ANSWERS.md)" in (project_root() / "README.md").read_text(encoding="utf-8")


def test_inference_reads_the_glyph_lines(monkeypatch):
    """Statement B37: the recogniser is at work at inference, once for the lines of a request."""
    pipe, read = AnyText2Pipeline(lively_model()), []
    features = type(pipe.model).glyph_features
    monkeypatch.setattr(type(pipe.model), "glyph_features",
                        lambda self, lines: read.append(len(lines)) or features(self, lines))
    lines = [Line("Tea", [[6, 6], [80, 6], [80, 22], [6, 22]]), Line("Bun", [[6, 26], [80, 26], [80, 42], [6, 42]])]
    pipe.generate("A sign", lines, ddim_steps=2, width=96, height=48, cfg_scale=1)
    assert read == [2]
