"""What an edit did: what was legible before and after, and how far it changed what lies outside of its regions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.files import atomic_path, write_json
from anytext_lib.generation.legibility import PictureCheck, check_pictures
from anytext_lib.ocr.judge import Judge

VISIBLE = 8  # levels of 255: about what JPEG changes in flat places, and hardly seen
GAIN = 4  # of the differences in the picture of a report


@dataclass(frozen=True)
class OutsideChange:
    """How far an edit changed what lies outside of its regions, in levels of 0..255.

    Attributes:
        mean, largest: absolute difference over pixels and channels.
        touched: pixels that differ at all. ``visible``: by more than ``VISIBLE`` levels in some channel.
        pixels: all outside.
    """

    mean: float
    largest: int
    touched: int
    visible: int
    pixels: int


def outside_change(before: np.ndarray, after: np.ndarray, inside: np.ndarray) -> OutsideChange:
    """Compare two pictures (H, W, 3) uint8 where ``inside`` (H, W) bool is false."""
    difference = absolute_difference(before, after)[~inside]
    if not difference.size:
        return OutsideChange(0.0, 0, 0, 0, 0)
    largest = difference.max(axis=1)
    return OutsideChange(float(difference.mean()), int(largest.max()), int((largest > 0).sum()),
                         int((largest > VISIBLE).sum()), len(difference))


def absolute_difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Of two pictures (H, W, 3) uint8, as int16."""
    return np.abs(before.astype(np.int16) - after.astype(np.int16))


@dataclass(frozen=True)
class EditReport:
    """Legibility of the lines in the picture before the edit and after it, and the change outside of the regions."""

    before: PictureCheck
    after: PictureCheck
    outside: OutsideChange

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"before": self.before.to_dict(), "after": self.after.to_dict(), "outside": asdict(self.outside)}

    def text(self) -> str:
        """For the terminal: one row for each line, and one for the surroundings."""
        rows = [f"  {repr(b.wanted) if b.wanted else 'to be erased'}: {b.read!r} before ({b.confidence:.2f}), "
                f"{a.read!r} after ({a.confidence:.2f}, NED {a.ned:.3f}){', as asked' if a.correct else ''}"
                for b, a in zip(self.before.lines, self.after.lines, strict=True)]
        out = self.outside
        return "\n".join([*rows, f"  outside of the regions: {out.touched} of {out.pixels} pixels touched "
                          f"({out.touched / max(1, out.pixels):.0%}), {out.visible} by more than {VISIBLE} of 255; "
                          f"absolute difference {out.mean:.2f} in the mean, {out.largest} at most"])


def edit_report(original: np.ndarray, made: Any, inside: np.ndarray, record: dict[str, Any],
                judge: Judge) -> EditReport:
    """Report on an edited picture.

    Args:
        original: (H, W, 3) uint8. ``made``: what became of it, of the same size. ``inside``: (H, W) bool, the regions.
        record: of the picture. ``judge``: reads both.
    """
    before, after = check_pictures([original, made], [record, record], judge)
    return EditReport(before, after, outside_change(original, np.asarray(made), inside))


def edit_picture(original: np.ndarray, made: Any, inside: np.ndarray) -> np.ndarray:
    """Before, after, and the absolute difference four times as strong, the regions pale blue in it.

    Args:
        original, inside: as for ``edit_report``. ``made``: of the same size.

    Returns:
        (H, 3 W + 16, 3) uint8.
    """
    after = np.asarray(made)
    difference = (GAIN * absolute_difference(original, after)).clip(0, 255).astype(np.uint8)
    difference[inside] = difference[inside] // 2 + np.array([20, 60, 120], np.uint8)
    gap = np.full((original.shape[0], 8, 3), 255, np.uint8)
    return np.concatenate([original, gap, after, gap, difference], axis=1)


def write_report(report: EditReport, judge: str, change: np.ndarray, picture: Path) -> list[Path]:
    """Write a report beside the ``picture`` NAME.png that it is about, as NAME_report.json and NAME_report.png.

    Args:
        judge: the reader's name. ``change``: see ``edit_picture``.

    Returns:
        both files.
    """
    from PIL import Image

    told, shown = (picture.with_name(f"{picture.stem}_report{suffix}") for suffix in (".json", ".png"))
    write_json(told, {"judge": judge, **report.to_dict()})
    with atomic_path(shown) as temporary:
        Image.fromarray(change).save(temporary, format="PNG")
    return [told, shown]
