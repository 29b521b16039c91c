"""The checks of notebook 06 accept the solution and answer typical mistakes with the right hint."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb06 import check_06_best_alignment, check_06_longest_prefix, check_06_per_character
from anytext_lib.losses import ctc_loss


def _viterbi(log_probs, target, forbid_skip_of_equals=True, ends=2, skip=True):
    z = torch.zeros(2 * len(target) + 1, dtype=torch.long)
    z[1::2] = torch.tensor(target, dtype=torch.long)
    may_skip = (z != 0) & ((z != z.roll(2)) | (not forbid_skip_of_equals)) & skip
    best = torch.where(torch.arange(len(z)) < 2, log_probs[0, z], -math.inf)
    for frame in log_probs[1:]:
        ways = [F.pad(best, (k, 0), value=-math.inf)[: len(z)] for k in range(3)]
        best = frame[z] + torch.stack([*ways[:2], ways[2].where(may_skip, -math.inf)]).amax(0)
    return best[-ends:].amax()


def _prefix(text, frames=40, cost=lambda text, i: 1 + (i > 0 and text[i] == text[i - 1])):
    used = itertools.accumulate(cost(text, i) for i in range(len(text)))
    return text[: sum(u <= frames for u in used)]


def test_solutions_pass(capsys):
    check_06_best_alignment(_viterbi)
    check_06_longest_prefix(_prefix)
    check_06_per_character(lambda value, length, frames=40: value * frames / length)
    assert capsys.readouterr().out.count("✓") == 3


@pytest.mark.parametrize("check", [check_06_best_alignment, check_06_longest_prefix, check_06_per_character])
@pytest.mark.parametrize("untouched", [lambda *args: None, lambda *args: ...])
def test_an_untouched_exercise_is_told_so(check, untouched):
    with pytest.raises(NotYet, match="still missing"):
        check(untouched)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda p, t: -_viterbi(p, t), "sign"),
    (lambda p, t: -len(p) * ctc_loss(p[None], [t])[0], "sum over all alignments"),
    (lambda p, t: p.amax(-1).sum(), "whatever it spells"),
    (lambda p, t: _viterbi(p, t, forbid_skip_of_equals=False), "two equal letters|stay, step, and skip"),
    (lambda p, t: _viterbi(p, t, ends=1), "better one"),
    (lambda p, t: _viterbi(p, t, skip=False), "better one"),
])
def test_hints_on_the_best_alignment(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_06_best_alignment(answer)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda text, frames=40: text[:frames], "equal neighbours need a blank"),
    (lambda text, frames=40: text[: frames // 2], "fits as well"),
    (lambda text, frames=40: _prefix(text, frames, lambda t, i: 1 + (t[i] in t[:i])), "directly"),
    (lambda text, frames=40: len(_prefix(text, frames)), "a str"),
    (lambda text, frames=40: text[::-1][:frames], "not a beginning"),
])
def test_hints_on_the_longest_prefix(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_06_longest_prefix(answer)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda v, n, f=40: v * n / f, "other way round"),
    (lambda v, n, f=40: v / n, "divided already"),
    (lambda v, n, f=40: v * f, "whole line"),
    (lambda v, n, f=40: v * 40 / n, "use the argument"),
    (lambda v, n, f=40: v + f / n, "expected"),
])
def test_hints_on_the_scale(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_06_per_character(answer)
