"""The table of spreads: every recorded number over the variants, beside its tolerance."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from anytext_lib.publishing.notebooks import write_atomically

HERE = Path(__file__).parent
LIMIT = 0.5
"""The largest share of its tolerance over which a number may spread."""
COLUMNS = ("notebook", "name", "recorded", "tolerance", "min", "max", "spread", "share", "seed_spread", "variants",
           "failed")


def path_of(profile: str) -> Path:
    """The committed table of a profile."""
    return HERE / f"spread.{profile}.csv"


def tolerance(expected: Mapping[str, float]) -> float:
    """What `course run --check` allows: atol + rtol * |value|."""
    return expected.get("atol", 0.0) + expected.get("rtol", 0.0) * abs(expected["value"])


def share(spread: float, allowed: float) -> float:
    """Spread over tolerance; 0 where nothing spreads, infinite where something does and nothing is allowed."""
    return 0.0 if spread == 0 else spread / allowed if allowed > 0 else math.inf


def row(notebook: str, name: str, expected: Mapping[str, float], plain: Mapping[str, dict],
        other_seed: dict | None) -> dict[str, str]:
    """One line of the table. `plain` holds results by the variant's name; a result has "records" and "failure"."""
    values = [result["records"][name] for result in plain.values() if name in result["records"]]
    low, high = min(values, default=None), max(values, default=None)
    spread = max(high, expected["value"]) - min(low, expected["value"]) if values else None
    seed = other_seed["records"].get(name) if other_seed else None
    named = plain | ({"seed": other_seed} if other_seed else {})
    numbers = {
        "recorded": expected["value"], "tolerance": tolerance(expected), "min": low, "max": high, "spread": spread,
        "share": share(spread, tolerance(expected)) if values else None,
        "seed_spread": abs(seed - expected["value"]) if seed is not None else None,
    }
    failed = [variant for variant, result in named.items() if result["failure"]]
    return {"notebook": notebook, "name": name, "variants": str(len(values)), "failed": " ".join(failed),
            **{key: "" if value is None else f"{value:.6g}" for key, value in numbers.items()}}


def golden_rows(results: Mapping[str, dict]) -> list[dict[str, str]]:
    """A line for each golden test: its largest error as a share of the tolerance, over all variants."""
    names = sorted({name for result in results.values() for name in result["records"]})
    failed = " ".join(variant for variant, result in results.items() if result["failure"])
    lines = []
    for name in names:
        shares = [result["records"][name] for result in results.values() if name in result["records"]]
        low, high = f"{min(shares):.3g}", f"{max(shares):.3g}"
        lines.append({"notebook": "golden", "name": name, "recorded": "0", "tolerance": "1", "min": low, "max": high,
                      "spread": high, "share": high, "seed_spread": "", "variants": str(len(shares)), "failed": failed})
    return lines


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a table; none if there is no such file."""
    if not path.exists():
        return []
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write a table atomically, golden tests first."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda line: (line["notebook"] != "golden", line["notebook"])))
    write_atomically(path, out.getvalue())


def complaints(rows: Sequence[Mapping[str, str]], variants: int) -> list[str]:
    """What is wrong with lines of the table: too wide a spread, variants that are missing or failed."""
    found = []
    for line in rows:
        name = f"{line['notebook']} {line['name']}"
        if line["share"] and float(line["share"]) > LIMIT:
            found.append(f"{name}: spread {line['spread']} is {float(line['share']):.0%} of its tolerance "
                         f"{line['tolerance']} (at most {LIMIT:.0%})")
        if int(line["variants"]) < variants:
            found.append(f"{name}: measured under {line['variants']} of {variants} variants")
    failed = sorted({(line["notebook"], variant) for line in rows for variant in line["failed"].split()})
    return found + [f"{notebook} fails under {variant}" for notebook, variant in failed]
