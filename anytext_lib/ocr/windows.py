"""Where text stands: rectangles of pixels around lines, and a sample of the background between them.

What is decoded there, level by level, is ``models.patch_decoder``.  Everything here is integers on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from anytext_lib.data.lines import TextLines
from anytext_lib.ocr.crops import footprint

SPREAD = (0.7548776662466927, 0.5698402909980532)  # 1/g and 1/g^2, g^3 = g + 1: tiles in this order never cluster


@dataclass(frozen=True)
class Span:
    """Cells ``start`` to ``stop`` (excluded) of one axis."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def within(self, other: Span) -> slice:
        """This span as a slice of another that contains it."""
        return slice(self.start - other.start, self.stop - other.start)

    def cells(self, stride: int) -> Span:
        """The coarser cells of ``stride`` that it touches."""
        return Span(self.start // stride, -(-self.stop // stride))

    def finer(self) -> Span:
        """The same in cells half as large."""
        return Span(2 * self.start, 2 * self.stop)

    def around(self, stride: int, margin: int, length: int) -> Span:
        """Cells of ``stride`` around it, ``margin`` more on either side, moved inside 0..``length``.

        Spans of one length give spans of one length, wherever they begin.
        """
        size = min(length, -(-len(self) // stride) + (stride > 1) + 2 * margin)
        start = max(0, min(self.start // stride - margin, length - size))
        return Span(start, start + size)

    def rounded(self, grain: int, length: int) -> Span:
        """Grown to a multiple of ``grain``, at most to 0..``length``."""
        size = min(length, -(-len(self) // grain) * grain)
        start = max(0, min(self.start, length - size))
        return Span(start, start + size)

    def overlaps(self, other: Span) -> bool:
        """Whether the two share a cell."""
        return self.start < other.stop and other.start < self.stop

    def union(self, other: Span) -> Span:
        """The least span that contains both."""
        return Span(min(self.start, other.start), max(self.stop, other.stop))


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels of one picture of a batch."""

    picture: int
    rows: Span
    columns: Span

    @property
    def area(self) -> int:
        """In pixels."""
        return len(self.rows) * len(self.columns)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return len(self.rows), len(self.columns)

    def rounded(self, grain: int, size: tuple[int, int]) -> Window:
        """Grown to multiples of ``grain`` within a picture of ``size`` (H, W)."""
        return Window(self.picture, self.rows.rounded(grain, size[0]), self.columns.rounded(grain, size[1]))

    def overlaps(self, other: Window) -> bool:
        """Whether the two share a pixel."""
        return (self.picture == other.picture and self.rows.overlaps(other.rows)
                and self.columns.overlaps(other.columns))

    def union(self, other: Window) -> Window:
        """The least window that contains both."""
        return Window(self.picture, self.rows.union(other.rows), self.columns.union(other.columns))

    def area_around(self, reach: int) -> int:
        """Pixels of the window with ``reach`` more on each side."""
        return (len(self.rows) + 2 * reach) * (len(self.columns) + 2 * reach)


def text_windows(lines: TextLines, size: tuple[int, int], grain: int = 8, reach: int = 8) -> list[Window]:
    """The pixels that ``crop_lines`` looks at, in windows that share none.

    Args:
        lines: readable lines. ``size``: (H, W) of the pictures.
        grain: heights and widths are multiples of it, so that windows of one shape can be computed together.
        reach: pixels on each side that a window costs besides its own; where one window for two lines is not
            larger than two windows with their surroundings, it takes their place.
    """
    found: list[Window] = []
    for picture, quad in zip(lines.image_index.tolist(), lines.quads, strict=True):
        top, bottom, left, right = footprint(quad, size)
        window = Window(picture, Span(top, bottom), Span(left, right)).rounded(grain, size)
        while (other := next((w for w in found if _belong_together(w, window, reach)), None)) is not None:
            found.remove(other)
            window = window.union(other).rounded(grain, size)
        found.append(window)
    return sorted(found, key=lambda window: window.picture)


def _belong_together(a: Window, b: Window, reach: int) -> bool:
    if a.picture != b.picture:
        return False
    return a.overlaps(b) or a.union(b).area_around(reach) <= a.area_around(reach) + b.area_around(reach)


def background_tiles(windows: Sequence[Window], size: tuple[int, int], tile: int, share: float) -> list[Window]:
    """Squares of ``tile`` pixels outside of the windows, spread evenly over each of their pictures.

    Args:
        share: of the background of a picture, above 0; there is at least one tile where one fits.  1 is one tile, the
            whole picture.
    """
    height, width = size
    found: list[Window] = []
    for picture in sorted({window.picture for window in windows}):
        if share == 1:
            found.append(Window(picture, Span(0, height), Span(0, width)))
            continue
        own = [window for window in windows if window.picture == picture]
        free = [Window(picture, Span(row * tile, (row + 1) * tile), Span(column * tile, (column + 1) * tile))
                for row, column in _spread(height // tile, width // tile)]
        free = [window for window in free if not any(window.overlaps(other) for other in own)]
        background = height * width - sum(window.area for window in own)
        found += free[:max(1, round(share * background / tile**2))]
    return found


def _spread(rows: int, columns: int) -> list[tuple[int, int]]:
    """Cells of a grid in an order whose every beginning is spread over it."""
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    return sorted(cells, key=lambda cell: (cell[0] * SPREAD[0] + cell[1] * SPREAD[1]) % 1)


def statistics_shares(windows: Sequence[Window], tiles: Sequence[Window], size: tuple[int, int]) -> torch.Tensor:
    """(P,) share of each window, then of each tile, in a mean over its picture; those of a picture add up to 1.

    Tiles count for all of the background.  A tile that is the whole picture counts alone, and a picture without tiles
    has only its windows.
    """
    total = size[0] * size[1]
    inside, outside = ({window.picture: sum(w.area for w in kind if w.picture == window.picture) for window in windows}
                       for kind in (windows, tiles))
    shares = []
    for window in windows:
        text, sampled = inside[window.picture], outside[window.picture]
        shares.append(0.0 if sampled == total else window.area / (total if sampled else text))
    for tile in tiles:
        text, sampled = inside[tile.picture], outside[tile.picture]
        shares.append(1.0 if sampled == total else tile.area / sampled * (1 - text / total))
    return torch.tensor(shares)
