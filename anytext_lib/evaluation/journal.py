"""A measurement of many pictures that can be stopped and gone on with: one line of JSON for each, kept while it runs.

A process that is killed loses the batch that it was at.  The line that it was writing is dropped by the next one, which
measures only what is missing, or what has changed since.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.data.anyword import Annotation
from anytext_lib.data.pictures import decode_picture
from anytext_lib.errors import AnyTextError, OptionError
from anytext_lib.files import atomic_path, print_report

EVERY = 10.0  # seconds between two reports
Work = Callable[[Sequence["Picture"], Sequence[np.ndarray]], Sequence[Mapping[str, Any]]]


class JournalError(AnyTextError, ValueError):
    """A journal of another measurement, or a file that is none; the message gives difference and remedy."""


class ComparedPictureError(OptionError):
    """A picture cannot be decoded; the message names it."""


@dataclass(frozen=True)
class Picture:
    """One file to be measured.

    Attributes:
        path, name: where it is, and its path in the folder. ``item``: the entry of the annotation file it belongs to.
        caption: of the entry. ``lines``: those to be read: valid ones, in the order of the file.
        original: the picture that the entry itself names (it need not exist).
    """

    path: Path
    name: str
    item: int
    caption: str = ""
    lines: tuple[Annotation, ...] = ()
    original: Path | None = None

    def stamp(self) -> list[int]:
        """Size and time of the file: equal where it is the same."""
        state = self.path.stat()
        return [state.st_size, state.st_mtime_ns]


class Journal:
    """A file of rows that only grows.

    Args:
        path: of the file; it is made if it is not there.
        settings: what every row depends on (recogniser, crop, annotation file, ...), as plain JSON values.
        restart: forget what is there.

    Raises:
        JournalError: the file was written with other settings.
    """

    def __init__(self, path: str | os.PathLike, settings: Mapping[str, Any], restart: bool = False):
        self.path, self.settings = Path(path), json.loads(json.dumps(settings))
        self.rows: dict[str, dict] = {}
        if restart or not self.path.is_file():
            with atomic_path(self.path) as temporary:
                temporary.write_text(_line({"settings": self.settings}), encoding="utf-8", newline="\n")
        else:
            self._read()

    def find(self, picture: Picture) -> dict | None:
        """The row of a picture, if there is one and its file has not changed since."""
        row = self.rows.get(picture.name)
        return row if row is not None and row["stamp"] == picture.stamp() else None

    def append(self, pictures: Sequence[Picture], rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of some pictures and hand them to the operating system at once."""
        lines = [_line({"picture": p.name, "stamp": p.stamp(), **row}) for p, row in zip(pictures, rows, strict=True)]
        with open(self.path, "a", encoding="utf-8", newline="\n") as file:
            file.write("".join(lines))
        self.rows |= {row["picture"]: row for row in map(json.loads, lines)}

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        try:
            head, *rows = [json.loads(line) for line in content[:whole].splitlines()]
            found = head["settings"]
            self.rows = {row["picture"]: row for row in rows}
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(f"{self.path} is not a journal of a measurement ({error!r}): choose another output "
                               "folder, or start anew with --restart") from error
        if found != self.settings:
            names = [name for name in {**found, **self.settings} if found.get(name) != self.settings.get(name)]
            told = "; ".join(f"{name}: {found.get(name)!r} there, {self.settings.get(name)!r} now" for name in names)
            raise JournalError(f"{self.path} was begun with other settings ({told}): choose another output folder, or "
                               "start anew with --restart")
        if whole < len(content):  # the last line was being written when the process died
            os.truncate(self.path, whole)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


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
    total, done, begun = sum(map(len, todo)), 0, time.monotonic()
    if len(todo) < len(batches):
        report(f"{len(pictures) - total} of {len(pictures)} {what} before; going on from there")
    last = begun
    for part, pixels in _decoded(todo):
        journal.append(part, work(part, pixels))
        done, now = done + len(part), time.monotonic()
        if done == total:
            report(f"{done} of {total} {what} in {now - begun:.0f} s")
        elif now - last >= EVERY:
            last = now
            report(f"{done} of {total} {what}, about {(now - begun) / done * (total - done):.0f} s left")
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
