"""Text accuracy of a folder of pictures: `anytext evaluate ocr`.

    result.json     numbers and all that they depend on      table.csv    the same as a table
    lines.csv       every line: wanted, read, scores          worst.html   the worst lines, as pictures
    readings-*.jsonl  kept while it runs; a later run goes on from there
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from anytext_lib.device import versions
from anytext_lib.errors import OptionError
from anytext_lib.evaluation.journal import Picture
from anytext_lib.evaluation.read import (
    CROPS,
    HEIGHT,
    MAX_LINES,
    WIDTH,
    LineReading,
    Readings,
    find_pictures,
    open_reader,
    read_pictures,
)
from anytext_lib.evaluation.report import (
    PACKAGES,
    checkpoint_identity,
    generation,
    recogniser_identity,
    sha256,
    table,
    write_result,
    write_table,
    write_worst,
    written_folder,
)
from anytext_lib.evaluation.score import LineScore, Protocol, about, protocol, score_lines, summarise
from anytext_lib.files import print_report

PROTOCOLS = ("anytext", "strict")


def evaluate_ocr(annotations: str | os.PathLike, images: str | os.PathLike | None, output: str | os.PathLike,
                 recogniser: str = "ppocrv4", protocols: Sequence[str] = PROTOCOLS, crop: str | None = None,
                 per_item: int | None = None, max_lines: int = MAX_LINES, skip_missing: bool = False,
                 given: Mapping[str, Any] | None = None, batch: int = 16, threads: int = 1, worst: int = 60,
                 restart: bool = False, reader: Any = None, report: Callable[[str], None] = print_report) -> dict:
    """Sen.Acc and NED of all lines, by each protocol.

    Args:
        annotations, images, per_item, max_lines, skip_missing: see ``find_pictures``.
        output: folder for the results. ``recogniser``: a name of ``readings.READERS``.
        crop: how lines are cut out; None takes each protocol's own way.
        given: ``sampler``, ``checkpoint`` (path or "sha256:...") and ``seed`` of the pictures, where known; what is not
            given is looked for in the pictures themselves.
        batch: pictures at a time. ``threads``: of the recogniser. ``worst``: lines on the page.
        restart: read everything anew. ``reader``: use this object, called ``recogniser``, instead of opening one.

    Returns:
        what ``result.json`` holds.

    Raises:
        FileNotFoundError, AnyWordError: see ``find_pictures``. OptionError: an unknown protocol, crop or reader.
        JournalError, ComparedPictureError: see ``read_pictures``. WeightsError: the recogniser is not installed.
        FolderBusyError, OutputError: another program writes into ``output``, or it cannot be written.
    """
    rules = [protocol(name) for name in dict.fromkeys(protocols)]
    if not rules or (crop is not None and crop not in CROPS):
        raise OptionError(f"give at least one protocol, and a crop of {sorted(CROPS)}; got "
                              f"{list(protocols)}, {crop!r}")
    checkpoint = checkpoint_identity((given or {}).get("checkpoint"))
    pictures, missing = find_pictures(annotations, images, per_item, max_lines, skip_missing)
    reader = open_reader(recogniser, threads) if reader is None else reader
    identity, output = recogniser_identity(reader, recogniser), Path(output)
    settings = {"annotations": sha256(annotations), "recogniser": identity, "max_lines": max_lines}
    crops = {rule.name: crop or rule.crop for rule in rules}
    with written_folder(output):
        readings = {name: read_pictures(pictures, reader, name, output / f"readings-{recogniser}-{name}.jsonl",
                                        settings, batch, restart, report) for name in dict.fromkeys(crops.values())}
        judged = [Judged(rule, crops[rule.name], found := readings[crops[rule.name]].lines, score_lines(found, rule))
                  for rule in rules]
        result = {
            "kind": "ocr", **_data(annotations, images, pictures, missing), "recogniser": identity,
            **_about_readings(readings, judged, max_lines),
            **generation({**(given or {}), "checkpoint": checkpoint}, readings[judged[0].crop].settings),
            "bootstrap": about(), "protocols": {j.rule.name: summarise(j.lines, j.rule) for j in judged},
            "versions": versions(PACKAGES),
        }
        _write(output, result, judged, pictures, worst)
    return result


class Judged(NamedTuple):
    """The lines that were cut out by ``crop``, and their scores by ``rule``."""

    rule: Protocol
    crop: str
    lines: list[LineReading]
    scores: list[LineScore]


def _data(annotations: str | os.PathLike, images: str | os.PathLike | None, pictures: Sequence[Picture],
          missing: Sequence[str]) -> dict[str, Any]:
    """Identify the annotation file, and count the pictures."""
    folder = Path(images or pictures[0].path.parent).resolve().name
    return {"annotations": {"name": Path(annotations).name, "sha256": sha256(annotations)},
            "pictures": {"folder": folder, "items": len({picture.item for picture in pictures}),
                         "read": len(pictures), "missing": len(missing)}}


def _about_readings(readings: Mapping[str, Readings], judged: Sequence[Judged], max_lines: int) -> dict[str, Any]:
    """Count the lines by crop, and list the lines that could not be cut out."""
    return {
        "crops": {name: {"height": HEIGHT, "width": WIDTH, "protocols": [j.rule.name for j in judged if j.crop == name]}
                  for name in readings},
        "lines": {"most_of_an_item": max_lines, "read": {name: len(found.lines) for name, found in readings.items()},
                  "skipped": {name: found.skipped for name, found in readings.items()}},
    }


def _write(output: Path, result: dict, judged: Sequence[Judged], pictures: Sequence[Picture], worst: int) -> None:
    """All files; the result comes last, so that where it is, the others are."""
    write_table(output / "lines.csv", [
        {"protocol": rule.name, **asdict(line), "correct": int(score.correct), "ned": round(score.ned, 6)}
        for rule, _, lines, scores in judged for line, score in zip(lines, scores, strict=True)])
    write_table(output / "table.csv", table(result["protocols"]))
    rule, crop, lines, scores = judged[0]
    write_worst(output / "worst.html", result, lines, scores, pictures, crop, rule.name, worst)
    write_result(output / "result.json", result)
