"""Where the outputs of a saved notebook come from: what ran, when, on what, and what it cost."""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from anytext_lib.device import versions
from anytext_lib.publishing import notebooks
from anytext_lib.publishing.numbers import write_yaml

COST_MARK = "**Cost:**"
"""Begins the line of cost below a notebook's title; the line is written by `anytext course run --in-place`."""
NAVIGATION_MARK = "**Pages:**"
"""Begins the line of links to other pages, below the title and at the end of a page; written like the line of cost."""
MARKS = (COST_MARK, NAVIGATION_MARK)
MAP = "map"
"""The tag of a cell that holds the table of all pages, which is written when pages are published."""
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3}, "file_extension": ".py", "mimetype": "text/x-python",
    "name": "python", "nbconvert_exporter": "python", "pygments_lexer": "ipython3",
}
"""What JupyterLab writes about the language, but for Python's version."""
COSTS_HEADER = "# What a run of each notebook cost, written by `anytext course run` with --in-place.\n"


def source_hash(notebook) -> str:
    """SHA-256 of the notebook's sources and tags. Outputs, injected cells and what publication writes do not count."""
    cells = [cell for cell in notebook.cells if notebooks.INJECTED not in notebooks.tags(cell)]
    parts = []
    for index, cell in enumerate(cells):
        source = "" if MAP in notebooks.tags(cell) else cell.source
        if index in (0, len(cells) - 1):
            lines = source.splitlines()
            source = "\n".join(line for line in lines if not line.startswith(MARKS)).rstrip()
        parts.append([cell.cell_type, source, notebooks.tags(cell)])
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


def is_fresh(notebook) -> bool:
    """Whether the outputs of a notebook belong to its sources, as far as its provenance tells."""
    return notebook.metadata.get("anytext", {}).get("source_hash") == source_hash(notebook)


def stamp(notebook, *, profile: str, parameters: Mapping[str, Any], where: Mapping[str, Any], result: Mapping) -> None:
    """Write the provenance of an executed notebook into its metadata, and remove papermill's, which holds paths.

    `where` is `machine(...)`; `result` holds status, seconds and peak_memory_mib.
    """
    clean(notebook)
    notebook.metadata["anytext"] = {
        "source_hash": source_hash(notebook),
        "profile": profile,
        "parameters": dict(parameters),
        **where,
        "python": ".".join(map(str, sys.version_info[:3])),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **result,
    }


def clean(notebook) -> None:
    """Reduce the metadata to what the course keeps (tags, hidden sources) and to what JupyterLab writes itself."""
    meta = notebook.metadata
    version = meta.get("language_info", {}).get("version") or meta.get("anytext", {}).get("python")
    kept = {"kernelspec", "language_info", "anytext"}
    for key in [key for key in meta if key not in kept]:
        del meta[key]
    meta["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    meta["language_info"] = LANGUAGE | {"version": version or platform.python_version()}
    for cell in notebook.cells:
        cell.metadata = type(cell.metadata)(
            {key: value for key, value in cell.metadata.items() if key in {"tags", "jupyter"} and value}
        )


# ---- the line of cost


def costs_path(folder: Path) -> Path:
    """The file of costs in the folder of notebooks."""
    return folder / "baselines" / "costs.yaml"


def load_costs(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Costs by notebook number, then by "<profile>.<kind of device>"."""
    import yaml

    path = costs_path(folder)
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}


def save_cost(folder: Path, number: str, stamped: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Store the cost of a run (`stamped` is its metadata.anytext); return all known costs of that notebook."""
    costs = load_costs(folder)
    kind = str(stamped["device"]).split(":")[0]
    entry = {"seconds": round(stamped["seconds"], 1), "peak_memory_mib": stamped["peak_memory_mib"]}
    entry |= {key: stamped[key] for key in ("cpu_seconds", "threads", "cpu", "gpu") if key in stamped}
    costs.setdefault(number, {})[f"{stamped['profile']}.{kind}"] = entry
    write_yaml(costs_path(folder), dict(sorted(costs.items())), COSTS_HEADER)
    return costs[number]


class Cost(NamedTuple):
    """What a recorded run cost, as readers see it: the time, the peak memory, and on what."""

    time: str
    memory: str
    machine: str


def cost_parts(costs: Mapping[str, Mapping[str, Any]]) -> tuple[Cost | None, Cost | None]:
    """The costs of a notebook with its defaults on a CPU, and on a GPU; None where no run was recorded.

    On a CPU the time is that of the processor, whatever else the machine had to do; on a GPU it is the clock's.
    """
    cpu, gpu = costs.get("default.cpu"), costs.get("gpu.cuda") or costs.get("default.cuda")
    shown = [None, None]
    if cpu is not None:
        shown[0] = Cost(_time(cpu["cpu_seconds"]), _memory(cpu), f"of CPU time ({cpu['cpu']})")
    if gpu is not None:
        shown[1] = Cost(_time(gpu["seconds"]), _memory(gpu), f"on a GPU ({gpu['gpu']})")
    return tuple(shown)


def cost_line(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """The line of cost below a title, from measured runs: with the defaults on a CPU, and on a GPU."""
    cpu, gpu = cost_parts(costs)
    parts = [f"{cpu.time} {cpu.machine}, peak memory {cpu.memory}"] if cpu else []
    parts += [f"{gpu.time} {gpu.machine}"] if gpu else []
    return f"{COST_MARK} {'; '.join(parts) or 'not measured yet'}."


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _memory(cost: Mapping[str, Any]) -> str:
    mib = cost["peak_memory_mib"]
    return "not measured" if mib is None else f"{mib / 1024:.1f} GiB"


def write_cost_line(notebook, costs: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the line of cost into the first cell, over the old one or below the title."""
    lines = notebook.cells[0].source.splitlines()
    line = cost_line(costs)
    at = next((index for index, text in enumerate(lines) if text.startswith(COST_MARK)), None)
    if at is None:
        lines[1:1] = ["", line]
    else:
        lines[at] = line
    notebook.cells[0].source = "\n".join(lines)
