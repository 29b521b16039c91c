"""The loop of every measurement: batches of pictures, decoded ahead, with progress, kept in a journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.data.pictures import decode_picture
from anytext_lib.errors import OptionError
from anytext_lib.evaluation.items import Picture
from anytext_lib.evaluation.journal import Journal
from anytext_lib.files import print_report

Work = Callable[[Sequence[Picture], Sequence[np.ndarray]], Sequence[Mapping[str, Any]]]


class ComparedPictureError(OptionError):
    """A picture cannot be decoded; the message names it."""


def measure(pictures: Sequence[Picture], work: Work, journal: Journal, batch: int = 16, what: str = "pictures read",
            report: Callable[[str], None] = print_report) -> list[dict]:
    """One row for each picture: from the journal, or from ``work``, which is then kept there.

    The batches are cut from the list of all pictures, so that a resumed run puts together what an uninterrupted one
    does.

    Args:
        pictures: names must differ. ``work``: from pictures and their pixels, (H, W, 3) uint8 each, to rows.
        batch: pictures at a time. ``what``, ``report``: "12 of 40 ``what``" is reported every ten seconds.

    Raises:
        ComparedPictureError: a picture cannot be decoded. OptionError: two pictures have one name.
    """
    if batch < 1:
        raise OptionError(f"a batch has at least one picture, got {batch}")
    if len({picture.name for picture in pictures}) < len(pictures):
        raise OptionError(f"{len(pictures)} pictures have only {len({p.name for p in pictures})} different names: "
                              "an entry of the annotation file is there twice, or two stems are alike up to their "
                              "first dot")
    batches = [list(pictures[i : i + batch]) for i in range(0, len(pictures), batch)]
    todo = [part for part in batches if any(journal.find(picture) is None for picture in part)]
    progress = Progress(sum(map(len, todo)), what, report)
    if len(todo) < len(batches):
        report(f"{len(pictures) - progress.total} of {len(pictures)} {what} before; going on from there")
    for part, pixels in _decoded(todo):
        journal.append(part, work(part, pixels))
        progress.add(len(part))
    return [journal.rows[picture.name] for picture in pictures]


def _decoded(batches: Sequence[Sequence[Picture]]) -> Iterator[tuple[Sequence[Picture], list[np.ndarray]]]:
    """Batches with their pixels; the next one is decoded while this one is worked on."""
    with ThreadPoolExecutor(2) as pool:
        waiting = [[pool.submit(read_picture, p.path) for p in batches[0]]] if batches else []
        for i, part in enumerate(batches):
            if i + 1 < len(batches):
                waiting.append([pool.submit(read_picture, p.path) for p in batches[i + 1]])
            yield part, [future.result() for future in waiting.pop(0)]


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, RGB.

    Raises:
        ComparedPictureError: it cannot be decoded.
    """
    pixels, reason = decode_picture(path)
    if pixels is None:
        raise ComparedPictureError(f"{path} cannot be read as a picture: {reason}. Or take it out of the folder")
    return pixels


class Progress:
    """Says how far it is, and how long it will take, every ten seconds and at the end."""

    def __init__(self, total: int, what: str, report: Callable[[str], None], every: float = 10.0):
        self.total, self.what, self.report, self.every = total, what, report, every
        self.done, self.begun = 0, time.monotonic()
        self.told = self.begun

    def add(self, count: int) -> None:
        """Note that ``count`` more are done."""
        self.done += count
        now = time.monotonic()
        if self.done >= self.total:
            self.report(f"{self.done} of {self.total} {self.what} in {now - self.begun:.0f} s")
        elif now - self.told >= self.every:
            self.told = now
            left = (now - self.begun) / self.done * (self.total - self.done)
            self.report(f"{self.done} of {self.total} {self.what}, about {left:.0f} s left")
