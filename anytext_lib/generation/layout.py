"""Places for lines that were given none, as large as there is room for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anytext_lib.data.fonts import typeface
from anytext_lib.generation.request import RequestError

MARGIN = 0.05  # of the picture, along its edges
HIGHEST = 0.3  # of the square root of the picture's area: a line is not higher
GAP = 0.35  # of a line's height, between lines and between rows
_REFERENCE = 48  # pixels per em at which texts are measured
_PAD = 1.06  # room around the letters, so that they fill their box


def lay_out(texts: Sequence[str], fonts: Sequence[str], size: tuple[int, int],
            occupied: Sequence[np.ndarray] = ()) -> list[np.ndarray]:
    """Boxes for ``texts``: (4, 2) float64 each, tl, tr, br, bl.

    The largest free rectangle is filled row by row, from left to right, with the number of rows at which the letters
    come out largest.

    Args:
        fonts: in which each text is drawn. ``size``: (H, W). ``occupied``: polygons (P, 2) that stay free.

    Raises:
        RequestError: there is no room at all.
    """
    if not texts:
        return []
    left, top, right, bottom = free_rectangle(size, occupied)
    aspects = np.array([_aspect(text, font) for text, font in zip(texts, fonts, strict=True)])
    room = right - left, bottom - top
    if min(room) < 2:
        raise RequestError(f"there is no free place for {list(texts)}: give regions, or make the others smaller")
    height, rows = max((_row_height(aspects, split, room), -len(split), split)
                       for split in map(lambda n: _split(aspects, n), range(1, len(texts) + 1)))[::2]
    height = min(height, HIGHEST * float(np.sqrt(size[0] * size[1])))
    boxes, y = [], top + (room[1] - height * (len(rows) + GAP * (len(rows) - 1))) / 2
    for row in rows:
        x = left + (room[0] - _row_width(aspects[row], height)) / 2
        for i in row:
            boxes.append(_box(x, y, height * aspects[i], height))
            x += height * (aspects[i] + GAP)
        y += height * (1 + GAP)
    return boxes


def free_rectangle(size: tuple[int, int], occupied: Sequence[np.ndarray] = ()) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest rectangle that meets no occupied polygon's bounding box."""
    height, width = size
    border = MARGIN * min(height, width)
    whole = border, border, width - 1 - border, height - 1 - border
    boxes = [(p[:, 0].min() - border, p[:, 1].min() - border, p[:, 0].max() + border, p[:, 1].max() + border)
             for p in occupied]
    best, area = (0.0, 0.0, 0.0, 0.0), 0.0
    for left in sorted({whole[0], *(box[2] for box in boxes)}):
        for right in sorted({whole[2], *(box[0] for box in boxes)}):
            between = [box for box in boxes if box[0] < right and box[2] > left]
            edges = sorted([(whole[1], whole[1]), *((box[1], box[3]) for box in between), (whole[3], whole[3])])
            for top, bottom in _gaps(edges):
                inside = max(left, whole[0]), max(top, whole[1]), min(right, whole[2]), min(bottom, whole[3])
                here = max(0.0, inside[2] - inside[0]) * max(0.0, inside[3] - inside[1])
                if here > area:
                    best, area = inside, here
    return best


def _gaps(edges: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """What intervals, sorted by their start, leave free between the first and the last."""
    gaps, reached = [], edges[0][1]
    for low, high in edges[1:]:
        if low > reached:
            gaps.append((reached, low))
        reached = max(reached, high)
    return gaps


def _aspect(text: str, font: str) -> float:
    face = typeface(font, _REFERENCE)
    left, _, right, _ = face.getbbox(text)
    _, top, _, bottom = face.getbbox("Hg" + text)
    return _PAD * max(1, right - left) / max(1, bottom - top)


def _split(aspects: np.ndarray, rows: int) -> list[list[int]]:
    """Lines in reading order on ``rows`` rows, each filled to about its share of the whole length."""
    ends = np.cumsum(aspects) - aspects / 2
    place = np.minimum((ends / aspects.sum() * rows).astype(int), rows - 1)
    return [found for row in range(rows) if (found := np.flatnonzero(place == row).tolist())]


def _row_height(aspects: np.ndarray, rows: list[list[int]], room: tuple[float, float]) -> float:
    across = min(room[0] / _row_width(aspects[row], 1.0) for row in rows)
    return min(across, room[1] / (len(rows) + GAP * (len(rows) - 1)))


def _row_width(aspects: np.ndarray, height: float) -> float:
    return height * float(aspects.sum() + GAP * (len(aspects) - 1))


def _box(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float64)
