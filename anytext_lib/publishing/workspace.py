"""`anytext course lab`: the course in JupyterLab, on working copies, so that reading and running leaves git alone.

The copies lie in work/ beside notebooks/ and have the same form (work/NN_name.ipynb, work/exercises/), so links and
relative paths lead to the same places. A newer published page replaces a copy that nobody has changed; a changed copy
is kept under a name with a date, and the newer page takes its place.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from anytext_lib.errors import CourseError
from anytext_lib.publishing import contents, notebooks, pages

NAME = "work"
STATE = ".published.json"
"""In the folder of copies: the hash of the published file that each copy was made from."""
START = "00_start_here.ipynb"
SETTINGS = Path(__file__).with_name("jupyter")
"""A folder of configuration for Jupyter: its labconfig holds the settings that differ from JupyterLab's own."""


def prepare(folder: Path, say: Callable[[str], None] = print) -> Path:
    """Make or renew the working copies of the pages in `folder` and of their learners' copies; return their folder.

    Nothing that somebody changed is lost or overwritten: `say` tells under which name it is kept. Raises CourseError
    when the folder of copies cannot be written.
    """
    target = folder.parent / NAME
    try:
        target.mkdir(exist_ok=True)
        state = _load(target / STATE)
        for place in (Path(), Path(contents.EXERCISES)):
            for book in notebooks.find_books(folder / place):
                _renew(book.path, target, place / book.path.name, state, say)
        notebooks.write_atomically(target / STATE, json.dumps(state, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise CourseError(f"The working copies in {target} cannot be written: {error}. Make room, or give yourself the "
                          "right to write there.") from error
    return target


def _renew(published: Path, target: Path, name: Path, state: dict[str, str], say: Callable[[str], None]) -> None:
    """Bring the copy `target`/`name` up to date with `published`, keeping what somebody changed."""
    text = published.read_text(encoding="utf-8")
    copy, new = target / name, _hash(text)
    if copy.exists() and state.get(name.as_posix()) != new:
        old = _hash(copy.read_text(encoding="utf-8", errors="surrogateescape"))
        if old not in (new, state.get(name.as_posix())):
            kept = _free(copy)
            os.replace(copy, kept)
            say(f"There is a newer {name.as_posix()}; yours is kept as {kept.relative_to(target).as_posix()}.")
    if not copy.exists() or state.get(name.as_posix()) != new:
        notebooks.write_atomically(copy, text)
    state[name.as_posix()] = new


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()


def _free(path: Path) -> Path:
    """A name beside `path` with today's date that nothing has yet."""
    stem = f"{path.stem}.{datetime.date.today().isoformat()}"
    names = (path.with_name(f"{stem}{number}{path.suffix}") for number in ("", *(f".{k}" for k in range(2, 10_000))))
    return next(name for name in names if not name.exists())


def _load(path: Path) -> dict[str, str]:
    """The state of the copies; empty where there is none or it cannot be read, so that all copies count as changed."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def forget_widgets(model: dict[str, Any], **_: Any) -> None:
    """Remove from a notebook that Jupyter is about to save what only a running kernel can show (a pre-save hook)."""
    if model.get("type") == "notebook" and isinstance(model.get("content"), dict):
        pages.drop_widgets(model["content"])


def arguments(root: Path, start: Path, more: Sequence[str] = ()) -> list[str]:
    """The command line of JupyterLab for the course; `more` are the user's own options, which count last."""
    own = [f"--ServerApp.root_dir={root}", f"--ContentsManager.pre_save_hook={__name__}.forget_widgets"]
    as_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return [*own, *as_root, *more, str(start)]


def open_lab(folder: Path, more: Sequence[str] = ()) -> int:
    """Prepare the working copies and open the first page in JupyterLab; return when it is closed."""
    from jupyterlab.labapp import main

    target = prepare(folder)
    print(f"Your copies of the pages are in {target}; the published ones stay as they are.", flush=True)
    earlier = os.environ.get("JUPYTER_CONFIG_PATH", "")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, (earlier, str(SETTINGS))))
    first = target / START
    return main(arguments(folder.parent, first if first.exists() else target, more)) or 0
