"""Spares the recogniser the padding of its crops: the same features, in less time.

A line is rarely as wide as its crop; the rest is constant.  The first stages of the network are convolutions of
small reach, so beyond that reach of the text their output is what a blank crop gives, column by column.  It is
computed once, and the stages themselves run on the text and its surroundings only.  The later stages see the whole
crop and always run on all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

REACH = 16  # columns of the maps on either side: 6 blocks of 3 x 3 reach 6, 5 blocks of 5 x 5 reach 10
STEP = 2  # pixels of the crop for each column: the stride of the stem
ROUND = 8  # pixels: needed widths are multiples of it
TOGETHER = 4  # crops computed together: fewer keep no processor busy, more waste width


def maps_of_padded(local: Callable[[torch.Tensor], torch.Tensor], crops: torch.Tensor, widths: Sequence[int],
                   blank: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Output of the local stages for crops whose columns from ``widths`` on are padding.

    Args:
        local: the stages, (L, 3, 48, W) -> (L, C, h, W/2), each column reaching ``REACH`` columns.
        crops: (L, 3, 48, W), zero from column ``widths[i]`` on.
        widths: L pixels.
        blank: (1, C, h, W/2), output for a crop of zeros.

    Returns:
        The maps (L, C, h, W/2) in another order of lines, and the (L,) positions that restore the order.
    """
    full = crops.shape[3]
    maps, order = [], []
    for width, rows in buckets([needed_width(width, full) for width in widths]):
        found = local(crops[rows, :, :, :width])
        if width < full:
            sure = width // STEP - REACH  # further right the cut at ``width`` is felt
            found = torch.cat([found[..., :sure], blank[..., sure:].expand(len(rows), -1, -1, -1)], dim=3)
        maps.append(found)
        order += rows
    return torch.cat(maps), torch.tensor(order, device=crops.device).argsort()


def buckets(needed: Sequence[int]) -> list[tuple[int, list[int]]]:
    """(width, rows) of the groups to compute together: neighbours in width, ``TOGETHER`` of them or one fewer."""
    order = sorted(range(len(needed)), key=lambda i: needed[i])
    count = -(-len(order) // TOGETHER)
    cuts = [len(order) - len(order) * (count - k) // count for k in range(count + 1)]
    groups = [order[start:stop] for start, stop in zip(cuts, cuts[1:], strict=False)]
    return [(needed[rows[-1]], rows) for rows in groups]


def needed_width(width: int, full: int) -> int:
    """Pixels to compute for a text of ``width``: its reach, and the reach of the cut again, in steps of ``ROUND``."""
    columns = -(-width // STEP) + 1 + 2 * REACH
    return min(full, -(-columns * STEP // ROUND) * ROUND)
