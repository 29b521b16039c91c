"""One page of a benchmark: one's own figures with intervals under the published ones, and what keeps them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anytext_lib.benchmark.published import FIGURES, JUDGE, LINES, PROTOCOLS, SETTINGS, PublishedSettings
from anytext_lib.evaluation.report import plain_table, shown, write_table
from anytext_lib.evaluation.score import ALL
from anytext_lib.files import atomic_path, write_json

HEAD = ("system", "Sen.Acc", "NED", "FID", "CLIPScore", "judge")


def write_summary(folder: Path, name: str, sets: Sequence[dict[str, Any]], settings: PublishedSettings) -> str:
    """Write ``report.md``, ``benchmark.csv`` and ``benchmark.json`` into ``folder``; returns the text for the terminal.

    Args:
        name: of one's own system. ``sets``: as ``scoring.score`` returns them.
    """
    tables = {found["name"]: rows(name, found) for found in sets}
    with atomic_path(folder / "report.md") as temporary:
        temporary.write_text(page(name, sets, tables, settings), encoding="utf-8", newline="\n")
    write_table(folder / "benchmark.csv", [own_row(name, found) for found in sets])
    published = {language: {system: figures._asdict() for system, figures in table.items()}
                 for language, table in FIGURES.items()}
    write_json(folder / "benchmark.json", {"system": name, "settings": asdict(settings), "sets": list(sets),
                                           "published": published})
    return "\n\n".join(f"{found['name']} ({found['language']})\n{plain_table([HEAD, *tables[found['name']]])}"
                       + "".join(f"\n{line}" for line in missing(found)) for found in sets)


def rows(name: str, found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Published rows of the set's language, and one's own last."""
    published = [(system, f"{f.sentence_accuracy:.4f}", f"{f.ned:.4f}", f"{f.fid:.2f}", "", "DuGuang")
                 for system, f in FIGURES[found["language"]].items()]
    ocr, fid, clip = found["ocr"]["protocols"][PROTOCOLS[found["language"]]][ALL], found["fid"], found["clip"]
    own = (name, shown(ocr["sentence_accuracy"], ocr["sentence_accuracy_interval"]),
           shown(ocr["ned"], ocr["ned_interval"]),
           "missing" if "missing" in fid else _with_interval(fid["fid"], fid["fid_interval"]),
           "missing" if "missing" in clip else shown(clip["clip_score"], clip["clip_score_interval"]),
           found["ocr"]["recogniser"]["name"])
    return [*published, own]


def own_row(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """One's own figures of a set as numbers; empty where one is missing."""
    ocr = found["ocr"]["protocols"][PROTOCOLS[found["language"]]][ALL]
    row = {"system": name, "set": found["name"], "language": found["language"], "items": found["items"],
           "pictures": found["pictures"], "lines": ocr["lines"], "judge": found["ocr"]["recogniser"]["name"]}
    measured = {"sentence_accuracy": ocr, "ned": ocr, "fid": found["fid"], "clip_score": found["clip"]}
    for key, result in measured.items():
        low, high = result.get(f"{key}_interval") or (None, None)
        row |= {key: result.get(key), f"{key}_low": low, f"{key}_high": high}
    return row


def page(name: str, sets: Sequence[dict[str, Any]], tables: dict[str, list[tuple[str, ...]]],
         settings: PublishedSettings) -> str:
    """The report in Markdown."""
    parts = [f"# Benchmark of {name}", f"Settings `{settings.name}`: " + _listed(sampled(sets[0], settings)) + ".",
             "Intervals are 95 %, over items: the pictures of an item are drawn together. Sen.Acc, NED and CLIPScore "
             "have BCa bootstrap intervals; that of FID is the figure plus and minus 1.96 standard deviations of its "
             "bootstrap, whose own mean is too high: a resample holds fewer different pictures."]
    for found in sets:
        ocr = found["ocr"]
        parts += [f"## {found['name']} ({found['language']})",
                  f"{found['items']} items, {found['pictures']} pictures, "
                  f"{ocr['protocols'][PROTOCOLS[found['language']]][ALL]['lines']} lines; protocol "
                  f"`{PROTOCOLS[found['language']]}`.", _markdown([HEAD, *tables[found["name"]]])]
        strict = ocr["protocols"]["strict"][ALL]
        parts.append("By the strict protocol (whole texts, characters compared): Sen.Acc "
                     f"{shown(strict['sentence_accuracy'], strict['sentence_accuracy_interval'])}, NED "
                     f"{shown(strict['ned'], strict['ned_interval'])}.")
        parts += _list("What is missing", missing(found))
        parts += _list("What keeps these figures from being compared with the published ones",
                       differences(found, settings))
        parts += _list(f"{len(found['left_out'])} lines could not be drawn and count as they were read",
                       found["left_out"][:20])
    return "\n\n".join(parts) + "\n"


def missing(found: dict[str, Any]) -> list[str]:
    """Measures without a number, and what to do."""
    return [f"{measure}: {found[measure]['missing']}" for measure in ("fid", "clip") if "missing" in found[measure]]


def sampled(found: dict[str, Any], settings: PublishedSettings) -> dict[str, Any]:
    """The settings; where they leave a value to the model, the one that the pictures of a set tell."""
    told = found["ocr"]["sampler"] or {}
    return {key: told.get(key, "the model's own") if value is None else value
            for key, value in asdict(settings).items() if key != "name"}


def differences(found: dict[str, Any], settings: PublishedSettings) -> list[str]:
    """What differs from the way in which the published figures were made."""
    language, ocr = found["language"], found["ocr"]
    lines, published = ocr["protocols"][PROTOCOLS[language]][ALL]["lines"], SETTINGS["anytext2"]
    told = [f"the judge is {ocr['recogniser']['name']}, theirs {JUDGE}"]
    if lines != LINES[language]:
        told.append(f"{lines} lines were judged, theirs are {LINES[language]}")
    changed = [f"{key} {value!r} (theirs {getattr(published, key)!r})"
               for key, value in sampled(found, settings).items() if value != getattr(published, key)]
    if changed:
        told.append("sampling: " + ", ".join(changed))
    told.append("the pictures are PNG, theirs JPEG; the noise of their four pictures comes from one seed, here each "
                "has its own")
    if found["left_out"]:
        told.append(f"{len(found['left_out'])} lines could not be drawn in the glyph font: name a larger one by "
                    "--glyph-font, theirs is Arial Unicode")
    if "missing" not in found["fid"]:
        count = found["fid"]["pictures"]["real"]["count"]
        told.append(f"FID is against {count} real pictures, theirs against 40,000; it falls with their number")
    return told


def _with_interval(value: float, interval: Iterable[float]) -> str:
    low, high = interval
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value!r}" for key, value in settings.items())


def _list(title: str, points: Sequence[str]) -> list[str]:
    return [f"{title}:", "\n".join("- " + point.replace("\n", " ") for point in points)] if points else []


def _markdown(table: Sequence[Sequence[str]]) -> str:
    head, *body = table
    return "\n".join(["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)])
