"""The checks of notebook 13: the solutions pass, untouched and typically wrong answers get their hint."""

import pytest
import torch
import torch.nn.functional as F

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb13 import check_13_choose_noise, check_13_refine_once, check_13_strict_sequence_loss


def choose_noise(noises, losses):
    return noises[losses.argmin(dim=0), torch.arange(noises.shape[1])]


def refine_once(x, focus, step_size, scale=1.0, reduce=torch.sum):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(reduce(focus(leaf)), leaf)
    return x - scale * step_size * gradient


def strict_sequence_loss(logits, ids):
    return torch.stack([F.cross_entropy(slots[: len(word) + 1], torch.tensor([*word, 0]))
                        for slots, word in zip(logits, ids, strict=True)])


CHECKS = [(check_13_choose_noise, choose_noise), (check_13_refine_once, refine_once),
          (check_13_strict_sequence_loss, strict_sequence_loss)]


def test_solutions_pass(capsys):
    for check, solution in CHECKS:
        check(solution)
    assert capsys.readouterr().out.count("✓") == len(CHECKS)


@pytest.mark.parametrize("check", [check for check, _ in CHECKS])
@pytest.mark.parametrize("empty", [None, ...])
def test_untouched_exercises_are_told_so(check, empty):
    with pytest.raises(NotYet, match="still missing"):
        check(lambda *arguments: empty)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda n, s: choose_noise(n, s.abs()), "nearest to 0"),
    (lambda n, s: n[s.mean(dim=1).argmin()], "whole batch"),
    (lambda n, s: n[s.min(dim=1).values.argmin()], "single best loss"),
    (lambda n, s: n[s.argmin(dim=0)], "one noise for each sample"),
    (lambda n, s: n[3], "not the noises"),
])
def test_wrong_choices_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_13_choose_noise(answer)


def with_graph(x, focus, step_size):
    with torch.enable_grad():
        leaf = x.requires_grad_(True)
        return leaf - step_size * torch.autograd.grad(focus(leaf).sum(), leaf)[0]


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda x, f, a: x, "Nothing was moved"),
    (lambda x, f, a: refine_once(x, f, a, scale=-1.0), r"move \*up\*"),
    (lambda x, f, a: refine_once(x, f, a, reduce=torch.mean), "divided by the number"),
    (lambda x, f, a: refine_once(x, f, 1.0), "step size is not used"),
    (lambda x, f, a: x + (refine_once(x, f, a) - x).sum(dim=0), "each has its own"),
    (with_graph, "hangs on the graph"),
    (lambda x, f, a: refine_once(x, f, a, scale=0.7), "not x - step_size"),
    (lambda x, f, a: f(x), "shape of x"),
])
def test_wrong_moves_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_13_refine_once(answer)


def slots(logits, ids, targets):
    return torch.stack([F.cross_entropy(row[: len(targets(word))], torch.tensor(targets(word)))
                        for row, word in zip(logits, ids, strict=True)])


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda z, ids: slots(z, ids, list), "upstream's loss"),
    (lambda z, ids: torch.stack([v * (len(w) + 1) for v, w in zip(strict_sequence_loss(z, ids), ids, strict=True)]),
     "sum over the slots"),
    (lambda z, ids: torch.stack([v * (len(w) + 1) / len(w) for v, w in zip(strict_sequence_loss(z, ids), ids,
                                                                           strict=True)]), "one slot too few"),
    (lambda z, ids: slots(z, ids, lambda word: [*word, *[0] * (7 - len(word))]), "behind the end"),
    (lambda z, ids: strict_sequence_loss(z, ids).clamp(max=1), "clamp"),
    (lambda z, ids: strict_sequence_loss(z, ids).mean(), "one loss for each word"),
    (lambda z, ids: strict_sequence_loss(z.detach(), ids), "No gradient"),
    (lambda z, ids: 2 * strict_sequence_loss(z, ids).square(), "in place of"),
])
def test_wrong_sequence_losses_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_13_strict_sequence_loss(answer)
