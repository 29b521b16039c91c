"""From readings to Sen.Acc and NED under a protocol, with intervals, for all lines and for each language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anytext_lib.evaluation.intervals import RESAMPLES, bootstrap_interval
from anytext_lib.evaluation.protocols import LineScore, Protocol
from anytext_lib.evaluation.readings import LineReading
from anytext_lib.evaluation.results import check_order, plain_table, shown

ALL = "all"


def score_lines(lines: Sequence[LineReading], protocol: Protocol) -> list[LineScore]:
    """Score of each line."""
    return [protocol.score(line.read, line.wanted) for line in lines]


def summarise(lines: Sequence[LineReading], protocol: Protocol, resamples: int = RESAMPLES,
              seed: int = 0) -> dict[str, dict[str, Any]]:
    """Means and 95% intervals: of all lines, and of each language where there are several.

    Raises:
        ResultError: Sen.Acc is above NED (see ``check_order``).
    """
    scores = score_lines(lines, protocol)
    groups = {ALL: range(len(lines))}
    languages = sorted({line.language for line in lines})
    if len(languages) > 1:
        groups |= {name: [i for i, line in enumerate(lines) if line.language == name] for name in languages}
    return {group: _summary([lines[i] for i in rows], [scores[i] for i in rows], resamples, seed, f"{protocol.name}, "
                            f"{group}") for group, rows in groups.items()}


def _summary(lines: Sequence[LineReading], scores: Sequence[LineScore], resamples: int, seed: int,
             where: str) -> dict[str, Any]:
    items = [line.item for line in lines]
    right, ned = [float(score.correct) for score in scores], [score.ned for score in scores]
    found = {"lines": len(lines), "items": len(set(items)), "sentence_accuracy": _mean(right), "ned": _mean(ned)}
    check_order(found["sentence_accuracy"], found["ned"], where)
    intervals = {f"{name}_interval": list(bootstrap_interval(values, items, resamples=resamples, seed=seed))
                 for name, values in (("sentence_accuracy", right), ("ned", ned))}
    return found | intervals


def table(protocols: dict[str, dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of the summaries, for a CSV file."""
    return [{"protocol": name, "lines of": group, **_flat(summary)}
            for name, groups in protocols.items() for group, summary in groups.items()]


def text_table(protocols: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The summaries for the terminal."""
    rows = [("protocol", "lines of", "items", "lines", "Sen.Acc [95%]", "NED [95%]")]
    rows += [(name, group, str(s["items"]), str(s["lines"]),
              shown(s["sentence_accuracy"], s["sentence_accuracy_interval"]), shown(s["ned"], s["ned_interval"]))
             for name, groups in protocols.items() for group, s in groups.items()]
    return plain_table(rows)


def _flat(summary: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for name, value in summary.items():
        if isinstance(value, list):
            flat |= {name.replace("interval", "low"): value[0], name.replace("interval", "high"): value[1]}
        else:
            flat[name] = value
    return flat


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
