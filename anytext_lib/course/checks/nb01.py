"""Checks of notebook 01: polygons that follow their picture, and what an editing model is shown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from anytext_lib.course.checks import expect, expect_tensor, passed, result_of

_POLYGON = np.array([[10.0, 20.0], [390.0, 24.0], [388.0, 80.0], [12.5, 75.0], [-0.5, 40.0]])


def _scaled(polygon: np.ndarray, x: float, y: float, shift: float = 0.5) -> np.ndarray:
    return (polygon + shift) * (x, y) - shift


def check_01_scaled_polygon(function: Callable) -> None:
    """Exercise 1: `function(polygon, old, new)`, sizes (height, width), gives the points in the resized picture."""
    polygon, old, new = _POLYGON.copy(), (300, 400), (512, 512)
    got = result_of("scaled_polygon", function, polygon, old, new)
    expect(np.array_equal(polygon, _POLYGON), "your function changes the polygon that it is given. It may come from a "
                                              "cache: make a new one.")
    expect(isinstance(got, np.ndarray), f"return an array of points, not a {type(got).__name__}.")
    expect(got.shape == polygon.shape, f"{len(polygon)} points (x, y) come in, {got.shape} comes out: a polygon may "
                                       "have more than four corners.")
    y, x = new[0] / old[0], new[1] / old[1]
    wrong = {
        "x and y are exchanged: points are (x, y), sizes are (height, width).": (y, x, 0.5),
        "x and y are exchanged (and the half pixel is missing): points are (x, y), sizes (height, width).": (y, x, 0),
        "the ratio is upside down: it is new / old.": (1 / x, 1 / y, 0.5),
        "one factor for both directions: a picture of 4 : 3 made square is stretched.": (x, x, 0.5),
        "one factor for both directions: scale x by the widths and y by the heights.": (y, y, 0.5),
        "nearly: pixel i covers i - 1/2 to i + 1/2, so add one half before scaling and take it off again.": (x, y, 0),
        "the half pixel has the wrong sign: add it first, subtract it after.": (x, y, -0.5),
    }
    for hint, arguments in wrong.items():
        expect(not np.allclose(got, _scaled(_POLYGON, *arguments), atol=1e-6), hint)
    right = _scaled(_POLYGON, x, y)
    expect(not np.allclose(got, np.rint(right), atol=1e-6), "do not round: a polygon has fractions of pixels.")
    expect(not np.allclose(got, right.clip(0, 511), atol=1e-6), "do not clip: a line may reach out of its picture.")
    expect(np.allclose(got, right, atol=1e-6),
           f"the point (10, 20) of a picture of 300 x 400 should go to ({right[0, 0]:.3f}, {right[0, 1]:.3f}) in one "
           f"of 512 x 512, yours goes to ({got[0, 0]:.3f}, {got[0, 1]:.3f}).")
    there = result_of("scaled_polygon", function, polygon, (768, 1024), (256, 320))
    expect(np.allclose(there, _scaled(_POLYGON, 320 / 1024, 256 / 768), atol=1e-6),
           "right for 512 x 512, wrong for (256, 320): use `new`, not a fixed number.")
    passed("polygons follow their picture, to the fraction of a pixel")


def check_01_editing_input(function: Callable) -> None:
    """Exercise 2: `function(image, positions)` is the image with the regions of all lines black."""
    image = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    positions = torch.zeros(2, 1, 6, 8)
    positions[0, 0, 1:4, 1:5], positions[1, 0, 2:5, 3:7] = 1, 1
    before = image.clone(), positions.clone()
    got = result_of("editing_input", function, image, positions)
    expect(torch.equal(image, before[0]) and torch.equal(positions, before[1]),
           "your function changes its arguments: the image is also the target of the loss. Make a new tensor.")
    expect_tensor(got, image.shape, "an image should come out.")
    inside, right = _regions(image, positions)
    for hint, wrong in _wrong_inputs(image, positions, inside).items():
        expect(not torch.allclose(got, wrong), hint)
    expect(torch.equal(got[:, ~inside], image[:, ~inside]), "outside the regions the image must stay as it is.")
    expect(torch.allclose(got, right), "inside the regions everything must be -1, in all three channels.")
    without_lines = ("a picture without lines (L = 0) raises an error: torch's amax and max want at least one mask. "
                     "Return the image in that case.")
    empty = result_of("editing_input", function, image, torch.zeros(0, 1, 6, 8), hints={"": without_lines})
    expect(torch.equal(empty, image), "a picture without lines (L = 0) should come out as it is.")
    passed("black is -1, regions may overlap, and no line is a case, too")


def _regions(image: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    inside = positions[:, 0].sum(dim=0) > 0
    return inside, torch.where(inside, -1.0, image)


def _wrong_inputs(image: torch.Tensor, positions: torch.Tensor, inside: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a typical wrong answer gives, by the hint for it."""
    total, union = positions.sum(dim=0), inside.float()
    return {
        "0 is grey in [-1, 1]: black is -1.": image * (1 - union),
        "0 is grey in [-1, 1], and where masks overlap their sum is 2: take the maximum over the lines.":
            image * (1 - total),
        "where masks overlap their sum is 2, and the image leaves [-1, 1]: take the maximum over the lines.":
            image * (1 - total) - total,
        "the image leaves [-1, 1]: clamp it at -1 after subtracting.": image - 10 * union,
        "the image leaves [-1, 1]: clamp it at -1 after subtracting, and take the maximum over the lines.":
            image - 10 * total,
        "the wrong way round: the regions of the lines are hidden, their surroundings are shown.":
            torch.where(inside, image, -1.0),
        "only the first line is hidden: take all of them.": torch.where(positions[0] > 0, -1.0, image),
        "all is black: that is generation mode.": torch.full_like(image, -1.0),
    }
