"""The house: no circle among modules, no arrow upward between folders, each module and public class name once."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "anytext_lib"

# a module may import from its own floor's folder and from lower floors; folders of one floor do not know each other
FLOORS = [
    {"errors"},
    {"diffusion", "files", "device", "randomness", "usage", "extras", "configs"},
    {"data"},
    {"ocr", "scenes"},
    {"models", "datatools"},
    {"losses", "upstream"},
    {"adapters"},
    {"db", "generation"},
    {"evaluation", "studio"},
    {"training", "benchmark"},  # it samples pictures during a run, and reads them
    {"udifftext"},
    {"recipes", "examples"},
    {"course"},
    {"experiments", "explain"},
    {"publishing"},
    {"doctor"},
    {"cli"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}

# what is not so yet: rows may only leave
UPWARD: set[tuple[str, str]] = {("models.anytext2", "upstream.convert")}
CIRCLES: set[frozenset[str]] = {frozenset({"models.anytext2", "upstream.convert"})}
MODULE_NAMES: set[str] = set()
CLASS_NAMES: set[str] = set()
OFTEN = {"__init__", "__main__", "command", "cli"}


@cache
def modules() -> dict[str, ast.Module]:
    """Syntax tree of every module, by its dotted name within the library."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
    return {name.removesuffix(".__init__"): ast.parse(path.read_text(encoding="utf-8"))
            for name, path in paths.items() if name != "__init__"}


def nodes(tree: ast.AST):
    """All nodes but those that run for a type checker only."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from nodes(child)


def imported(name: str) -> set[str]:
    """Modules of the library that one imports, at its head or inside a function."""
    found = set()
    for node in nodes(modules()[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("anytext_lib.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "anytext_lib":
            base = node.module.removeprefix("anytext_lib").removeprefix(".")
            names = {f"{base}.{alias.name}".removeprefix(".") for alias in node.names}
            found |= {full if full in modules() else base for full in names}
    return {other for other in found if other in modules()} - {name}


@cache
def arrows() -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    return {name: imported(name) for name in modules()}


def circles() -> set[frozenset[str]]:
    """Sets of modules that import each other in a ring; of rings through one module, one."""
    graph, found = {name: set(others) for name, others in arrows().items()}, set()
    while True:
        try:
            TopologicalSorter(graph).prepare()
            return found
        except CycleError as error:
            ring = error.args[1]
            found.add(frozenset(ring))
            for after, before in zip(ring, ring[1:], strict=False):
                graph[before].discard(after)


def twice(names) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def upward() -> set[tuple[str, str]]:
    """Pairs of modules (from, to) of different folders where the second does not lie on a lower floor."""
    return {(name, other) for name, others in arrows().items() for other in others
            if name.split(".")[0] != other.split(".")[0] and not name.endswith("__main__")  # a door, on top of all
            and FLOOR[name.split(".")[0]] <= FLOOR[other.split(".")[0]]}


def class_names() -> set[str]:
    return twice(node.name for tree in modules().values() for node in tree.body
                 if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))


def module_names() -> set[str]:
    return twice(path.stem for path in ROOT.rglob("*.py")) - OFTEN


@pytest.mark.parametrize("found, known", [(upward, UPWARD), (circles, CIRCLES), (module_names, MODULE_NAMES),
                                          (class_names, CLASS_NAMES)], ids=lambda value: getattr(value, "__name__", ""))
def test_nothing_new_is_out_of_order(found, known):
    assert found() - known == set(), "mend this one, do not list it"
    assert known - found() == set(), "mended: take it out of the list"


def test_every_folder_has_a_floor():
    assert {name.split(".")[0] for name in modules()} - set(FLOOR) == set()
