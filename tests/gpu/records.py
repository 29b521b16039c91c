"""What a run measured on one device: a JSON file that is whole after every measurement, so that a stop loses nothing.

    {"machine", "versions", "date", "library",
     "parts": {"steps": {"state", "seconds", "cases": {"bf16, alpha 0.003, batch 3": {"seconds", "peak_mib", ...}}}}}

A case that is there is not measured again, as long as device, versions and library are the same.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from anytext_lib.device import machine, versions
from anytext_lib.files import write_json
from tests.portability.sweep import library_hash

SAME = ("machine", "versions", "library")
"""What must not change between the cases of one file."""


def heading(device: str) -> dict[str, Any]:
    """Where and with what is measured: device and processor, versions, arithmetic, the library's hash."""
    where = machine(device, torch.get_num_threads())
    if device.startswith("cuda"):
        where["gpu_memory_mib"] = torch.cuda.get_device_properties(device).total_memory // 2**20
    where["tf32"] = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
    built = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if torch.version.cuda else {}
    return {"machine": where, "versions": versions() | built, "library": library_hash()[:16]}


def file_name(device: str) -> str:
    """The name of the file of a device, after what the device is called, as nvidia-h200.json."""
    called = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return re.sub(r"[^a-z0-9]+", "-", called.lower()).strip("-") + ".json"


class Records:
    """The file of one device; begun anew where it is missing, damaged, or of another machine, version or library."""

    def __init__(self, path: Path, head: Mapping[str, Any]):
        self.path = path
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            same = all(kept[name] == json.loads(json.dumps(head[name])) for name in SAME)
        except (OSError, ValueError, KeyError, TypeError):
            same = False
        self.content = kept if same else {**head, "date": datetime.date.today().isoformat(), "parts": {}}

    def part(self, name: str) -> dict[str, Any]:
        """All about a part: its state ("begun", "done", "stopped" by its budget, "failed"), seconds and cases."""
        return self.content["parts"].setdefault(name, {"state": "begun", "seconds": 0.0, "cases": {}})

    def get(self, part: str, case: str) -> dict[str, Any] | None:
        """What is known of a case, or None."""
        return self.part(part)["cases"].get(case)

    def add(self, part: str, case: str, values: Mapping[str, Any]) -> None:
        """Keep what was measured, and write the file."""
        self.part(part)["cases"][case] = dict(values)
        self.save()

    def close(self, part: str, state: str, seconds: float) -> None:
        """Keep how a part ended and the seconds that it took in all runs, and write the file."""
        about = self.part(part)
        about.update(state=state, seconds=round(about["seconds"] + seconds, 1))
        self.save()

    def save(self) -> None:
        """Write the file, whole."""
        write_json(self.path, self.content)
