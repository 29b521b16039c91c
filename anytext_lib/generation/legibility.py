"""What an independent reader makes of pictures that were made, and which of several candidates is best.

The reader is a judge (``anytext_lib.ocr.judge``) and never the recogniser of the losses, which a model may please
without being legible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from anytext_lib.data.batch import to_tensor
from anytext_lib.data.texts import normal_text
from anytext_lib.generation.request import RequestError
from anytext_lib.generation.sweep import lines_of
from anytext_lib.ocr.crops import crop_lines
from anytext_lib.ocr.judge import Judge
from anytext_lib.ocr.similarity import edit_distance_score


@dataclass(frozen=True)
class LineCheck:
    """One line: what was asked for, what was read, how sure the reader is (0 to 1), and how alike both are (NED)."""

    wanted: str
    read: str
    confidence: float
    ned: float

    @property
    def correct(self) -> bool:
        return self.read == self.wanted


@dataclass(frozen=True)
class PictureCheck:
    """The lines of one picture, at least one."""

    lines: tuple[LineCheck, ...]

    @property
    def correct(self) -> int:
        """Number of lines that were read exactly as wanted."""
        return sum(line.correct for line in self.lines)

    @property
    def ned(self) -> float:
        return sum(line.ned for line in self.lines) / len(self.lines)

    @property
    def confidence(self) -> float:
        return sum(line.confidence for line in self.lines) / len(self.lines)

    @property
    def rank(self) -> tuple[int, float, float]:
        """More is better: lines that are right, then likeness, then how sure the reader is."""
        return self.correct, self.ned, self.confidence

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"correct": self.correct, "ned": round(self.ned, 4), "confidence": round(self.confidence, 4),
                "lines": [{**asdict(line), "ned": round(line.ned, 4), "confidence": round(line.confidence, 4)}
                          for line in self.lines]}

    def text(self) -> str:
        """Readings in one row: what was read, and what was wanted where that differs."""
        return ", ".join(repr(line.read) + ("" if line.correct else f" for {line.wanted!r}") for line in self.lines)


def check_pictures(pictures: Sequence[Any], records: Sequence[dict[str, Any]], judge: Judge) -> list[PictureCheck]:
    """Read the lines of pictures of one size.

    Args:
        pictures: ``PIL.Image`` or (H, W, 3) uint8. ``records``: of each, as a pipeline returns them.

    Raises:
        RequestError: a picture has no line.
    """
    pixels = to_tensor([np.asarray(picture) for picture in pictures])
    size = {"height": pixels.shape[2], "width": pixels.shape[3]}
    lines = lines_of([{"request": record["request"] | size} for record in records])
    if sorted(set(lines.image_index.tolist())) != list(range(len(pictures))):
        raise RequestError("there is nothing to read: quote a word in the prompt, or give a line")
    readings = judge.read_scored(crop_lines(pixels, lines))
    found: list[list[LineCheck]] = [[] for _ in pictures]
    for image, wanted, reading in zip(lines.image_index.tolist(), lines.texts, readings, strict=True):
        found[image].append(_check(wanted, reading.text, reading.confidence))
    return [PictureCheck(tuple(checks)) for checks in found]


def _check(wanted: str, read: str, confidence: float) -> LineCheck:
    wanted, read = normal_text(wanted).strip(), normal_text(read).strip()
    return LineCheck(wanted, read, float(confidence), edit_distance_score(read, wanted))


def best(checks: Sequence[PictureCheck], count: int = 1) -> list[int]:
    """Indices of the best candidates, the best one first; among equals the earlier."""
    return sorted(range(len(checks)), key=lambda i: checks[i].rank, reverse=True)[:count]


def candidate_table(seeds: Sequence[int | None], checks: Sequence[PictureCheck], kept: Sequence[int]) -> str:
    """For the terminal: one row for each candidate, a star beside those that are kept."""
    return "\n".join(f"{'*' if i in kept else ' '} seed {seed}: {check.correct} of {len(check.lines)} as asked, NED "
                     f"{check.ned:.3f}, confidence {check.confidence:.2f}: {check.text()}"
                     for i, (seed, check) in enumerate(zip(seeds, checks, strict=True)))
