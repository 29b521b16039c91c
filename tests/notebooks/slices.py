"""The part of a notebook that its deterministic cells need, for nbval: it checks them without the long cells.

nbval executes what it compares. Running whole notebooks a second time would double the time of the tests, so the
cells tagged `nbval-check-output` are run with the cells that define what they use, and nothing else. If the slice
misses a cell, the tagged cell fails; it cannot pass by mistake.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping
from typing import Any

from anytext_lib.publishing import notebooks

TAG = "nbval-check-output"


def names_of(source: str) -> tuple[set[str], set[str]]:
    """(names a cell defines or changes, names it uses).

    `x.append(1)` and `x[0] = 1` change x; a statement that only calls a function changes nothing.
    """
    tree = ast.parse(source)
    defined, used = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            defined.update(_base(node))
        elif isinstance(node, ast.AugAssign):
            used.update(_base(node.target))
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            if isinstance(statement.value.func, ast.Attribute):
                defined.update(_base(statement.value.func))
    return defined, used


def _base(node: ast.AST) -> set[str]:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def needed_cells(notebook) -> list[int]:
    """Indices of the code cells that the tagged cells need, themselves included, in order."""
    wanted: set[str] = set()
    kept = []
    for index in reversed(range(len(notebook.cells))):
        cell = notebook.cells[index]
        if cell.cell_type != "code":
            continue
        defined, used = names_of(cell.source)
        if TAG in notebooks.tags(cell) or defined & wanted or "parameters" in notebooks.tags(cell):
            kept.append(index)
            wanted |= used
    return kept[::-1]


def reduced(notebook, overrides: Mapping[str, Any]):
    """A copy holding only the needed cells, with `overrides` set after the parameters cell; None if none is tagged."""
    import nbformat

    if not any(TAG in notebooks.tags(cell) for cell in notebook.cells):
        return None
    small = notebooks.without_injected(copy.deepcopy(notebook))
    small.cells = [small.cells[index] for index in needed_cells(small)]
    if overrides:
        source = "\n".join(f"{name} = {value!r}" for name, value in overrides.items())
        at = next(index for index, cell in enumerate(small.cells) if "parameters" in notebooks.tags(cell))
        small.cells.insert(at + 1, nbformat.v4.new_code_cell(source))
    return small
