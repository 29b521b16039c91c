"""`anytext course site`: build the site from the published notebooks. Nothing is executed and nothing downloaded."""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from anytext_lib.errors import CourseError
from anytext_lib.publishing.notebooks import Book, write_if_new
from anytext_lib.publishing.site import appearance, mathjax
from anytext_lib.publishing.site.sources import write_sources

NEEDED = ("sphinx", "myst_nb", "furo", "sphinx_copybutton")
OURS = ".buildinfo"  # Sphinx leaves it in the folder of a site
WORK = ".work"
"""Ending of the folder beside a site, with what Sphinx reads and remembers: a second build renews what changed."""


def build(folder: Path, chosen: Sequence[Book], out: Path, say: Callable[[str], None] = print) -> int:
    """Build the site of the ``chosen`` notebooks of the course in ``folder`` into ``out``; return how many warnings.

    The site is made beside ``out`` and takes its place when it is whole.

    Raises:
        CourseError: packages are missing, ``out`` holds something else, or a source of the site is wrong.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise CourseError(f"the site needs the package {missing[0].replace('_', '-')}: run `make setup`, "
                          "or `pip install -e '.[site]'`.")
    if out.exists() and (not out.is_dir() or any(out.iterdir()) and not (out / OURS).exists()):
        raise CourseError(f"{out} holds something else than a site: give another folder with --out, or remove it.")
    work = out.with_name(out.name + WORK)
    write_sources(folder, chosen, work / "sources")
    script = mathjax.install(work / "static")
    write_if_new(work / "static" / appearance.STYLE, appearance.CSS)
    found = run_sphinx(work, appearance.settings(work / "static", script))
    for line in found:
        say(line)
    replace_folder(work / "html", out)
    return len(found)


def run_sphinx(work: Path, settings: dict[str, Any]) -> list[str]:
    """Build ``work``/html from ``work``/sources; return the warnings. Raises CourseError when there is no site."""
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError

    shutil.rmtree(work / "html" / "_modules", ignore_errors=True)  # Sphinx would not renew them for other anchors
    warnings = io.StringIO()
    try:
        app = Sphinx(str(work / "sources"), None, str(work / "html"), str(work / "doctrees"), "html", settings,
                     status=None, warning=warnings)
        app.build()
    except SphinxError as error:
        raise CourseError(f"Sphinx cannot build the site: {error}") from error
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in warnings.getvalue().splitlines()]
    return [line.replace(f"{work / 'sources'}/", "") for line in lines if line.strip()]


def replace_folder(new: Path, old: Path) -> None:
    """Put a copy of the folder ``new`` in the place of ``old``, which stays what it was until the copy is whole."""
    with tempfile.TemporaryDirectory(prefix=f".{old.name}.", dir=old.parent) as beside:
        whole = Path(beside) / "whole"
        shutil.copytree(new, whole)
        if old.exists():
            old.rename(Path(beside) / "old")
        whole.rename(old)
