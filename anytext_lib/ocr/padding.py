"""Spares the recogniser the padding of its crops: the same features, in less time.

A line is rarely as wide as its crop; the rest is constant.  The first stages of the network are convolutions of
small reach, so beyond that reach of the text their output is what a blank crop gives, column by column, and it is
computed once.  What is left of the lines is laid side by side on a ribbon and goes through the stages together.

Between two lines lies a seam of a few columns, which is written anew before each convolution that looks sideways.
Its left half is what the blank crop has there, so that the line on the left finds the rest of its padding; its right
half is zero, as is the border of a crop, where the line on the right begins.  No line feels its neighbour or its cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

REACH = 16  # columns of the maps on either side: 6 blocks of 3 x 3 reach 6, 5 blocks of 5 x 5 reach 10
STEP = 2  # pixels of the crop for each column: the stride of the stem
SIDE = 2  # columns that one convolution sees on either side: half a seam
TOGETHER = 8  # lines on one ribbon: fewer keep no processor busy, more leave its cache


def maps_of_padded(stages: Sequence[Callable], crops: torch.Tensor, widths: Sequence[int],
                   blanks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Output of the local stages for crops whose columns from ``widths`` on are padding.

    Args:
        stages: the first takes (1, 3, 48, w) to (1, C, h, w/2); the others keep the width and take ``seams``, columns
            (S,) and values (1, C, h, S), to be written into their input first.  They reach ``REACH`` columns in all.
        crops: (L, 3, 48, W), zero from column ``widths[i]`` on.
        widths: L pixels.
        blanks: output (1, C, h, W/2) of each stage for a crop of zeros.

    Returns:
        The maps (L, C, h, W/2).
    """
    full = crops.shape[3] // STEP
    lines = [crop[..., : needed_columns(width, full) * STEP]
             for crop, width in zip(crops.split(1), widths, strict=True)]
    count = -(-len(lines) // TOGETHER)
    cuts = [len(lines) * k // count for k in range(count + 1)]
    found = [maps for start, stop in zip(cuts, cuts[1:], strict=False)
             for maps in _along_ribbon(stages, lines[start:stop], blanks)]
    return torch.cat([torch.cat([maps, blanks[-1][..., maps.shape[3] :]], dim=3) for maps in found])


def _along_ribbon(stages: Sequence[Callable], lines: Sequence[torch.Tensor],
                  blanks: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Maps (1, C, h, n) of each line (1, 3, 48, STEP n)."""
    gap = lines[0].new_zeros(1, *lines[0].shape[1:3], 2 * SIDE * STEP)
    needed = [line.shape[3] // STEP for line in lines]
    full = blanks[0].shape[3]
    columns, is_blank = seams(needed, full, gap.device)
    flat = min(REACH, full - 1)  # a column that feels no border, if any line is cut
    ribbon = stages[0](torch.cat([piece for line in lines for piece in (line, gap)], dim=3))
    for stage, blank in zip(stages[1:], blanks, strict=False):
        ribbon = stage(ribbon, (columns, blank[..., flat : flat + 1] * is_blank.to(blank)))
    return ribbon.split([size for n in needed for size in (n, 2 * SIDE)], dim=3)[::2]


def seams(needed: Sequence[int], full: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns (S,) of the seams that follow each line, and (S,) whether they are blank (True) or zero."""
    ends = torch.tensor(needed).cumsum(0) + 2 * SIDE * torch.arange(len(needed))
    offsets = torch.arange(2 * SIDE)
    is_blank = (torch.tensor(needed)[:, None] < full) & (offsets < SIDE)
    return (ends[:, None] + offsets).flatten().to(device), is_blank.flatten().to(device)


def needed_columns(width: int, full: int) -> int:
    """Columns of the maps that a text of ``width`` pixels can change; all ``full`` if they touch the right border's."""
    columns = -(-width // STEP) + 1 + REACH
    return columns if columns + REACH <= full else full
