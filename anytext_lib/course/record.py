"""Numbers that a notebook claims, stored beside its outputs so that the runner can hold later runs to them."""

from __future__ import annotations

import math
import numbers
import re
from typing import Any, NamedTuple

MIME = "application/vnd.anytext.record+json"
"""The output of one `record`. No viewer draws it: the sentence beside it says the number."""
KEPT = "records"
"""Where an executed notebook keeps its numbers: notebook.metadata["anytext"]["records"]."""
INFORMATIVE_UNITS = frozenset({"s", "ms", "MiB", "GiB"})
"""Units of numbers that depend on the machine: recorded for the reader, never compared."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")


class Record(NamedTuple):
    """One recorded number: its name, its value (int or float) and its unit (or None)."""

    name: str
    value: float
    unit: str | None

    @property
    def informative(self) -> bool:
        """Whether the number depends on the machine (a time, an amount of memory) and is not compared."""
        return self.unit in INFORMATIVE_UNITS

    def __str__(self) -> str:
        value = str(self.value) if isinstance(self.value, int) else f"{self.value:.6g}"
        return f"{self.name} = {value}" + (f" {self.unit}" if self.unit else "")


def record(name: str, value: Any, unit: str | None = None) -> None:
    """Store a number for `anytext course run --check`; nothing is shown, for the text says what is worth saying.

    `value` is a finite number: int, float, a NumPy scalar or a tensor with one element. Units s, ms, MiB and GiB
    mark numbers that depend on the machine and are not compared. Names are unique in a notebook (the runner checks).
    Raises TypeError for what is no number and ValueError for NaN, infinity or a malformed name.
    """
    from IPython.display import display

    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"record: {name!r} is no name; use letters, digits and _ . / - and begin with a letter.")
    display({MIME: Record(name, as_number(name, value), unit)._asdict()}, raw=True)


def as_number(name: str, value: Any) -> int | float:
    """`value` as a plain int or float; the errors name the record `name`."""
    if hasattr(value, "item") and not isinstance(value, numbers.Number):
        size = value.numel() if hasattr(value, "numel") else getattr(value, "size", 1)
        if size != 1:
            raise TypeError(f"record({name!r}): needs one number, got {size} of them; record a mean or an element.")
        value = value.item()
    if isinstance(value, bool) or type(value).__name__ == "bool_" or not isinstance(value, numbers.Real):
        raise TypeError(f"record({name!r}): needs a number, got {type(value).__name__} {value!r}.")
    number = int(value) if isinstance(value, numbers.Integral) else float(value)
    if not math.isfinite(number):
        raise ValueError(f"record({name!r}): {number} cannot be held to a baseline; find where it comes from.")
    return number


def records_of(notebook: Any) -> list[Record]:
    """All numbers recorded in an executed notebook (nbformat 4), in order, duplicates included.

    They stand in its metadata, where `fold` put them, and in the outputs of cells that ran since, which count first.
    """
    found = [data for cell in notebook.cells for output in cell.get("outputs", [])
             if (data := output.get("data", {}).get(MIME)) is not None]
    newer = {data["name"] for data in found}
    kept = [data for data in notebook.metadata.get("anytext", {}).get(KEPT, []) if data["name"] not in newer]
    return [Record(data["name"], data["value"], data.get("unit")) for data in [*kept, *found]]


def fold(notebook: Any) -> None:
    """Move the recorded numbers of a notebook (changed in place) from its outputs into its metadata."""
    records = records_of(notebook)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if MIME not in output.get("data", {})]
    if records:
        notebook.metadata.setdefault("anytext", {})[KEPT] = [entry._asdict() for entry in records]
