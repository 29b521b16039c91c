r"""How well boxes fit: precision, recall and F at an intersection over union above one half.

.. math:: P = \frac{matched}{found}, \quad R = \frac{matched}{wanted}, \quad F = \frac{2 P R}{P + R}

Protocol of ICDAR 2015: a box and a text match one to one; a box of which more than half lies on a text marked
"don't care" does not count at all, nor does that text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BoxScore:
    """Counts, which add up over images: boxes ``matched``, ``found``, texts ``wanted``; ``overlap``, the sum of the
    intersections over unions of the matches."""

    matched: int = 0
    found: int = 0
    wanted: int = 0
    overlap: float = 0.0

    def __add__(self, other: BoxScore) -> BoxScore:
        return BoxScore(self.matched + other.matched, self.found + other.found, self.wanted + other.wanted,
                        self.overlap + other.overlap)

    @property
    def precision(self) -> float:
        """1 where nothing was found."""
        return self.matched / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """1 where nothing was wanted."""
        return self.matched / self.wanted if self.wanted else 1.0

    @property
    def f(self) -> float:
        """Harmonic mean of precision and recall: 2 matched / (found + wanted); 1 where there is neither."""
        return 2 * self.matched / (self.found + self.wanted) if self.found + self.wanted else 1.0

    @property
    def mean_overlap(self) -> float:
        """Mean intersection over union of the matches; 0 without one."""
        return self.overlap / self.matched if self.matched else 0.0

    def __str__(self) -> str:
        return (f"P {self.precision:.3f}  R {self.recall:.3f}  F {self.f:.3f}  "
                f"({self.matched} matched, {self.found} found, {self.wanted} wanted; mean IoU {self.mean_overlap:.3f})")


def score_boxes(found: Sequence, wanted: Sequence, ignore: Sequence[bool] | None = None,
                iou: float = 0.5) -> BoxScore:
    """Score of one image.

    Args:
        found: polygons (P, 2), pixels. wanted: the texts, likewise. ignore: True for texts that do not count.
        iou: a match has an intersection over union above it; at 0.5 or more a box that overlaps no other one has at
            most one partner, so that the order does not matter.
    """
    flags = [False] * len(wanted) if ignore is None else [bool(flag) for flag in ignore]
    if len(flags) != len(wanted):
        raise ValueError(f"{len(wanted)} texts and {len(flags)} flags to ignore do not agree")
    shapes = [_shape(points) for points in wanted]
    texts = [shape for shape, skip in zip(shapes, flags, strict=True) if not skip]
    dont_care = [shape for shape, skip in zip(shapes, flags, strict=True) if skip]
    boxes = [box for box in map(_shape, found)
             if not any(box.intersection(shape).area > 0.5 * box.area for shape in dont_care)]
    overlaps = _matches(boxes, texts, iou)
    return BoxScore(len(overlaps), len(boxes), len(texts), sum(overlaps))


def _matches(boxes: list, texts: list, iou: float) -> list[float]:
    """Intersections over unions of the pairs, best pairs first, each box and each text in one pair at most."""
    pairs = [(_iou(box, text), i, j) for i, box in enumerate(boxes) for j, text in enumerate(texts)]
    used, matched = set(), []
    for value, i, j in sorted(pairs, reverse=True):
        if value > iou and not used & {("box", i), ("text", j)}:
            used |= {("box", i), ("text", j)}
            matched.append(value)
    return matched


def _iou(one, other) -> float:
    shared = one.intersection(other).area
    return shared / (one.area + other.area - shared) if shared else 0.0


def _shape(points):
    from shapely.geometry import Polygon

    shape = Polygon([(float(x), float(y)) for x, y in points])
    return shape if shape.is_valid else shape.buffer(0)
