"""The checks of notebook 05 accept solutions and give a fitting hint for typical wrong answers."""

import pytest
import torch

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb05 import check_05_careless, check_05_sliding


def careful(features, reference):
    return (features - reference.detach()).square().mean(dim=(1, 2))


def sliding(features, reference, reach=1, slides=None, rolled=False, over_batch=False, detach=True):
    losses, n = [], features.shape[1]
    reference = reference.detach() if detach else reference
    for k in slides or range(-reach, reach + 1):
        a, b = features[:, max(k, 0) : n + min(k, 0)], reference[:, max(-k, 0) : n - max(k, 0)]
        if rolled:
            a, b = features.roll(-k, 1), reference
        losses.append((a - b).square().mean(dim=(1, 2)))
    stacked = torch.stack(losses)
    return stacked[stacked.mean(dim=1).argmin()] if over_batch else stacked.amin(dim=0)


def test_solutions_pass(capsys):
    check_05_careless(careful)
    check_05_sliding(sliding)
    assert capsys.readouterr().out.count("✓") == 2


@pytest.mark.parametrize("check", [check_05_careless, check_05_sliding])
def test_an_unsolved_copy_is_told_so(check):
    with pytest.raises(NotYet, match="still missing"):
        check(lambda *arguments: ...)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda f, r: ((f - r) ** 2).sum(-1).mean().sqrt(), "single number"),
        (lambda f, r: (f - r.detach()).square().mean(dim=2), "shape"),
        (lambda f, r: careful(f, r).sqrt(), "square root"),
        (lambda f, r: (f - r.detach()).square().sum(-1).mean(1), "64 numbers"),
        (lambda f, r: (f - r.detach()).square().sum((1, 2)), "frames and numbers"),
        (lambda f, r: (f - r.detach()).abs().mean((1, 2)), "absolute"),
        (lambda f, r: 2 * careful(f, r), "values differ"),
        (lambda f, r: (f - r).square().mean((1, 2)), "constant"),
        (lambda f, r: (f.detach() - r.detach()).square().mean((1, 2)) + 0 * f.sum(), "no gradient reaches"),
    ],
)
def test_careless_hints(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check_05_careless(wrong)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda f, r, k=1: sliding(f, r, k).mean(), "single number"),
        (lambda f, r, k=1: sliding(f, r, slides=[-1, 1]), "k = 0"),
        (lambda f, r, k=1: sliding(f, r, k, rolled=True), "torch.roll"),
        (lambda f, r, k=1: sliding(f, r, slides=[0, 1]), "to the left"),
        (lambda f, r, k=1: sliding(f, r, k, over_batch=True), "line by line"),
        (lambda f, r, k=1: sliding(f, r, 3), "reach=1"),
        (lambda f, r, k=1: sliding(f, r, 1), "reach=2"),
        (lambda f, r, k=1: sliding(f, r, k, detach=False), "constant"),
    ],
)
def test_sliding_hints(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check_05_sliding(wrong)
