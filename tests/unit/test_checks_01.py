"""The checks of notebook 01 accept solutions and give a fitting hint for typical wrong answers."""

import numpy as np
import pytest
import torch

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb01 import check_01_editing_input, check_01_scaled_polygon


def scaled(polygon, old, new, shift=0.5):
    scale = np.array([new[1] / old[1], new[0] / old[0]])
    return (np.asarray(polygon) + shift) * scale - shift


def editing(image, positions):
    inside = positions.sum(dim=0) > 0
    return torch.where(inside, torch.full_like(image, -1), image)


def in_place(polygon, old, new):
    polygon += 0.5
    polygon *= np.array(new[::-1]) / old[::-1]
    polygon -= 0.5
    return polygon


def paint(image, positions):
    image[:, positions[:, 0].sum(0) > 0] = -1
    return image


def test_solutions_pass(capsys):
    check_01_scaled_polygon(scaled)
    check_01_editing_input(editing)
    assert capsys.readouterr().out.count("✓") == 2


@pytest.mark.parametrize("check", [check_01_scaled_polygon, check_01_editing_input])
def test_an_unsolved_copy_is_told_so(check):
    with pytest.raises(NotYet, match="still missing"):
        check(lambda *arguments: ...)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (in_place, "cache"),
        (lambda p, o, n: scaled(p, o, n).tolist(), "not a list"),
        (lambda p, o, n: scaled(p, o, n)[:4], "more than four"),
        (lambda p, o, n: scaled(p, o[::-1], n[::-1]), "exchanged"),
        (lambda p, o, n: scaled(p, o[::-1], n[::-1], 0), "exchanged"),
        (lambda p, o, n: scaled(p, n, o), "upside down"),
        (lambda p, o, n: (p + 0.5) * n[1] / o[1] - 0.5, "one factor"),
        (lambda p, o, n: (p + 0.5) * n[0] / o[0] - 0.5, "one factor"),
        (lambda p, o, n: scaled(p, o, n, 0), "one half"),
        (lambda p, o, n: scaled(p, o, n, -0.5), "wrong sign"),
        (lambda p, o, n: scaled(p, o, n).round(), "round"),
        (lambda p, o, n: scaled(p, o, n).clip(0, 511), "clip"),
        (lambda p, o, n: scaled(p, o, n) + 3, r"should go to"),
        (lambda p, o, n: scaled(p, o, (512, 512)), "fixed number"),
    ],
)
def test_scaled_polygon_hints(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check_01_scaled_polygon(wrong)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (paint, "changes its arguments"),
        (lambda x, p: editing(x, p)[0], "should come out, not"),
        (lambda x, p: x * (1 - p.amax(0)), "grey"),
        (lambda x, p: x * (1 - p.sum(0)), "grey"),
        (lambda x, p: x * (1 - p.sum(0)) - p.sum(0), "sum is 2"),
        (lambda x, p: x - 10 * p.amax(0), "clamp"),
        (lambda x, p: x - 10 * p.sum(0), "clamp"),
        (lambda x, p: torch.where(p.sum(0) > 0, x, -1.0), "wrong way round"),
        (lambda x, p: editing(x, p[:1]), "first line"),
        (lambda x, p: -torch.ones_like(x), "generation mode"),
        (lambda x, p: editing(0.9 * x, p), "outside"),
        (lambda x, p: torch.where(p.sum(0) > 0, -0.9, x), "inside the regions"),
        (lambda x, p: torch.where(p.amax(0) > 0, -1.0, x), r"without lines \(L = 0\) raises"),
        (lambda x, p: editing(x, p) if len(p) else -torch.ones_like(x), "as it is"),
    ],
)
def test_editing_input_hints(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check_01_editing_input(wrong)
