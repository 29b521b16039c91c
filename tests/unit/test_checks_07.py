"""The checks of notebook 07: the solutions pass, untouched and typically wrong answers get their hint."""

import pytest
import torch

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb07 import check_07_gate, check_07_quantile_step


def quantile_step(weights, share):
    reached = weights.cumsum(0) / weights.sum() >= share
    return int(reached.nonzero()[0])


def amplification_gate(limit):
    return lambda a: (((1 - a) / a).sqrt() <= limit).to(a)


def test_solutions_pass(capsys):
    check_07_quantile_step(quantile_step)
    check_07_gate(amplification_gate)
    assert capsys.readouterr().out.count("✓") == 2


@pytest.mark.parametrize("check", [check_07_quantile_step, check_07_gate])
@pytest.mark.parametrize("empty", [None, ...])
def test_untouched_exercises_are_told_so(check, empty):
    with pytest.raises(NotYet, match="still missing"):
        check(lambda *arguments: empty)


def test_an_empty_weighting_is_told_so():
    with pytest.raises(NotYet, match="what your weighting returns is still missing"):
        check_07_gate(lambda limit: lambda a: None)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda w, share: quantile_step(w, share) + 1, "itself counts"),
    (lambda w, share: quantile_step(w, share) - 1, "not yet reached"),
    (lambda w, share: int(share * len(w)), "share of the \\*steps\\*"),
    (lambda w, share: int((w <= share * w.max()).nonzero()[0]), "running sum|share of the"),
    (lambda w, share: int((w.cumsum(0) >= share).nonzero()[0]), "sum of all weights"),
    (lambda w, share: (w.cumsum(0) / w.sum() >= share).nonzero()[0], "as an int"),
    (lambda w, share: 77, "running sum, divided"),
])
def test_wrong_steps_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_07_quantile_step(answer)


def factor(a):
    return ((1 - a) / a).sqrt()


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda limit: lambda a: (factor(a) > limit).to(a), "wrong way round"),
    (lambda limit: lambda a: (factor(a) ** 2 <= limit).to(a), "square root"),
    (lambda limit: lambda a: (1 / factor(a) <= limit).to(a), "upside down"),
    (lambda limit: lambda a: (a >= limit).to(a), "not to abar itself"),
    (lambda limit: factor, "1 or 0"),
    (lambda limit: lambda a: factor(a) <= limit, "True and False"),
    (lambda limit: torch.ones(99), "Return a function"),
    (lambda limit: lambda a: 1.0, "shape of abar"),
    (lambda limit: lambda a: (a > 0.3).to(a), "wrong noise levels"),
    (lambda limit: lambda a: (factor(a) <= limit).float(), "Keep the type"),
])
def test_wrong_gates_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_07_gate(answer)
