"""Score the pictures of a benchmark with the measures of ``anytext_lib.evaluation``; what lacks its weights is told.

A measure that cannot be computed (no weights, no real pictures) is a sentence in the place of a number, and the others
go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anytext_lib.benchmark.items import picture_names, write_items
from anytext_lib.benchmark.published import MAX_LINES, PROTOCOLS, language_of
from anytext_lib.benchmark.shards import SetPlan
from anytext_lib.data.anyword import AnnotatedImage
from anytext_lib.errors import MissingFileError
from anytext_lib.evaluation.image_metrics import NoCaptionError, evaluate_clip, evaluate_fid
from anytext_lib.evaluation.networks import MetricWeightsError
from anytext_lib.evaluation.ocr import evaluate_ocr
from anytext_lib.files import print_report
from anytext_lib.generation.metadata import read_record

STRICT = "strict"
FID_RESAMPLES = 50


@dataclass(frozen=True)
class Measures:
    """Where the measures find what they need; None where it is not at hand.

    Attributes:
        judge: name of the reader. ``threads``: of the reader. ``batch``: pictures at a time.
        real: folder of real pictures (FID). ``inception``: its weights. ``clip``: folder with CLIP.
        device: of both.
        restart: measure everything anew.
    """

    judge: str = "ppocrv4"
    real: Path | None = None
    inception: Path | None = None
    clip: Path | None = None
    device: Any = "cpu"
    threads: int = 1
    batch: int = 16
    restart: bool = False


def score(plan: SetPlan, measures: Measures, report: Callable[[str], None] = print_report) -> dict[str, Any]:
    """All measures of one set, whose pictures are there.

    Returns:
        ``language`` (whose published table it belongs to), ``items``, ``pictures``, ``left_out`` (lines that could not
        be drawn), and ``ocr``, ``fid``, ``clip``: what their ``result.json`` hold, or ``{"missing": why}``.
    """
    entries = plan.entries()
    language, per_item = language_of(entries), plan.settings.per_item
    write_items(plan.items, entries)
    ocr = evaluate_ocr(plan.items, plan.pictures, plan.folder / "ocr", measures.judge, (PROTOCOLS[language], STRICT),
                       per_item=per_item, max_lines=MAX_LINES, batch=measures.batch, threads=measures.threads,
                       restart=measures.restart, report=report)
    fid = _measured(lambda: evaluate_fid(
        _real(measures.real), plan.pictures, plan.folder / "fid", measures.inception, batch=measures.batch,
        device=measures.device, restart=measures.restart, resamples=FID_RESAMPLES, per_item=per_item, report=report))
    clip = _measured(lambda: evaluate_clip(
        plan.items, plan.pictures, plan.folder / "clip", measures.clip, per_item=per_item, batch=measures.batch,
        device=measures.device, restart=measures.restart, report=report))
    return {"name": plan.folder.name, "language": language, "items": len(entries), "pictures": len(entries) * per_item,
            "left_out": left_out(plan, entries), "ocr": ocr, "fid": fid, "clip": clip}


def left_out(plan: SetPlan, entries: Sequence[AnnotatedImage]) -> list[str]:
    """The lines that could not be drawn, as the pictures themselves tell, and why."""
    return [f"{entry.name}: {reason}" for entry in entries
            for reason in read_record(plan.pictures / picture_names(entry, 1)[0]).get("left_out", [])]


def _real(folder: Path | None) -> Path:
    if folder is None:
        raise MissingFileError("FID compares with real pictures: name their folder by --real, one for each set (the "
                               "published figures are against laion-40k and wukong-40k of AnyText's benchmark)")
    return folder


def _measured(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A result, or why there is none; whatever else is wrong is an error."""
    try:
        return measure()
    except (MetricWeightsError, MissingFileError, NoCaptionError) as error:
        return {"missing": str(error)}
