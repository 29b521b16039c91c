"""SeqAcc, UDiffText's measure: the share of words that a reader reads exactly, upper and lower case being the same.

Each word is cut out by its upright box (not the tilted one) and read.  Upstream reads with PARSeq, which is also what
the sequence loss was computed with; here any judge of ``anytext_lib.ocr`` reads, and the loss's reader should not.
Source: UDiffText, ``test.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from anytext_lib.data.lines import TextLines
from anytext_lib.ocr.crops import crop_lines


def same_word(read: str, wanted: str) -> bool:
    """Whether two words are equal but for case; nothing else is forgiven, spaces and punctuation included."""
    return read.lower() == wanted.lower()


def sequence_accuracy(read: Sequence[str], wanted: Sequence[str]) -> float:
    """Share of words that are ``same_word``; NaN for none.

    Raises:
        ValueError: another number of words read than wanted.
    """
    if isinstance(read, str) or isinstance(wanted, str) or len(read) != len(wanted):
        raise ValueError(f"give one word read for each word wanted, got {len(read)} and {len(wanted)}")
    return sum(map(same_word, read, wanted)) / len(wanted) if len(wanted) else float("nan")


def upright_boxes(lines: TextLines) -> TextLines:
    """The lines with their quads replaced by the upright boxes around them."""
    low, high = lines.quads.amin(dim=1), lines.quads.amax(dim=1)
    (left, top), (right, bottom) = low.unbind(1), high.unbind(1)
    quads = torch.stack([left, top, right, top, right, bottom, left, bottom], dim=1).reshape(-1, 4, 2)
    return TextLines(lines.image_index, quads, lines.texts, lines.languages, lines.skipped)


@torch.no_grad()
def measure_sequence_accuracy(images: torch.Tensor, lines: TextLines, judge) -> tuple[float, list[str]]:
    """SeqAcc of pictures, and what was read.

    Args:
        images: (B, 3, H, W) in [-1, 1], RGB. ``lines``: the words that they are to show.
        judge: something with ``read(crops) -> list[str]``, see ``anytext_lib.ocr.judge``.
    """
    read = judge.read(crop_lines(images.float().cpu(), upright_boxes(lines))) if len(lines) else []
    return sequence_accuracy(read, lines.texts), read
