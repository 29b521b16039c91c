"""The exercises of notebook 07: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import bisect

import numpy as np
import torch

from anytext_lib.course.checks.nb07 import check_07_gate, check_07_quantile_step
from anytext_lib.losses import hard_gate, snr
from tests.unit.exercise_tables import Exercise, exercise_tests


def quantile_step(weights, share):
    reached = weights.cumsum(0) / weights.sum() >= share
    return int(reached.nonzero()[0])


def quantile_by_counting(weights, share):
    return int((weights.cumsum(0) < share * weights.sum()).sum())


def quantile_by_loop(weights, share):
    held = 0.0
    for t, weight in enumerate(weights.tolist()):
        held += weight
        if held >= share * float(weights.sum()):
            return t


def quantile_by_bisection(weights, share):
    return bisect.bisect_left(np.cumsum(weights.numpy()) / weights.numpy().sum(), share)


def factor(a):
    return ((1 - a) / a).sqrt()


test_right, test_wrong, test_no_answer = exercise_tests(
    Exercise(check_07_quantile_step, [quantile_step, quantile_by_counting, quantile_by_loop, quantile_by_bisection], [
        ("itself counts", lambda w, share: quantile_step(w, share) + 1),
        ("not yet reached", lambda w, share: quantile_step(w, share) - 1),
        (r"share of the \*steps\*", lambda w, share: int(share * len(w))),
        ("running sum|share of the", lambda w, share: int((w <= share * w.max()).nonzero()[0])),
        ("sum of all weights", lambda w, share: int((w.cumsum(0) >= share).nonzero()[0])),
        ("as an int", lambda w, share: (w.cumsum(0) / w.sum() >= share).nonzero()[0]),
        ("as an int, not a float", lambda w, share: float(quantile_step(w, share))),
        ("running sum, divided", lambda w, share: 77),
        (r"At \*least\* the share", lambda w, share: int((w.cumsum(0) / w.sum() > share).nonzero()[0])),
        ("quantile_step raises TypeError", lambda w, share: w.cumsum() / w.sum()),
    ]),
    Exercise(check_07_gate, [
        lambda limit: lambda a: (factor(a) <= limit).to(a),
        lambda limit: hard_gate(1 / (1 + limit**2)),
        lambda limit: lambda a: (a >= 1 / (1 + limit**2)).float(),
        lambda limit: lambda a: (1 - a <= limit**2 * a) * 1.0,
        lambda limit: lambda a: torch.where(snr(a) >= 1 / limit**2, 1.0, 0.0),
        lambda limit: lambda a: torch.tensor([float((1 / x - 1) ** 0.5 <= limit) for x in a.tolist()]),
    ], [
        ("wrong way round", lambda limit: lambda a: (factor(a) > limit).to(a)),
        ("square root", lambda limit: lambda a: (factor(a) ** 2 <= limit).to(a)),
        ("upside down", lambda limit: lambda a: (1 / factor(a) <= limit).to(a)),
        ("not to abar itself", lambda limit: lambda a: (a >= limit).to(a)),
        ("1 or 0", lambda limit: factor),
        ("True and False", lambda limit: lambda a: factor(a) <= limit),
        ("Return a function", lambda limit: torch.ones(99)),
        ("a tensor is wanted", lambda limit: lambda a: 1.0),
        ("wrong noise levels", lambda limit: lambda a: (a > 0.3).to(a)),
        ("what your weighting returns is still missing", lambda limit: lambda a: ...),
        ("your weighting raises RuntimeError", lambda limit: lambda a: 1.0 if factor(a) <= limit else 0.0),
    ]),
)
