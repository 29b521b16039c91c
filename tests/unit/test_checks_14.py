"""The exercises of notebook 14: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import brentq

from anytext_lib.course.checks.nb14 import check_14_entropy_of_b, check_14_mined_entropy, check_14_unclip_distance
from tests.unit.exercise_tables import Exercise, exercise_tests


def entropy_of_b(p, t, y, k=50.0):
    return F.binary_cross_entropy_with_logits(k * (p - t), y, reduction="none")


def by_softplus(p, t, y, k):
    logit = k * (p - t)
    return y * F.softplus(-logit) + (1 - y) * F.softplus(logit)


def by_logsigmoid(p, t, y, k):
    gap = p - t
    return -(y * F.logsigmoid(k * gap) + (1 - y) * F.logsigmoid(-k * gap))


def in_double(p, t, y, k):
    logit = k * (p - t).double()
    return torch.logaddexp(logit, torch.zeros_like(logit)) - y * logit


def from_b(p, t, y, k):
    return F.binary_cross_entropy(torch.sigmoid(k * (p - t)), y, reduction="none")


def written_out(p, t, y, k):
    b = 1 / (1 + torch.exp(-k * (p - t)))
    return -(y * b.log() + (1 - y) * (1 - b).log())


ENTROPY = Exercise(check_14_entropy_of_b, [entropy_of_b, by_softplus, by_logsigmoid, in_double], [
    ("B has been rounded", from_b),
    ("something overflows", written_out),
    ("every pixel", lambda p, t, y, k: entropy_of_b(p, t, y, k).mean()),
    ("signs are swapped", lambda p, t, y, k: entropy_of_b(t, p, y, k)),
    ("T is missing", lambda p, t, y, k: entropy_of_b(p, 0 * t, y, k)),
    ("k is missing", lambda p, t, y, k: entropy_of_b(p, t, y, 1.0)),
    ("the k that is given", lambda p, t, y, k: entropy_of_b(p, t, y, 50.0)),
    ("signs are swapped|not the values", lambda p, t, y, k: entropy_of_b(p, t, 1 - y, k)),
    ("not the values", lambda p, t, y, k: (p - y).abs()),
    ("No gradient", lambda p, t, y, k: entropy_of_b(p.detach(), t, y, k)),
])


def parts(p, y, mask):
    loss = F.binary_cross_entropy(p, y, reduction="none")
    return loss, loss[(y * mask) > 0], loss[((1 - y) * mask) > 0]


def kept(p, y, mask, ratio, largest=True):
    _, positives, negatives = parts(p, y, mask)
    return positives, negatives.topk(min(len(negatives), int(ratio * len(positives))), largest=largest).values


def mined_entropy(p, y, mask, ratio=3.0):
    return torch.cat(kept(p, y, mask, ratio)).mean()


def by_sorting(p, y, mask, ratio):
    loss = -(y * p.log() + (1 - y) * (1 - p).log())
    positives = int((y * mask).sum())
    hardest = (loss * (1 - y) * mask).flatten().sort(descending=True).values[: int(ratio * positives)]
    count = positives + min(int(ratio * positives), int(((1 - y) * mask).sum()))
    return ((loss * y * mask).sum() + hardest.sum()) / count


def by_a_threshold(p, y, mask, ratio):
    loss, positives, negatives = parts(p, y, mask)
    count = min(int(ratio * len(positives)), len(negatives))
    least = np.sort(negatives.detach().numpy())[len(negatives) - count]
    return (positives.sum() + negatives[negatives >= least].sum()) / (len(positives) + count)


def without_limit(p, y, mask, ratio):
    _, positives, negatives = parts(p, y, mask)
    return torch.cat([positives, negatives.topk(int(ratio * len(positives))).values]).mean()


MINING = Exercise(check_14_mined_entropy, [mined_entropy, by_sorting, by_a_threshold], [
    ("nothing is mined", lambda p, y, m, r: torch.cat(parts(p, y, m)[1:]).mean()),
    ("the easiest", lambda p, y, m, r: torch.cat(kept(p, y, m, r, largest=False)).mean()),
    ("Masked pixels", lambda p, y, m, r: mined_entropy(p, y, torch.ones_like(m), r)),
    ("not by all", lambda p, y, m, r: torch.cat(kept(p, y, m, r)).sum() / p.numel()),
    ("not by all of the mask", lambda p, y, m, r: torch.cat(kept(p, y, m, r)).sum() / m.sum()),
    ("kept negatives", lambda p, y, m, r: torch.cat(kept(p, y, m, r)).sum() / (y * m).sum()),
    ("sum of two means", lambda p, y, m, r: sum(part.mean() for part in kept(p, y, m, r))),
    ("positives are missing", lambda p, y, m, r: kept(p, y, m, r)[1].mean()),
    ("at most as many as there are", without_limit),
    ("one number", lambda p, y, m, r: parts(p, y, m)[0]),
    ("No gradient", lambda p, y, m, r: mined_entropy(p.detach(), y, m, r)),
    ("in place\\s+of", lambda p, y, m, r: mined_entropy(p, y, m, 3.0)),
    ("in place\\s+of", lambda p, y, m, r: p.sum() * 0 + 1),
])


def unclip_distance(width, height, r=0.4):
    s, area, perimeter = 1 - r**2, width * height, 2 * (width + height)
    a, b, c = 8 - 4 * s, (1 - s) * perimeter, -s * area
    return (-b + (b**2 - 4 * a * c) ** 0.5) / (2 * a)


def by_roots(width, height, r):
    s = 1 - r**2
    return max(np.roots([8 - 4 * s, (1 - s) * 2 * (width + height), -s * width * height]))


def by_search(width, height, r):
    def gap(d):
        return (width + 2 * d) * (height + 2 * d) * (1 - r**2) / (2 * (width + height) + 8 * d) - d

    return brentq(gap, 0, 10 * (width + height), xtol=1e-12)


def by_iteration(width, height, r):
    d = torch.tensor(0.0, dtype=torch.float64)
    for _ in range(2000):
        d = (width + 2 * d) * (height + 2 * d) * (1 - r**2) / (2 * (width + height) + 8 * d)
    return d


UNCLIP = Exercise(check_14_unclip_distance, [unclip_distance, by_roots, by_search, by_iteration], [
    ("rule of thumb", lambda w, h, r: 1.5 * w * h / (2 * (w + h))),
    (r"You shrink the \*kernel\*", lambda w, h, r: (1 - r**2) * w * h / (2 * (w + h))),
    ("negative one", lambda w, h, r: -(1 - r**2) * w * h / ((8 - 4 * (1 - r**2)) * unclip_distance(w, h, r))),
    ("not 0.4", lambda w, h, r: unclip_distance(w, h)),
    ("must be equal", lambda w, h, r: 2 * unclip_distance(w, h, r)),
    ("one number", lambda w, h, r: [unclip_distance(w, h, r), 0]),
])
test_right, test_wrong, test_no_answer = exercise_tests(ENTROPY, MINING, UNCLIP)
