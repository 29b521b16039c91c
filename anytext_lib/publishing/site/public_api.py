"""The API reference: one page for each package with public names, made of their docstrings by Sphinx's autodoc."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGES: dict[str, tuple[str, ...]] = {
    "anytext_lib.scenes": (),
    "anytext_lib.data": (),
    "anytext_lib.ocr": (),
    "anytext_lib.diffusion": (),
    "anytext_lib.losses": (),
    "anytext_lib.models": (),
    "anytext_lib.models.patch_decoder": (),
    "anytext_lib.adapters.adaptation": ("Adaptation", "Adapter"),
    "anytext_lib.training": (),
    "anytext_lib.generation": (),
    "anytext_lib.studio.sketch": ("Sketch",),
    "anytext_lib.studio.session": ("Plan", "Studio"),
    "anytext_lib.studio.view": ("StudioApp",),
    "anytext_lib.evaluation": (),
    "anytext_lib.udifftext": (),
    "anytext_lib.db": (),
    "anytext_lib.course": (),
    "anytext_lib.errors": (),
}
"""Modules with a page, roughly in the order in which data flows, and the names that it shows (none: all public ones).

A name that several have is described by the first."""
BEHIND = "behind_the_formulas"
DIRECTIVES = {"class": "autoclass", "exception": "autoexception", "function": "autofunction", "module": "automodule",
              "method": "automethod", "data": "autodata"}


@dataclass(frozen=True)
class Entry:
    """An object of the reference.

    Attributes:
        public: the name by which it is imported. ``home``: module and name where it is written.
        kind: "class", "exception", "function", "method", "module" or "data".
    """

    public: str
    home: str
    kind: str

    @property
    def documented(self) -> str:
        """The name under which its page has it: autodoc finds the words of a constant only where it is written."""
        return self.home if self.kind == "data" else self.public


def public_names(module: str) -> list[str]:
    """The names that a page shows: those of PACKAGES, or of ``__all__``, or all that the module itself defines."""
    if PACKAGES.get(module):
        return list(PACKAGES[module])
    loaded = import_module(module)
    if hasattr(loaded, "__all__"):
        return list(loaded.__all__)
    return [name for name, value in vars(loaded).items() if not name.startswith("_")
            and getattr(value, "__module__", None) == module and (inspect.isclass(value) or inspect.isfunction(value))]


def resolve(name: str) -> Any:
    """The object with the dotted name: a module, or an attribute of one, or of a class in one.

    Raises:
        AttributeError: there is none.
    """
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AttributeError(f"there is no module {parts[0]}")


def entry(name: str) -> Entry:
    """The entry of the object with the dotted name."""
    found = resolve(name)
    if inspect.ismodule(found):
        return Entry(name, name, "module")
    if inspect.isclass(found):
        return Entry(name, f"{found.__module__}.{found.__qualname__}",
                     "exception" if issubclass(found, BaseException) else "class")
    if inspect.isroutine(found):
        nested = "." in found.__qualname__ and "<locals>" not in found.__qualname__
        return Entry(name, f"{found.__module__}.{found.__qualname__}", "method" if nested else "function")
    return Entry(name, _written_in(name), "data")


def _written_in(name: str) -> str:
    """Where a constant is assigned: the module itself, or the one that it is imported from."""
    module, _, attribute = name.rpartition(".")
    tree = ast.parse(Path(import_module(module).__file__).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and attribute in [alias.name for alias in node.names]:
            return _written_in(f"{node.module}.{attribute}")
    places = getattr(import_module(module), "_PLACES", {})
    return _written_in(f"{module}.{places[attribute]}.{attribute}") if attribute in places else name


@cache
def entries(module: str) -> list[Entry]:
    """The entries of a page: classes, then functions, then constants, then errors, each in alphabetical order."""
    order = ["module", "class", "function", "data", "exception"]
    found = [entry(f"{module}.{name}") for name in public_names(module)]
    return sorted((each for each in found if each.kind != "module"),
                  key=lambda each: (order.index(each.kind), each.public))


@cache
def names() -> dict[str, str]:
    """Every name by which a documented object is known -> the name of its entry, the first page counting."""
    found: dict[str, str] = {module: module for module in PACKAGES}
    for module in PACKAGES:
        for each in entries(module):
            found.setdefault(each.public, found.setdefault(each.home, each.documented))
    return found


def page(module: str) -> str:
    """The page of a module, as MyST markdown around autodoc's directives."""
    own = [each for each in entries(module) if names()[each.public] == each.documented]
    elsewhere = [each for each in entries(module) if each not in own]
    parts = [f"# {module}", _rst(f".. automodule:: {module}\n   :no-members:\n   :no-index:")]
    if elsewhere:
        links = ", ".join(f"{{py:obj}}`{each.public.rpartition('.')[2]} <{names()[each.public]}>`"
                          for each in elsewhere)
        parts.append(f"Also here, and described where they belong: {links}.")
    titles = {"class": "Classes", "function": "Functions", "data": "Constants", "exception": "Errors"}
    for kind, title in titles.items():
        chosen = [each for each in own if each.kind == kind]
        if chosen:
            parts += [f"## {title}", *(_rst(directive(each)) for each in chosen)]
    return "\n\n".join(parts) + "\n"


def directive(each: Entry) -> str:
    """Autodoc's directive for an entry; the value of a constant stays in the source."""
    return f".. {DIRECTIVES[each.kind]}:: {each.documented}" + "\n   :no-value:" * (each.kind == "data")


def _rst(text: str) -> str:
    return f"```{{eval-rst}}\n{text}\n```"


def behind_page(objects: Iterable[str]) -> str:
    """The page of those of the objects that no other page describes, by itself or with its class."""
    described, by_module = set(names()), dict[str, list[str]]()
    for each in map(entry, sorted(set(objects) - described)):
        owner = each.public.rpartition(".")[0]
        if each.kind == "method" and owner in described:
            continue
        described.add(each.public)
        module = owner.rpartition(".")[0] if each.kind == "method" else owner
        by_module.setdefault(module, []).append(_rst(directive(each)))
    sections = [f"## {module}\n\n" + "\n\n".join(parts) for module, parts in by_module.items()]
    return ("# Behind the formulas\n\nFunctions and classes that the page [symbols to code](../symbols.md) names, and "
            "that are not part of the public interface: to be read rather than imported.\n\n"
            + "\n\n".join(sections) + "\n")


def index_page() -> str:
    """The first page of the reference."""
    rows = []
    for module in PACKAGES:
        first = (inspect.getdoc(import_module(module)) or "").splitlines()[0].replace("``", "`")
        rows.append(f"| [{module}]({file_name(module)}) | {first} |")
    toc = "\n".join(file_name(module).removesuffix(".md") for module in (*PACKAGES, BEHIND))
    return ("# The library\n\nThe public names of `anytext_lib`, from its docstrings. Pictures are float tensors "
            "(B, 3, H, W) in [-1, 1], RGB; masks (B, 1, H, W) in [0, 1]; the lines of a batch are flat, with the index "
            "of their picture. Every entry leads to its source.\n\n| module | holds |\n|---|---|\n" + "\n".join(rows)
            + f"\n\n```{{toctree}}\n:hidden:\n\n{toc}\n```\n")


def file_name(module: str) -> str:
    """The file of a module's page in the folder of the reference."""
    return module.removeprefix("anytext_lib.").replace(".", "_") + ".md"
