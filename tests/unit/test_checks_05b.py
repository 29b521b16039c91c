"""The exercises of notebook 05b: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import numpy as np
import torch

from anytext_lib.course.checks.nb05b import check_05b_alarm, check_05b_views
from tests.unit.exercise_tables import Exercise, exercise_tests


def refused(first, second, clean=str.strip):
    return np.array([clean(a) != clean(b) for a, b in zip(first, second, strict=True)])


def share(values):
    return float(np.mean(values)) if len(values) else 0.0


def by_masks(first, second, honest, clean=str.strip, flip=False):
    r, h = refused(first, second, clean) ^ flip, np.array(honest)
    return share(r[~h]), share(r[h])


def by_counting(first, second, honest):
    count = {True: [0, 0], False: [0, 0]}
    for a, b, h in zip(first, second, honest, strict=True):
        count[h][0] += a.strip() != b.strip()
        count[h][1] += 1
    return [refused / total if total else 0 for refused, total in (count[False], count[True])]


def unguarded(first, second, honest):
    r = refused(first, second).tolist()
    return (sum(x for x, h in zip(r, honest, strict=True) if not h) / honest.count(False),
            sum(x for x, h in zip(r, honest, strict=True) if h) / honest.count(True))


ALARM = Exercise(check_05b_alarm, [by_masks, by_counting, lambda a, b, h: tuple(by_masks(a, b, h))], [
    ("other way round", lambda a, b, h: by_masks(a, b, h)[::-1]),
    ("accepted", lambda a, b, h: by_masks(a, b, h, flip=True)),
    ("strip the blanks", lambda a, b, h: by_masks(a, b, h, clean=str)),
    ("capitals included", lambda a, b, h: by_masks(a, b, h, clean=lambda s: s.strip().lower())),
    ("divide each", lambda a, b, h: (int(refused(a, b)[~np.array(h)].sum()), int(refused(a, b)[np.array(h)].sum()))),
    ("of its own kind", lambda a, b, h: tuple(s * n / len(h) for s, n in zip(
        by_masks(a, b, h), (h.count(False), h.count(True)), strict=True))),
    ("divided by 0", unguarded),
    ("two numbers", lambda a, b, h: 0.5),
    ("is right, you return", lambda a, b, h: (0.1, 0.2)),
])


def of_mean(loss, x, views, value=lambda loss, x, views: sum(loss(view(x)) for view in views) / len(views)):
    x = x.detach().clone().requires_grad_()
    return torch.autograd.grad(value(loss, x, views), x)[0]


def mean_of_gradients(loss, x, views):
    return torch.stack([of_mean(loss, x, [view]) for view in views]).mean(dim=0)


def by_backward(loss, x, views):
    copy = x.detach().clone().requires_grad_()
    for view in views:
        (loss(view(copy)) / len(views)).backward()
    return copy.grad


def into_grad(loss, x, views):
    torch.stack([loss(view(x)) for view in views]).mean().backward()
    return x.grad.clone()


VIEWS = Exercise(check_05b_views, [of_mean, mean_of_gradients, by_backward], [
    ("sum over the views", lambda loss, x, views: len(views) * of_mean(loss, x, views)),
    ("first view only", lambda loss, x, views: of_mean(loss, x, views[:1])),
    ("last view only", lambda loss, x, views: of_mean(loss, x, views[-1:])),
    ("one blurred picture", lambda loss, x, views: of_mean(
        loss, x, views, lambda loss, x, views: loss(sum(view(x) for view in views) / len(views)))),
    ("without a minus", lambda loss, x, views: -of_mean(loss, x, views)),
    ("has changed", into_grad),
    ("one number", lambda loss, x, views: of_mean(
        loss, x, views, lambda loss, x, views: torch.stack([loss(view(x)) for view in views]))),
    ("requires a gradient", lambda loss, x, views: torch.autograd.grad(loss(x.detach()), x)[0]),
    ("values differ", lambda loss, x, views: 0.3 * x.detach()),
])
test_right, test_wrong, test_no_answer = exercise_tests(ALARM, VIEWS)
