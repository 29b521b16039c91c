"""The padding of crops, computed once: the recogniser's stages on what text can change.

A line is rarely as wide as its crop, and the rest is constant.  The first stages of the recogniser are convolutions of
small reach, so beyond that reach of the text their output is what a blank crop gives, column by column, and it is
computed once.  What is left of the lines is laid side by side on a ribbon and goes through the stages together.

Between two lines lies a seam of a few columns, which is written anew before each convolution that looks sideways.  Its
left half is what the blank crop has there, so that the line on the left finds the rest of its padding; its right half
is zero, as is the border of a crop, where the line on the right begins.  No line feels its neighbour or its cut.

The two stages after these squeeze and excite: they scale each channel by a number that depends on the whole crop, so
that padding is no longer the same in all crops.  But between the text and the right border its columns still equal each
other.  One of them stands for all: the crop goes through these stages without the others, a mean over the crop counts
the one as many times as there are columns, and so many frames are made of its frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

REACH = 16  # columns of the maps on either side: 6 blocks of 3 x 3 reach 6, 5 blocks of 5 x 5 reach 10
STEP = 2  # pixels of the crop for each column: the stride of the stem
SIDE = 2  # columns that one convolution sees on either side: half a seam
FRAME = 4  # columns for each frame: the strides of the last block and of the pooling
TOGETHER = 5  # lines on one ribbon, of like width: then most maps stay in a processor's cache


@dataclass(frozen=True)
class Shortened:
    """Maps of ``full`` columns without ``removed`` of them, which equal those of frame number ``kept``.

    Of a map that has 1/s of the columns, ``kept`` is column ``kept * FRAME / s``, and ``removed / s`` are left out
    behind that frame.
    """

    full: int
    kept: int
    removed: int

    @classmethod
    def of(cls, needed: int, full: int) -> Shortened:
        """As short as it can be where a text changes the first ``needed`` of ``full`` columns, before these stages.

        The first stage sees SIDE columns on either side; the second SIDE as well, but takes every other column.
        """
        first = -(-(needed + 2 * SIDE) // FRAME)  # frames from here see no text
        last = ((full - REACH - SIDE - 1 - SIDE // 2) // 2 * 2 - SIDE) // FRAME  # and up to here no border
        return cls(full, first, FRAME * max(0, last - first))

    def columns(self, device: torch.device) -> torch.Tensor:
        """Which columns (full - removed,) of a full map are left."""
        return self._without(self.full, FRAME * (self.kept + 1), self.removed).to(device, non_blocking=True)

    def frames(self, device: torch.device) -> torch.Tensor:
        """Which frame of the shortened map each of the (full / FRAME,) frames equals."""
        gone = self.removed // FRAME
        all_frames = torch.arange(self.full // FRAME)
        return torch.where(all_frames <= self.kept, all_frames, (all_frames - gone).clamp(min=self.kept)).to(
            device, non_blocking=True)

    def share(self, x: torch.Tensor) -> torch.Tensor:
        """(w,) share in the mean of a full map that an element of each column of a map (L, C, h, w) has."""
        if not self.removed:
            return x.new_full((x.shape[3],), 1 / (x.shape[2] * x.shape[3]))
        stride = (self.full - self.removed) // x.shape[3]
        weights = torch.ones(x.shape[3], dtype=x.dtype)
        weights[self.kept * FRAME // stride] += self.removed // stride
        return (weights * stride / (x.shape[2] * self.full)).to(x.device, non_blocking=True)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """(L, C, 1, 1) means of full maps, of the shortened ones (L, C, h, w)."""
        if not self.removed:
            return x.mean(dim=(2, 3), keepdim=True)
        return (x.sum(dim=2) @ self.share(x))[..., None, None]

    @staticmethod
    def _without(full: int, start: int, count: int) -> torch.Tensor:
        return torch.cat([torch.arange(start), torch.arange(start + count, full)]) if count else torch.arange(full)


WHOLE = Shortened(0, 0, 0)  # of maps of any width: nothing is left out


def frames_of_padded(local: Sequence[Callable], rest: Callable, crops: torch.Tensor, widths: Sequence[int],
                     blanks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Frames of crops whose columns from ``widths`` on are padding.

    Args:
        local: the first takes (1, 3, 48, w) to (1, C, h, w/2); the others keep the width and take ``seams``, columns
            (S,) and values (1, C, h, S), to be written into their input first.  They reach ``REACH`` columns in all.
        rest: takes maps (L, C, h, w) and how they are ``Shortened`` to frames (L, D, 1, w/FRAME).
        crops: (L, 3, 48, W), zero from column ``widths[i]`` on.
        widths: L pixels.
        blanks: output (1, C, h, W/2) of each local stage for a crop of zeros.

    Returns:
        The frames (L, D, 1, W/8).
    """
    full = crops.shape[3] // STEP
    order = sorted(range(len(widths)), key=widths.__getitem__)
    pieces = crops.split(1)
    found = []
    for start in range(0, len(order), TOGETHER):
        group = order[start : start + TOGETHER]
        needed = [needed_columns(widths[i], full) for i in group]
        short = Shortened.of(max(needed), full)
        ribbon = _ribbon(local, [pieces[i][..., : n * STEP] for i, n in zip(group, needed, strict=True)], blanks)
        blank = blanks[-1].index_select(3, short.columns(crops.device))
        frames = rest(CutRibbons.apply(blank, needed, ribbon), short)
        found.append(frames.index_select(3, short.frames(crops.device)))
    back = torch.tensor(order).argsort().to(crops.device, non_blocking=True)
    return torch.cat(found).index_select(0, back)


