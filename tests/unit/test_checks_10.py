"""The exercises of notebooks 10 and 10b: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb10 import (
    check_10_accumulate,
    check_10_seeds_needed,
    check_10_sign_flips,
    check_10_static_gib,
)
from anytext_lib.experiments.paired import sign_flip_p
from tests.unit.exercise_tables import Exercise, exercise_tests


def seeds(quantile=0.975, freedom=-1, factor=1.0, first=2):
    def seeds_needed(sd, half_width):
        return next(n for n in itertools.count(first)
                    if factor * stats.t.ppf(quantile, n + freedom) * sd / math.sqrt(n) <= half_width)
    return seeds_needed


def by_a_loop(sd, half_width):
    n = 2
    while stats.t.interval(0.95, n - 1, scale=sd / np.sqrt(n))[1] > half_width:
        n += 1
    return n


def by_a_table(sd, half_width):
    n = np.arange(2, 2000)
    return n[np.argmax(stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n) <= half_width)]


def by_halving(sd, half_width):
    low, high = 1, 4096  # not enough, enough
    while high - low > 1:
        middle = (low + high) // 2
        enough = stats.t.isf(0.025, middle - 1) * sd <= half_width * middle**0.5
        low, high = (low, middle) if enough else (middle, high)
    return float(high)


SEEDS = Exercise(check_10_seeds_needed, [seeds(), by_a_loop, by_a_table, by_halving], [
    ("2.5%", seeds(0.95)),
    ("degrees of freedom", seeds(freedom=0)),
    ("whole interval", seeds(factor=2)),
    ("standard deviation that is known", lambda sd, h: max(2, math.ceil((1.959964 * sd / h) ** 2))),
    ("a whole number", lambda sd, h: seeds()(sd, h) - 0.5),
    ("one seed has no standard deviation", lambda sd, h: 1),
    ("fewer seeds are enough", lambda sd, h: seeds()(sd, h) + 1),
    ("still wider", lambda sd, h: 2),
    ("one number", lambda sd, h: [2, 3]),
])


def flipped(values, extreme=lambda total, seen: abs(total) >= abs(seen) - 1e-12):
    sums = [sum(s * v for s, v in zip(signs, values, strict=True))
            for signs in itertools.product((1, -1), repeat=len(values))]
    return float(np.mean([extreme(total, sum(values)) for total in sums]))


def by_recursion(values):
    def count(total, rest):
        return abs(total) >= abs(sum(values)) - 1e-12 if not rest else \
            count(total + rest[0], rest[1:]) + count(total - rest[0], rest[1:])

    return count(0.0, list(values)) / 2 ** len(values)


def by_a_grid(values):
    d = np.array(values)
    signs = np.array(np.meshgrid(*[[1, -1]] * len(d))).reshape(len(d), -1)
    return (np.abs(d @ signs) > np.abs(d.sum()) - 1e-12).mean()


FLIPS = Exercise(check_10_sign_flips, [flipped, by_recursion, by_a_grid, sign_flip_p], [
    ("count it", lambda v: flipped(v, lambda total, seen: abs(total) > abs(seen) + 1e-12)),
    ("one direction only", lambda v: flipped(v, lambda total, seen: total >= seen - 1e-12)),
    ("less extreme", lambda v: flipped(v, lambda total, seen: abs(total) < abs(seen) - 1e-12)),
    ("one number", lambda v: "small"),
    ("all 32 sign patterns", lambda v: 0.777),
    ("all 32 sign patterns", lambda v: stats.ttest_1samp(v, 0).pvalue if len(v) > 1 else 1.0),
])

GIB = 2**30
MEMORY = Exercise(check_10_static_gib, [
    lambda total, trained, width: width * (total + 3 * trained) / GIB,
    lambda total, trained, width: sum(n * width for n in (total - trained, trained, trained, 2 * trained)) / 1024**3,
    lambda total, trained, width: np.float64(width) * ((total - trained) + 4 * trained) * 2.0**-30,
], [
    (r"2\*\*30 bytes", lambda n, k, w: w * (n + 3 * k) / 1e9),
    ("These are bytes", lambda n, k, w: w * (n + 3 * k)),
    ("Frozen weights have neither", lambda n, k, w: w * 4 * n / GIB),
    ("AdamW.s two numbers", lambda n, k, w: w * (n + 2 * k) / GIB),
    ("frozen weights must be there", lambda n, k, w: w * 4 * k / GIB),
    ("weights only", lambda n, k, w: w * n / GIB),
    ("width in bytes", lambda n, k, w: 4 * (n + 3 * k) / GIB),
    ("expected", lambda n, k, w: 7.0),
])
test_right, test_wrong, test_no_answer = exercise_tests(SEEDS, FLIPS, MEMORY)


def summed(loss_of, parts, factor=1.0):
    for part in parts:
        (factor * loss_of(part)).backward()


def cleared(loss_of, parts):
    loss = None
    for part in parts:
        loss = loss_of(part)
    loss.backward()


def mean_of_losses(loss_of, parts):
    torch.stack([loss_of(part) for part in parts]).mean().backward()


@pytest.mark.parametrize("answer", [
    lambda loss_of, parts: summed(loss_of, parts, 1 / len(parts)), mean_of_losses,
    lambda loss_of, parts: sum(loss_of(part) / len(parts) for part in parts).backward(),
])
def test_accumulated_gradients(answer, capsys):
    check_10_accumulate(answer)
    assert capsys.readouterr().out.count("✓") == 1


@pytest.mark.parametrize(("hint", "answer"), [
    ("divide each loss", summed),
    ("only the last part is left: the", cleared),
    ("once for each of the 3 parts", lambda loss_of, parts: loss_of(parts[0]).backward()),
    ("not by that of the samples", lambda loss_of, parts: summed(loss_of, parts, 1 / sum(map(len, parts)))),
    ("should be", lambda loss_of, parts: summed(loss_of, parts, 0.2)),
    ("no gradient has arrived", lambda loss_of, parts: [loss_of(part) for part in parts] and None),
    ("no gradient has arrived", lambda loss_of, parts: ...),
    ("call loss_of for each part", lambda loss_of, parts: loss_of(parts).backward()),
    ("still missing", None),
])
def test_gradients_that_are_not_accumulated(hint, answer):
    with pytest.raises(NotYet, match=hint):
        check_10_accumulate(answer)
