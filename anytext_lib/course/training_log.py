"""The scalars of a training run, read from its TensorBoard log."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from anytext_lib.errors import AnyTextError, MissingFileError


class LogError(AnyTextError, ValueError):
    """A log holds no scalars, or not those that are needed; the message says which."""


class Curve(NamedTuple):
    """One scalar of a run: ``steps`` (N,) int64 rising, ``values`` (N,) float64."""

    steps: np.ndarray
    values: np.ndarray


def find_log(path: str | Path) -> Path:
    """The folder with the event files: ``path``, or the one below it; of a run of `anytext fit` that is tensorboard.

    Raises:
        MissingFileError: there is no such folder. LogError: no event file, or several folders have some.
    """
    root = Path(path)
    if not root.is_dir():
        raise MissingFileError(f"no log {root}: give the folder of a run (runs/NAME), or one with TensorBoard's files")
    folders = sorted({file.parent for file in root.rglob("*tfevents*") if file.is_file()})
    if not folders:
        raise LogError(f"{root} holds no TensorBoard log (events.out.tfevents...): give the folder of a run that has "
                       "trained at least one step")
    if len(folders) > 1 and root not in folders:
        shown = ", ".join(str(folder) for folder in folders[:3])
        raise LogError(f"{root} holds the logs of {len(folders)} runs: give one of {shown}")
    return root if root in folders else folders[0]


def read_log(path: str | Path) -> dict[str, Curve]:
    """All scalars of a run, by tag; of a step that was logged twice (a run that was resumed) the later value.

    Args:
        path: see ``find_log``, which also has the errors.

    Raises:
        LogError: no scalar was logged.
    """
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    folder = find_log(path)
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
    events.Reload()
    found = {}
    for tag in events.Tags()["scalars"]:
        latest = {event.step: event.value for event in events.Scalars(tag)}
        steps = sorted(latest)
        found[tag] = Curve(np.array(steps), np.array([latest[step] for step in steps], dtype=np.float64))
    if not found:
        raise LogError(f"the log in {folder} has no scalars: the run ended before its first was written")
    return found