def _ribbon(stages: Sequence[Callable], lines: Sequence[torch.Tensor], blanks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Maps (1, C, h, n) of the lines (1, 3, 48, STEP n) side by side, each with its seam."""
    gap = lines[0].new_zeros(1, *lines[0].shape[1:3], 2 * SIDE * STEP)
    needed = [line.shape[3] // STEP for line in lines]
    full = blanks[0].shape[3]
    columns, is_blank = seams(needed, full, gap.device)
    flat = min(REACH, full - 1)  # a column that feels no border, if any line is cut
    ribbon = stages[0](torch.cat([piece for line in lines for piece in (line, gap)], dim=3))
    for stage, blank in zip(stages[1:], blanks, strict=False):
        ribbon = stage(ribbon, (columns, blank[..., flat : flat + 1] * is_blank.to(blank)))
    return ribbon


class CutRibbons(torch.autograd.Function):
    """The maps of the lines (L, C, h, W), cut out of ribbons (1, C, h, n) and completed with a blank crop's.

    One copy there and one back, in ``channels_last``; cutting and joining takes four, and loses the layout on the way.
    """

    @staticmethod
    def forward(blank, needed, *ribbons):
        size = (len(needed), *blank.shape[1:])
        maps = torch.empty(size, dtype=blank.dtype, device=blank.device, memory_format=torch.channels_last)
        for row, n, part in zip(maps, needed, _cuts(needed, ribbons), strict=True):
            row[..., :n] = part
            row[..., n:] = blank[0, ..., n:]
        return maps

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.needed, *ribbons = inputs
        ctx.sizes = [ribbon.shape for ribbon in ribbons]

    @staticmethod
    def backward(ctx, gradient):
        back = [gradient.new_zeros(size).to(memory_format=torch.channels_last) for size in ctx.sizes]
        for part, n, row in zip(_cuts(ctx.needed, back), ctx.needed, gradient, strict=True):
            part.copy_(row[..., :n])
        return None, None, *back


def _cuts(needed: Sequence[int], ribbons: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    """The columns (C, h, n) of each line, in views of the ribbons."""
    rest = iter(needed)
    for ribbon in ribbons:
        start = 0
        while start < ribbon.shape[3]:
            n = next(rest)
            yield ribbon[0, ..., start : start + n]
            start += n + 2 * SIDE


def seams(needed: Sequence[int], full: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns (S,) of the seams that follow each line, and (S,) whether they are blank (True) or zero."""
    ends = torch.tensor(needed).cumsum(0) + 2 * SIDE * torch.arange(len(needed))
    offsets = torch.arange(2 * SIDE)
    is_blank = (torch.tensor(needed)[:, None] < full) & (offsets < SIDE)
    return tuple(table.flatten().to(device, non_blocking=True) for table in (ends[:, None] + offsets, is_blank))


def needed_columns(width: int, full: int) -> int:
    """Columns of the maps that a text of ``width`` pixels can change; all ``full`` if they touch the right border's."""
    columns = -(-width // STEP) + 1 + REACH
    return columns if columns + REACH <= full else full
