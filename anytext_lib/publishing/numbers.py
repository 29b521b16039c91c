"""Recorded numbers held to expected ones: notebooks/baselines/<profile>.<device>.yaml."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anytext_lib.course.record import Record
from anytext_lib.errors import CourseError
from anytext_lib.publishing.notebooks import write_atomically

DEFAULT_RTOL = 0.01
"""Relative tolerance of a new baseline of a float; a new integer has none (both may be edited in the file)."""
FIELDS = {"value", "rtol", "atol"}
HEADER = (
    "# Expected values of recorded numbers, written by `anytext course run --update-baselines`.\n"
    "# A number passes if |recorded - value| <= atol + rtol * |value|. Tolerances edited here are kept.\n"
)


class Baselines:
    """The expected numbers of one profile on one kind of device."""

    def __init__(self, folder: Path, profile: str, device_kind: str):
        self.path = folder / "baselines" / f"{profile}.{device_kind}.yaml"
        self.title = f"baselines/{self.path.name}"
        self.entries: dict[str, dict[str, dict[str, float]]] = self._load()
        self._changed: set[str] = set()

    def _load(self) -> dict:
        import yaml

        if not self.path.exists():
            return {}
        data = yaml.safe_load(self.path.read_text(encoding="utf-8")) or {}
        for notebook, entries in data.items():
            for name, entry in entries.items():
                if not isinstance(entry, dict) or "value" not in entry or set(entry) - FIELDS:
                    raise CourseError(f"{self.title}: {notebook}.{name} must hold value, rtol and atol; got {entry!r}.")
        return data

    def compare(self, notebook: str, records: Sequence[Record]) -> list[str]:
        """Compare the numbers of `notebook` with the recorded ones; returns a message for each fault."""
        expected = self.entries.get(notebook, {})
        compared = [entry for entry in records if not entry.informative]
        problems = []
        for entry in compared:
            if entry.name not in expected:
                problems.append(
                    f"recorded {entry}, which has no baseline in {self.title}; add it with --update-baselines"
                )
            elif (drift := _drift(entry, expected[entry.name])) is not None:
                problems.append(drift)
        names = {entry.name for entry in compared}
        problems += [
            f"{name} has a baseline ({entry['value']}) in {self.title} but was not recorded"
            for name, entry in expected.items()
            if name not in names
        ]
        return problems

    def update(self, notebook: str, records: Sequence[Record]) -> None:
        """Replace the values of `notebook` by `records`, keeping tolerances that are there."""
        old = self.entries.get(notebook, {})
        new = {}
        for entry in records:
            if entry.informative:
                continue
            kept = {key: value for key, value in old.get(entry.name, {}).items() if key != "value"}
            rtol = 0.0 if isinstance(entry.value, int) else DEFAULT_RTOL
            new[entry.name] = {"value": entry.value} | ({"rtol": rtol, "atol": 0.0} | kept)
        self.entries[notebook] = new
        self._changed.add(notebook)

    def save(self) -> None:
        """Write the file; entries of notebooks that were not updated here stay as they are in it now."""
        self.entries = self._load() | {notebook: self.entries[notebook] for notebook in self._changed}
        write_yaml(self.path, dict(sorted(self.entries.items())), HEADER)


def _drift(entry: Record, expected: dict[str, float]) -> str | None:
    value, rtol, atol = expected["value"], expected.get("rtol", 0.0), expected.get("atol", 0.0)
    allowed = atol + rtol * abs(value)
    distance = abs(entry.value - value)
    if distance <= allowed:
        return None
    unit = f" {entry.unit}" if entry.unit else ""
    return (
        f"{entry.name} drifted: recorded {entry.value!r}{unit}, expected {value!r}{unit}; "
        f"they differ by {distance:.6g}, the tolerance is {allowed:.6g} (rtol {rtol}, atol {atol})"
    )


def duplicates(records: Sequence[Record]) -> list[str]:
    """Names recorded more than once."""
    return [name for name, count in Counter(entry.name for entry in records).items() if count > 1]


def write_yaml(path: Path, data: Any, header: str) -> None:
    """Write `data` as YAML in its own order, one line a number, after the comment `header`."""
    import yaml

    lines = [header]
    for notebook, entries in data.items():
        lines.append(f'"{notebook}":\n')
        for name, entry in entries.items():
            flow = yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
            lines.append(f"  {name}: {flow}")
    write_atomically(path, "".join(lines))
