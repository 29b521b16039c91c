"""The exercises of notebook 15: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import torch

from anytext_lib.course.checks.nb15 import check_15_attention_gap, check_15_front
from tests.unit.exercise_tables import Exercise, exercise_tests


def peak(maps):
    return maps.flatten(1).max(dim=1).values


def attention_gap(attention, region):
    return (peak(attention * (1 - region)) - peak(attention * region)).mean()


def by_masks(attention, region):
    outside = attention.masked_fill(region.bool(), float("-inf")).amax(dim=(1, 2))
    inside = attention.masked_fill(region == 0, float("-inf")).amax(dim=(1, 2))
    return torch.mean(outside - inside)


def token_by_token(attention, region):
    gaps = [a[r < 0.5].max() - a[r > 0.5].max() for a, r in zip(attention, region, strict=True)]
    return sum(gaps) / len(gaps)


def by_sorting(attention, region):
    inside = (attention * region).reshape(len(region), -1).sort(dim=1).values[:, -1]
    outside = torch.where(region == 1, torch.zeros_like(attention), attention).reshape(len(region), -1).topk(1).values
    return (outside.squeeze(1) - inside).mean(dim=0, keepdim=True)


GAP = Exercise(check_15_attention_gap, [attention_gap, by_masks, token_by_token, by_sorting], [
    ("sign is swapped", lambda a, r: -attention_gap(a, r)),
    ("for each token", lambda a, r: (a * (1 - r)).max() - (a * r).max()),
    ("means over positions", lambda a, r: (a * (1 - r) - a * r).mean()),
    ("sums over positions", lambda a, r: (a * (1 - r) - a * r).flatten(1).sum(1).mean()),
    ("outside is missing", lambda a, r: -peak(a * r).mean()),
    ("inside is missing", lambda a, r: peak(a * (1 - r)).mean()),
    ("leave the region out", lambda a, r: (peak(a) - peak(a * r)).mean()),
    ("sum over the tokens", lambda a, r: (peak(a * (1 - r)) - peak(a * r)).sum()),
    ("one number", lambda a, r: peak(a * (1 - r)) - peak(a * r)),
    ("No gradient", lambda a, r: attention_gap(a.detach(), r)),
    ("Expected", lambda a, r: attention_gap(a, r) + 0.3),
    ("other positions", lambda a, r: attention_gap(a, r) + (a - a.detach()).sum()),
])


def by(dominates):
    return lambda points: {n for n, p in points.items()
                           if not any(dominates(q, p) for m, q in points.items() if m != n)}


front = by(lambda a, b: a[0] <= b[0] and a[1] >= b[1] and a != b)


def by_sweeping(points):
    best, names = float("-inf"), []
    for cost in sorted({c for c, _ in points.values()}):
        top = max(s for c, s in points.values() if c == cost)
        if top > best:
            names += [name for name, point in points.items() if point == (cost, top)]
            best = top
    return names


def by_striking_out(points):
    left = dict(points)
    for name, (cost, score) in points.items():
        for other, (c, s) in points.items():
            if other != name and c <= cost and s >= score and (c < cost or s > score):
                left.pop(name, None)
    return left.keys()


FRONT = Exercise(check_15_front, [front, by_sweeping, by_striking_out, lambda p: tuple(sorted(front(p)))], [
    ("high cost is bad", by(lambda a, b: a[0] >= b[0] and a[1] >= b[1] and a != b)),
    ("high score is good", by(lambda a, b: a[0] <= b[0] and a[1] <= b[1] and a != b)),
    ("equal points", by(lambda a, b: a[0] <= b[0] and a[1] >= b[1])),
    ("Equal in one", by(lambda a, b: a[0] < b[0] and a[1] > b[1])),
    ("best score alone", lambda points: {max(points, key=lambda n: points[n][1])}),
    ("should not be there", lambda points: set(points)),
    ("is missing", lambda points: set()),
    ("Return names", lambda points: set(points.values())),
    ("set of names", lambda points: "a"),
])
test_right, test_wrong, test_no_answer = exercise_tests(GAP, FRONT)
