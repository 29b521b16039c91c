"""Checks of the exercises of notebook 03."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from anytext_lib.course.checks import expect, expect_tensor, passed, result_of


def check_03_renormalised_loss(function: Callable) -> None:
    """`function(p, y, mask)` gives (B,); probed with samples of different masks, one of them masked all over."""
    generator = torch.Generator().manual_seed(30)
    p, y = torch.randn(2, 4, 3, 6, 8, generator=generator, dtype=torch.float64)
    mask = (torch.rand(4, 1, 6, 8, generator=generator, dtype=torch.float64) < 0.4).double()
    mask[1], mask[3] = 0, 1
    got = result_of("renormalised_loss", function, p, y, mask)
    expect_tensor(got, (4,), "Return one value for each sample, shape (B,): sum over dim=(1, 2, 3).")
    expect(not got.isnan().any(), "The sample that is masked all over gives NaN: 0/0. Keep the divisor from being 0 "
                                  "(clamp), so that the loss is 0.")
    error, visible = (1 - mask) * (p - y) ** 2, 1 - mask
    total, count = error.sum(dim=(1, 2, 3)), visible.sum(dim=(1, 2, 3))
    mistakes = {
        "This is the mean over all elements, which upstream takes: divide by the number of visible ones.":
            error.mean(dim=(1, 2, 3)),
        "Too large by the number of channels: the mask has one channel, p has C. Expand it before you count.":
            total / count.clamp(min=1),
        "You divide by the visible elements of the whole batch; each sample has its own number.":
            total / (3 * count.sum()),
        "This is the loss of the masked elements: the visible ones are 1 - mask.":
            (mask * (p - y) ** 2).sum(dim=(1, 2, 3)) / (3 * mask.sum(dim=(1, 2, 3))).clamp(min=1),
        "This does not look at the mask at all.": (p - y).square().mean(dim=(1, 2, 3)),
    }
    for hint, wrong in mistakes.items():
        expect(not torch.allclose(got, wrong), hint)
    right = total / (3 * count).clamp(min=1)
    worst = int((got - right).abs().argmax())
    expect(torch.allclose(got, right, rtol=0.05),
           f"For a sample with a mask you return {got[worst]:.4f}, it should be {right[worst]:.4f}: the sum of the "
           "visible squared errors over their number.")
    expect(torch.allclose(got, right, rtol=1e-4),
           f"Nearly: you return {got[worst]:.6f} in place of {right[worst]:.6f}. A small number added to the divisor "
           "shifts every sample; clamp(min=1) acts only where nothing is visible.")
    passed("the mean over what is visible, for each sample, and 0 where nothing is")


def check_03_covering_mask(function: Callable) -> None:
    """`function(mask, cell, margin)` gives (B, 1, H/cell, W/cell); probed with single pixels at awkward places."""
    mask = torch.zeros(2, 1, 32, 48)
    mask[0, 0, 15, 23] = 1  # the last pixel of a cell
    mask[1, 0, 9:14, 17:39] = 1  # holds no top left pixel of an 8 x 8 cell
    mask[1, 0, 16, 32] = 1  # and this is nothing but one
    mask[1, 0, 31, 0] = 1  # in a corner
    for cell, margin in ((8, 0), (8, 1), (4, 2)):
        got = result_of("covering_mask", function, mask.clone(), cell, margin)
        touched = F.max_pool2d(mask, cell)
        right = F.max_pool2d(touched, 2 * margin + 1, stride=1, padding=margin)
        case = f"cell = {cell}, margin = {margin}"
        expect(getattr(got, "shape", None) != mask.shape, f"{case}: this has the size of the pixels. One value for "
                                                          "each cell of cell x cell pixels is wanted.")
        expect_tensor(got, touched.shape, f"{case}: one value for each cell."
                      + (" To widen by the margin, pool with stride 1 and pad by the margin." if margin else ""))
        expect(((got == 0) | (got == 1)).all(), f"{case}: a cell is masked or not, there are values between 0 and 1. "
                                                "An average is no cover.")
        expect(not torch.equal(got, mask[:, :, ::cell, ::cell]) or torch.equal(got, right),
               f"{case}: this is nearest interpolation. It asks one pixel of each cell; ask for the maximum.")
        expect(not (margin and torch.equal(got, touched)), f"{case}: the margin is missing.")
        expect((got >= touched).all(), f"{case}: a cell with an invalid pixel is left unprotected.")
        expect((got >= right).all(), f"{case}: a cell within the margin is left out. Diagonal neighbours count: the "
                                     "window is 2 * margin + 1 wide.")
        expect(torch.equal(got, right), f"{case}: {int((got - right).sum())} cells too many are masked.")
    passed("no invalid pixel is left unprotected, and no more background is lost than the margin asks for")


def check_03_read_item(function: Callable) -> None:
    """`function(item, draw, max_lines)` gives (indices, polygons); probed by reading an item again and again."""
    polygons = [np.full((4, 2), float(k)) for k in range(7)]
    own = [np.full((4, 2), 100.0)]
    item = {"polygons": list(polygons), "invalid": list(own)}
    for turn in range(3):
        answer = result_of("read_item_safely", function, item, np.random.default_rng(turn), 5)
        expect(isinstance(answer, tuple) and len(answer) == 2, "Return two things: indices in use, and polygons.")
        used, invalid = answer
        expect(isinstance(invalid, list), f"The polygons come as a list, not a {type(invalid).__name__}.")
        order = np.random.default_rng(turn).permutation(7)
        expect(len(used) == 5 and list(used) == list(order[:5]),
               "The lines in use are the first max_lines of draw.permutation(number of polygons).")
        expect(len(item["invalid"]) <= 1, "The item has changed: its own list of invalid polygons has grown. `+=` and "
                                          "`.append` extend a list in place; `a + b` makes a new one.")
        expect(len(item["invalid"]) == 1 and len(item["polygons"]) == 7,
               "The item has changed: a list in it was emptied or shortened. It is read again in the next epoch, so "
               "leave it as it is.")
        values = [float(polygon[0, 0]) for polygon in invalid]
        expect(100.0 in values, "The item's own invalid polygons are missing.")
        expect(len(values) == 3, f"The first reading has {1 + 2} invalid polygons here, yours has {len(values)}: the "
                                 "item's own one, and the two that are not in use.")
        expect(values == [100.0, *map(float, order[5:])], "The unused polygons are those after the first max_lines, in "
                                                          "that order, behind the item's own.")
        invalid.append(None)
        expect(len(item["invalid"]) == 1, "The returned list is the list in the cache itself: whoever extends it "
                                          "changes the item. Return a new list.")
    whole = {"polygons": polygons[:3], "invalid": list(own)}
    result_of("read_item_safely", function, whole, np.random.default_rng(0), 5)[1].append(None)
    expect(len(whole["invalid"]) == 1, "With all lines in use you return the cached list itself: return a new one.")
    passed("the item is the same after three readings as before")
