"""The checks of notebook 16: the solutions pass, untouched and typically wrong answers get their hint."""

import numpy as np
import pytest

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb16 import check_16_advantages, check_16_half_pull


def half_pull(weights, lengths):
    pull = (weights * lengths) ** 2
    return int(np.argmax(pull.cumsum() >= pull.sum() / 2))


def advantages(rewards):
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True, unbiased=False) + 1e-4)


def test_solutions_pass(capsys):
    check_16_half_pull(half_pull)
    check_16_advantages(advantages)
    assert capsys.readouterr().out.count("✓") == 2


@pytest.mark.parametrize("check", [check_16_half_pull, check_16_advantages])
@pytest.mark.parametrize("empty", [None, ...])
def test_untouched_exercises_are_told_so(check, empty):
    with pytest.raises(NotYet, match="still missing"):
        check(lambda *arguments: empty)


def half(pull):
    return int(np.argmax(pull.cumsum() >= pull.sum() / 2))


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda w, g: half(w * g), "Square the pull"),
    (lambda w, g: half(w**2), "lengths of the gradients are missing"),
    (lambda w, g: half(g**2), "weights are missing"),
    (lambda w, g: half_pull(w, g) + 1, "One too many"),
    (lambda w, g: int(np.argmax((w * g) ** 2)), "largest"),
    (lambda w, g: len(w) - 1 - half(((w * g) ** 2)[::-1]), "upwards"),
    (lambda w, g: float(half_pull(w, g)), "an int"),
    (lambda w, g: len(w) - 1, "the answer is"),
])
def test_wrong_halves_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_16_half_pull(answer)


def centred(r):
    return r - r.mean(dim=1, keepdim=True)


def spread(r):
    return r.std(dim=1, keepdim=True, unbiased=False)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda r: (r - r.mean()) / (r.std(unbiased=False) + 1e-4), "of the \\*scene\\*"),
    (lambda r: centred(r) / (r.std(unbiased=False) + 1e-4), "of the scene as well"),
    (centred, "Divide by the standard deviation"),
    (lambda r: r / (spread(r) + 1e-4), "mean is missing"),
    (lambda r: centred(r) / (r.std(dim=1, keepdim=True) + 1e-4), "unbiased=False"),
    (lambda r: (r - r.mean(0)) / (r.std(0, unbiased=False) + 1e-4), "Rows are scenes"),
    (lambda r: -advantages(r), "sign is swapped"),
    (lambda r: centred(r) / (spread(r) ** 2 + 1e-4), "not by the variance"),
    (lambda r: centred(r) / spread(r), "standard deviation of 0"),
    (lambda r: advantages(r).mean(), "for every picture"),
    (lambda r: 3 * advantages(r), "expected"),
])
def test_wrong_advantages_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_16_advantages(answer)
