"""The exercises of notebook 16: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from anytext_lib.course.checks.nb16 import check_16_advantages, check_16_half_pull
from tests.unit.exercise_tables import Exercise, exercise_tests


def half(pull):
    return int(np.argmax(pull.cumsum() >= pull.sum() / 2))


def half_pull(weights, lengths):
    return half((weights * lengths) ** 2)


def by_searching(weights, lengths):
    sums = np.cumsum(np.square(weights) * np.square(lengths))
    return np.searchsorted(sums, sums[-1] / 2)


def by_adding_up(weights, lengths):
    pulls = [(w * g) ** 2 for w, g in zip(weights, lengths, strict=True)]
    return next(t for t, total in enumerate(itertools.accumulate(pulls)) if total >= sum(pulls) / 2)


def in_torch(weights, lengths):
    share = (torch.tensor(weights) * torch.tensor(lengths)).square().cumsum(0)
    return (share < share[-1] / 2).sum()


HALF = Exercise(check_16_half_pull, [half_pull, by_searching, by_adding_up, in_torch], [
    ("Square the pull", lambda w, g: half(w * g)),
    ("lengths of the gradients are missing", lambda w, g: half(w**2)),
    ("weights are missing", lambda w, g: half(g**2)),
    ("One too many", lambda w, g: half_pull(w, g) + 1),
    ("largest", lambda w, g: int(np.argmax((w * g) ** 2))),
    ("upwards", lambda w, g: len(w) - 1 - half(((w * g) ** 2)[::-1])),
    ("a whole number", lambda w, g: half_pull(w, g) + 0.5),
    ("the answer is", lambda w, g: len(w) - 1),
    ("one number", lambda w, g: w.cumsum()),
])


def centred(r):
    return r - r.mean(dim=1, keepdim=True)


def spread(r):
    return r.std(dim=1, keepdim=True, unbiased=False)


def advantages(rewards):
    return centred(rewards) / (spread(rewards) + 1e-4)


def scene_by_scene(rewards):
    return torch.stack([(row - row.mean()) / (row.std(correction=0) + 0.0001) for row in rewards])


def written_out(rewards):
    mean = rewards.sum(dim=-1)[:, None] / rewards.shape[-1]
    deviation = ((rewards**2).mean(-1, keepdim=True) - mean**2).clamp(min=0).sqrt()
    return (rewards - mean) / (deviation + 1e-4)


def in_numpy(rewards):
    r = rewards.numpy().astype(np.float64)
    return torch.from_numpy((r - r.mean(1, keepdims=True)) / (r.std(1, keepdims=True) + 1e-4))


ADVANTAGES = Exercise(check_16_advantages, [advantages, scene_by_scene, written_out, in_numpy], [
    (r"of the \*scene\*", lambda r: (r - r.mean()) / (r.std(unbiased=False) + 1e-4)),
    ("of the scene as well", lambda r: centred(r) / (r.std(unbiased=False) + 1e-4)),
    ("Divide by the standard deviation", centred),
    ("mean is missing", lambda r: r / (spread(r) + 1e-4)),
    ("unbiased=False", lambda r: centred(r) / (r.std(dim=1, keepdim=True) + 1e-4)),
    ("Rows are scenes", lambda r: (r - r.mean(0)) / (r.std(0, unbiased=False) + 1e-4)),
    ("sign is swapped", lambda r: -advantages(r)),
    ("not by the variance", lambda r: centred(r) / (spread(r) ** 2 + 1e-4)),
    ("standard deviation of 0", lambda r: centred(r) / spread(r)),
    ("for every picture", lambda r: advantages(r).mean()),
    ("expected", lambda r: 3 * advantages(r)),
])
test_right, test_wrong, test_no_answer = exercise_tests(HALF, ADVANTAGES)
