"""Results of a long measurement, kept while it runs: one line of JSON for each picture.

A process that is killed loses the batch that it was at.  The line that it was writing is dropped by the next one, which
measures only what is missing, or what has changed since.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anytext_lib.errors import AnyTextError
from anytext_lib.evaluation.items import Picture
from anytext_lib.files import atomic_path


class JournalError(AnyTextError, ValueError):
    """A journal belongs to another measurement, or is none; the message says in what they differ and what to do."""


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
        return row if row is not None and row["stamp"] == stamp(picture) else None

    def append(self, pictures: Sequence[Picture], rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows of some pictures and hand them to the operating system at once."""
        made = [{"picture": p.name, "stamp": stamp(p), **row} for p, row in zip(pictures, rows, strict=True)]
        with open(self.path, "a", encoding="utf-8", newline="\n") as file:
            file.write("".join(map(_line, made)))
        self.rows |= {row["picture"]: json.loads(_line(row)) for row in made}

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        try:
            head, *rows = [json.loads(line) for line in lines]
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


def stamp(picture: Picture) -> list[int]:
    """What tells that a picture's file is the same: its size and time."""
    state = picture.path.stat()
    return [state.st_size, state.st_mtime_ns]


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
