"""The checks of notebook 03 pass the solutions and give the right hint for typical mistakes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb03 import check_03_covering_mask, check_03_read_item, check_03_renormalised_loss


def unsolved(*_):
    return ...


def renormalised(p, y, mask):
    visible = (1 - mask).expand_as(p)
    return (visible * (p - y) ** 2).sum(dim=(1, 2, 3)) / visible.sum(dim=(1, 2, 3)).clamp(min=1)


def of_the_batch(p, y, mask):
    visible = (1 - mask).expand_as(p)
    return (visible * (p - y) ** 2).sum(dim=(1, 2, 3)) / visible.sum()


def channels_forgotten(p, y, mask):
    return ((1 - mask) * (p - y) ** 2).sum(dim=(1, 2, 3)) / (1 - mask).sum(dim=(1, 2, 3)).clamp(min=1)


def covering(mask, cell, margin):
    return F.max_pool2d(F.max_pool2d(mask, cell), 2 * margin + 1, stride=1, padding=margin)


def cross(mask, cell, margin):
    cells = F.max_pool2d(mask, cell)
    wide = 2 * margin + 1
    return torch.maximum(F.max_pool2d(cells, (1, wide), 1, (0, margin)), F.max_pool2d(cells, (wide, 1), 1, (margin, 0)))


def safe(item, draw, max_lines):
    order = draw.permutation(len(item["polygons"]))
    return order[:max_lines], item["invalid"] + [item["polygons"][i] for i in order[max_lines:]]


def growing(item, draw, max_lines):
    order = draw.permutation(len(item["polygons"]))
    invalid = item["invalid"]
    invalid += [item["polygons"][i] for i in order[max_lines:]]
    return order[:max_lines], invalid


def shared_when_all_fit(item, draw, max_lines):
    return safe(item, draw, max_lines) if len(item["polygons"]) > max_lines else (range(3), item["invalid"])


def forgetful(item, draw, max_lines):
    used, invalid = safe(item, draw, max_lines)
    return used, invalid[len(item["invalid"]):]


def test_solutions_pass(capsys):
    check_03_renormalised_loss(renormalised)
    check_03_covering_mask(covering)
    check_03_read_item(safe)
    assert capsys.readouterr().out.count("✓") == 3


@pytest.mark.parametrize("check", [check_03_renormalised_loss, check_03_covering_mask, check_03_read_item])
def test_unsolved_copies_are_told_so(check):
    with pytest.raises(NotYet, match="still missing: replace `...`"):
        check(unsolved)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda p, y, m: renormalised(p, y, m).mean(), "one value for each sample"),
    (lambda p, y, m: (renormalised(p, y, m) / (m.mean(dim=(1, 2, 3)) < 1)), "gives NaN"),
    (lambda p, y, m: ((1 - m) * (p - y) ** 2).mean(dim=(1, 2, 3)), "mean over all elements"),
    (channels_forgotten, "by the number of channels"),
    (of_the_batch, "of the whole batch"),
    (lambda p, y, m: renormalised(p, y, 1 - m), "loss of the masked elements"),
    (lambda p, y, m: (p - y).square().mean(dim=(1, 2, 3)), "does not look at the mask"),
    (lambda p, y, m: 2 * renormalised(p, y, m), "it should be"),
])
def test_mistakes_in_the_renormalised_loss(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_03_renormalised_loss(answer)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda m, c, k: m, "it should be"),
    (lambda m, c, k: F.avg_pool2d(m, c), "between 0 and 1"),
    (lambda m, c, k: F.interpolate(m, scale_factor=1 / c), "nearest interpolation"),
    (lambda m, c, k: F.max_pool2d(m, c), "margin is missing"),
    (lambda m, c, k: -F.max_pool2d(-m, c), "left unprotected"),
    (cross, "Diagonal neighbours"),
    (lambda m, c, k: covering(m, c, k + 1), "cells too many"),
])
def test_mistakes_in_the_covering_mask(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_03_covering_mask(answer)


@pytest.mark.parametrize(("answer", "hint"), [
    (growing, "own list of invalid polygons has grown"),
    (forgetful, "own invalid polygons are missing"),
    (shared_when_all_fit, "return the cached list itself"),
    (lambda item, draw, n: safe(item, draw, n)[1], "Return two things"),
    (lambda item, draw, n: (range(n), safe(item, draw, n)[1]), "draw.permutation"),
    (lambda item, draw, n: (safe(item, draw, n)[0], item["invalid"] + item["polygons"]), "yours has 8"),
])
def test_mistakes_in_reading_an_item(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_03_read_item(answer)
