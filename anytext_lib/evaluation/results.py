"""The result file: numbers together with all that they depend on, checked when written and when read.

Numbers of different recognisers, crops, line counts or samplers cannot be compared, so no file leaves them out: what is
not known is null, and listed under ``unknown``.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anytext_lib.errors import AnyTextError
from anytext_lib.files import atomic_path, explained_output, folder_lock

CARRIED = ("recogniser", "crops", "lines", "sampler", "checkpoint", "seed")
SLACK = 1e-9


class ResultError(AnyTextError, ValueError):
    """A result file is incomplete or contradicts itself; the message says where."""


def write_result(path: str | os.PathLike, result: Mapping[str, Any]) -> None:
    """Check a result and write it, whole or not at all.

    Raises:
        ResultError: see ``check_result``.
    """
    check_result(result, str(path))
    with atomic_path(path) as temporary:
        text = json.dumps(result, ensure_ascii=False, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def read_result(path: str | os.PathLike) -> dict:
    """A result that was written, checked again.

    Raises:
        ResultError: it is not JSON, or see ``check_result``.
    """
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultError(f"{path} is not JSON: {error}") from error
    check_result(result, str(path))
    return result


def check_result(result: Mapping[str, Any], where: str = "the result") -> None:
    """Raise ResultError unless the result carries all of ``CARRIED`` and Sen.Acc <= NED holds everywhere."""
    missing = [name for name in CARRIED if name not in result]
    if missing:
        raise ResultError(f"{where} does not carry {', '.join(missing)}: without them its numbers mean nothing")
    for protocol, groups in result.get("protocols", {}).items():
        for group, scores in groups.items():
            check_order(scores["sentence_accuracy"], scores["ned"], f"{where}: protocol {protocol}, {group}")


def check_order(sentence_accuracy: float | None, ned: float | None, where: str) -> None:
    """Assert Sen.Acc <= NED: a line that is right has NED 1.  What breaks this was not made by one comparison."""
    if sentence_accuracy is not None and ned is not None and not sentence_accuracy <= ned + SLACK:
        raise ResultError(f"{where}: Sen.Acc {sentence_accuracy:.4f} is above NED {ned:.4f}, which cannot be: the two "
                          "are of different lines, recognisers or rules")


@contextlib.contextmanager
def written_folder(output: str | os.PathLike) -> Iterator[None]:
    """Hold the folder of results alone while the block runs.

    Raises:
        FolderBusyError: another program writes into it. OutputError: it cannot be written.
    """
    option = "another folder by --output"
    with folder_lock(output, option), explained_output(output, option):
        yield


def write_table(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file with the keys of the first row as its columns, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def plain_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned text; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def shown(value: float | None, interval: Iterable[float | None] = ()) -> str:
    """A share with four digits, and its interval where there is one."""
    if value is None:
        return "none"
    bounds = list(interval)
    return f"{value:.4f}" + (f" [{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds and None not in bounds else "")
