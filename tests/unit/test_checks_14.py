"""The checks of notebook 14: the solutions pass, untouched and typically wrong answers get their hint."""

import pytest
import torch
import torch.nn.functional as F

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb14 import check_14_entropy_of_b, check_14_mined_entropy, check_14_unclip_distance


def entropy_of_b(p, t, y, k=50.0):
    return F.binary_cross_entropy_with_logits(k * (p - t), y, reduction="none")


def mined_entropy(p, y, mask, ratio=3.0):
    loss = F.binary_cross_entropy(p, y, reduction="none")
    positives, negatives = loss[(y * mask) > 0], loss[((1 - y) * mask) > 0]
    hardest = negatives.topk(min(len(negatives), int(ratio * len(positives)))).values
    return torch.cat([positives, hardest]).mean()


def unclip_distance(width, height, r=0.4):
    s, area, perimeter = 1 - r**2, width * height, 2 * (width + height)
    a, b, c = 8 - 4 * s, (1 - s) * perimeter, -s * area
    return (-b + (b**2 - 4 * a * c) ** 0.5) / (2 * a)


def test_solutions_pass(capsys):
    check_14_entropy_of_b(entropy_of_b)
    check_14_mined_entropy(mined_entropy)
    check_14_unclip_distance(unclip_distance)
    assert capsys.readouterr().out.count("✓") == 3


@pytest.mark.parametrize("check", [check_14_entropy_of_b, check_14_mined_entropy, check_14_unclip_distance])
@pytest.mark.parametrize("empty", [None, ...])
def test_untouched_exercises_are_told_so(check, empty):
    with pytest.raises(NotYet, match="still missing"):
        check(lambda *arguments: empty)


def from_b(p, t, y, k):
    return F.binary_cross_entropy(torch.sigmoid(k * (p - t)), y, reduction="none")


def written_out(p, t, y, k):
    b = 1 / (1 + torch.exp(-k * (p - t)))
    return -(y * b.log() + (1 - y) * (1 - b).log())


@pytest.mark.parametrize(("answer", "hint"), [
    (from_b, "B has been rounded"),
    (written_out, "something overflows"),
    (lambda p, t, y, k: entropy_of_b(p, t, y, k).mean(), "every pixel"),
    (lambda p, t, y, k: entropy_of_b(t, p, y, k), "signs are swapped"),
    (lambda p, t, y, k: entropy_of_b(p, 0 * t, y, k), "T is missing"),
    (lambda p, t, y, k: entropy_of_b(p, t, y, 1.0), "k is missing"),
    (lambda p, t, y, k: entropy_of_b(p, t, y, 50.0), "the k that is given"),
    (lambda p, t, y, k: entropy_of_b(p, t, 1 - y, k), "signs are swapped|not the values"),
    (lambda p, t, y, k: (p - y).abs(), "not the values"),
    (lambda p, t, y, k: entropy_of_b(p.detach(), t, y, k), "No gradient"),
])
def test_wrong_entropies_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_14_entropy_of_b(answer)


def parts(p, y, mask):
    loss = F.binary_cross_entropy(p, y, reduction="none")
    return loss, loss[(y * mask) > 0], loss[((1 - y) * mask) > 0]


def kept(p, y, mask, ratio, largest=True):
    _, positives, negatives = parts(p, y, mask)
    return positives, negatives.topk(min(len(negatives), int(ratio * len(positives))), largest=largest).values


def without_limit(p, y, mask, ratio):
    _, positives, negatives = parts(p, y, mask)
    return torch.cat([positives, negatives.topk(int(ratio * len(positives))).values]).mean()


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda p, y, m, r: torch.cat(parts(p, y, m)[1:]).mean(), "nothing is mined"),
    (lambda p, y, m, r: torch.cat(kept(p, y, m, r, largest=False)).mean(), "the easiest"),
    (lambda p, y, m, r: mined_entropy(p, y, torch.ones_like(m), r), "Masked pixels"),
    (lambda p, y, m, r: torch.cat(kept(p, y, m, r)).sum() / p.numel(), "not by all"),
    (lambda p, y, m, r: torch.cat(kept(p, y, m, r)).sum() / m.sum(), "not by all of the mask"),
    (lambda p, y, m, r: torch.cat(kept(p, y, m, r)).sum() / (y * m).sum(), "kept negatives"),
    (lambda p, y, m, r: sum(part.mean() for part in kept(p, y, m, r)), "sum of two means"),
    (lambda p, y, m, r: kept(p, y, m, r)[1].mean(), "positives are missing"),
    (without_limit, "at most as many as there are"),
    (lambda p, y, m, r: parts(p, y, m)[0], "one number"),
    (lambda p, y, m, r: mined_entropy(p.detach(), y, m, r), "No gradient"),
    (lambda p, y, m, r: mined_entropy(p, y, m, 3.0), "in place\\s+of"),
    (lambda p, y, m, r: p.sum() * 0 + 1, "in place\\s+of"),
])
def test_wrong_minings_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_14_mined_entropy(answer)


def test_another_error_is_passed_on():
    def broken(p, y, mask, ratio):
        raise RuntimeError("shapes do not agree")

    with pytest.raises(RuntimeError, match="do not agree"):
        check_14_mined_entropy(broken)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda w, h, r: 1.5 * w * h / (2 * (w + h)), "rule of thumb"),
    (lambda w, h, r: (1 - r**2) * w * h / (2 * (w + h)), "You shrink the \\*kernel\\*"),
    (lambda w, h, r: -(1 - r**2) * w * h / ((8 - 4 * (1 - r**2)) * unclip_distance(w, h, r)), "negative one"),
    (lambda w, h, r: unclip_distance(w, h), "not 0.4"),
    (lambda w, h, r: 2 * unclip_distance(w, h, r), "must be equal"),
    (lambda w, h, r: [unclip_distance(w, h, r)], "one number"),
])
def test_wrong_distances_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_14_unclip_distance(answer)
