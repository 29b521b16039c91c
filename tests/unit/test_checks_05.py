"""The exercises of notebook 05: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from anytext_lib.course.checks.nb05 import check_05_boxed, check_05_sliding
from tests.unit.exercise_tables import Exercise, exercise_tests


def frames_in(boxes, whole=False):
    """Mask (L, 40) of the frames that touch the boxes, or that lie in them as a whole."""
    first = 8 * torch.arange(40)
    return ((first + 8 <= boxes[:, None]) if whole else (first < boxes[:, None])).float()


def boxed(features, reference, boxes, used=None):
    used = frames_in(boxes) if used is None else used
    each = (features - reference.detach()).square().mean(dim=2)
    return (each * used).sum(dim=1) / used.sum(dim=1).clamp(min=1)


def boxed_line_by_line(features, reference, boxes):
    ends = [-(-int(box) // 8) for box in boxes]
    return torch.stack([F.mse_loss(f[:end], r[:end].detach())
                        for f, r, end in zip(features, reference, ends, strict=True)])


def boxed_by_nanmean(features, reference, boxes):
    difference = features - reference.detach()
    outside = torch.arange(40) >= (boxes[:, None] / 8).ceil()
    return difference.square().masked_fill(outside[..., None], torch.nan).nanmean(dim=(1, 2))


def boxed_in_place(features, reference, boxes):
    for f, r, box in zip(features, reference, boxes, strict=True):
        f[-(-int(box) // 8):] = r[-(-int(box) // 8):] = 0
    return (features - reference).square().sum((1, 2)) / (64 * frames_in(boxes).sum(1))


def plain(f, r):
    return (f - r.detach()).square()


def sliding(features, reference, reach=1, slides=None, rolled=False, over_batch=False, detach=True,
            cost=lambda difference: difference.square().mean(dim=(1, 2))):
    losses, n = [], features.shape[1]
    reference = reference.detach() if detach else reference
    for k in slides or range(-reach, reach + 1):
        a, b = features[:, max(k, 0): n + min(k, 0)], reference[:, max(-k, 0): n - max(k, 0)]
        if rolled:
            a, b = features.roll(-k, 1), reference
        losses.append(cost(a - b))
    stacked = torch.stack(losses)
    return stacked[stacked.mean(dim=1).argmin()] if over_batch else stacked.amin(dim=0)


def sliding_with_two_cuts(features, reference, reach=1):
    best = plain(features, reference).mean((1, 2))
    for k in range(1, reach + 1):
        best = torch.minimum(best, plain(features[:, k:], reference[:, :-k]).mean((1, 2)))
        best = torch.minimum(best, plain(features[:, :-k], reference[:, k:]).mean((1, 2)))
    return best


def sliding_over_all_pairs(features, reference, reach=1):
    """All differences of two frames, then the means of the diagonals."""
    pairs = plain(features[:, :, None], reference[:, None]).mean(dim=-1)
    return torch.stack([pairs.diagonal(k, 1, 2).mean(-1) for k in range(-reach, reach + 1)], dim=1).min(dim=1).values


def slip_at_zero(features, reference, reach=1):
    pairs = [(features[:, k:], reference[:, :-k]) for k in range(reach + 1)]
    return torch.stack([plain(a, b).mean((1, 2)) for a, b in pairs]).amin(0)


def with_cost(cost):
    return lambda f, r, reach=1: sliding(f, r, reach, cost=cost)


test_right, test_wrong, test_no_answer = exercise_tests(
    Exercise(check_05_boxed, [boxed, boxed_line_by_line, boxed_by_nanmean], [
        ("single number", lambda f, r, b: boxed(f, r, b).mean()),
        ("one value for each line", lambda f, r, b: plain(f, r).mean(2)),
        ("the padding still counts", lambda f, r, b: plain(f, r).mean((1, 2))),
        ("not by 40", lambda f, r, b: (plain(f, r) * frames_in(b)[..., None]).mean((1, 2))),
        ("the box cuts counts too", lambda f, r, b: boxed(f, r, b, frames_in(b, whole=True))),
        ("one frame too many", lambda f, r, b: boxed(f, r, b, (8 * torch.arange(40) <= b[:, None]).float())),
        ("64 numbers", lambda f, r, b: 64 * boxed(f, r, b)),
        ("frames and numbers", lambda f, r, b: (plain(f, r) * frames_in(b)[..., None]).sum((1, 2))),
        ("square root", lambda f, r, b: boxed(f, r, b).sqrt()),
        ("whole batch", lambda f, r, b: (plain(f, r).mean(2) * frames_in(b)).sum(1) / frames_in(b).sum()),
        ("wrong way round", lambda f, r, b: boxed(f, r, b, 1 - frames_in(b))),
        ("values differ", lambda f, r, b: 2 * boxed(f, r, b)),
        ("changes its arguments", boxed_in_place),
        ("constant", lambda f, r, b: boxed(f, r, b) + 0 * r.sum() + (r - r.detach()).sum((1, 2))),
        ("no gradient reaches", lambda f, r, b: boxed(f.detach(), r, b)),
        ("own number of frames", lambda f, r, b: plain(f, r) * frames_in(b)[:, :33, None]),
    ]),
    Exercise(check_05_sliding, [sliding, sliding_with_two_cuts, sliding_over_all_pairs], [
        ("single number", lambda f, r, k=1: sliding(f, r, k).mean()),
        ("k = 0", lambda f, r, k=1: sliding(f, r, slides=[-1, 1])),
        ("torch.roll", lambda f, r, k=1: sliding(f, r, k, rolled=True)),
        ("to the left", lambda f, r, k=1: sliding(f, r, slides=[0, 1])),
        ("line by line", lambda f, r, k=1: sliding(f, r, k, over_batch=True)),
        ("reach=1", lambda f, r, k=1: sliding(f, r, 3)),
        ("reach=2", lambda f, r, k=1: sliding(f, r, 1)),
        ("constant", lambda f, r, k=1: sliding(f, r, k, detach=False)),
        ("no gradient reaches", lambda f, r, k=1: sliding(f.detach(), r, k)),
        ("frames and numbers of the overlap, not their sum", with_cost(lambda d: d.square().sum((1, 2)))),
        ("64 numbers", with_cost(lambda d: d.square().sum(2).mean(1))),
        ("frames of the overlap", with_cost(lambda d: d.square().mean(2).sum(1))),
        ("root of the loss", with_cost(lambda d: d.square().mean((1, 2)).sqrt())),
        ("not by all frames",
         lambda f, r, k=1: sliding(f, r, k, cost=lambda d: d.square().mean(2).sum(1) / f.shape[1])),
        (r"mean \*square\*", with_cost(lambda d: d.abs().mean((1, 2)))),
        (r"mean \*square\*", with_cost(lambda d: d.square().amax((1, 2)))),
        (r"mean \*square\*", with_cost(lambda d: 1000 * d.square().mean((1, 2)))),
        ("a slice is empty", slip_at_zero),
    ]),
)
