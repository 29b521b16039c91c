"""The exercises of notebook 17: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import numpy as np
import torch

from anytext_lib.course.checks.nb17 import check_17_floor, check_17_shared
from tests.unit.exercise_tables import Exercise, exercise_tests

GIB = 2**30


def by_operation(flops, traffic, peak, bandwidth):
    return sum(max(f / peak, b / bandwidth) for f, b in zip(flops, traffic, strict=True))


def in_torch(flops, traffic, peak, bandwidth):
    return torch.maximum(torch.tensor(flops) / peak, torch.tensor(traffic) / bandwidth).sum()


FLOOR = Exercise(check_17_floor, [lambda f, b, p, w: np.maximum(f / p, b / w).sum(), by_operation, in_torch], [
    ("add up afterwards", lambda f, b, p, w: max(f.sum() / p, b.sum() / w)),
    ("not their sum", lambda f, b, p, w: (f / p + b / w).sum()),
    ("slower one", lambda f, b, p, w: np.minimum(f / p, b / w).sum()),
    ("one after the other", lambda f, b, p, w: np.maximum(f / p, b / w).max()),
    ("the floor is", lambda f, b, p, w: np.maximum(f * p, b * w).sum()),
    ("bytes are missing", lambda f, b, p, w: f.sum() / p),
    ("FLOPs are missing", lambda f, b, p, w: b.sum() / w),
    ("the floor is", lambda f, b, p, w: 7.7),
    ("one number", lambda f, b, p, w: np.maximum(f / p, b / w)),
])


def shared_gib(whole, shared, trained, gpus):
    return 4 * (whole + (shared + 3 * trained) / gpus) / GIB


def part_by_part(whole, shared, trained, gpus):
    frozen, weights, gradients, moments = 4 * whole, 4 * shared / gpus, 4 * trained / gpus, 8 * trained / gpus
    return (frozen + weights + gradients + moments) / 1024**3


def in_bits(whole, shared, trained, gpus):
    return np.float64(32 * (whole * gpus + shared + trained * 3) / gpus / 8 / GIB)


SHARED = Exercise(check_17_shared, [shared_gib, part_by_part, in_bits], [
    ("whole in every GPU", lambda w, s, t, n: 4 * (w + s + 3 * t) / n / GIB),
    ("Nothing is shared", lambda w, s, t, n: 4 * (w + s + 3 * t) / GIB),
    ("Only the weights", lambda w, s, t, n: 4 * (w + s / n + 3 * t) / GIB),
    ("two moments", lambda w, s, t, n: 4 * (w + (s + 2 * t) / n) / GIB),
    ("Gradients and moments are missing", lambda w, s, t, n: 4 * (w + s / n) / GIB),
    ("frozen networks are missing", lambda w, s, t, n: 4 * (s + 3 * t) / n / GIB),
    ("divide by", lambda w, s, t, n: 4 * (w + (s + 3 * t) / n)),
    ("Four bytes", lambda w, s, t, n: (w + (s + 3 * t) / n) / GIB),
    ("yours is", lambda w, s, t, n: 1.0),
])
test_right, test_wrong, test_no_answer = exercise_tests(FLOOR, SHARED)
