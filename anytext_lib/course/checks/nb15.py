"""Checks of notebook 15: the gap of localised attention, and which arms nobody needs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from anytext_lib.course.checks import expect, expect_value, passed, result_of


def check_15_attention_gap(function: Callable) -> None:
    """Exercise 1: `function(attention, region)` is the mean over tokens of the strongest outside minus inside."""
    generator = torch.Generator().manual_seed(15)
    region = torch.zeros(3, 4, 6)
    for j in range(3):
        region[j, 1:3, j : j + 3] = 1
    attention = torch.rand(3, 4, 6, generator=generator)
    attention[0] += 0.4 * region[0]  # one token looks at its place already
    attention.requires_grad_()
    got = result_of("attention_gap", function, attention, region)
    expect(isinstance(got, torch.Tensor) and got.numel() == 1, "Return one number, a tensor: the mean over the tokens.")
    got, right = got.reshape(()).to(attention), _gap(attention, region)
    expect_value(got, right, _wrong_gaps(attention, region), f"Expected {right.item():.4f}, got {got.item():.4f}: the "
                 "strongest attention where region is 0, minus the strongest where it is 1, token by token.")
    expect(got.requires_grad, "No gradient reaches attention: leave out `.detach()`, `.item()` and `torch.no_grad()`.")
    (pull,) = torch.autograd.grad(got, attention)
    expect(int((pull != 0).sum()) == 6, "The value is right, but its gradient touches other positions than the two "
                                        "maxima of each token.")
    passed("two positions of each map feel this loss, and no other")


def _gap(attention: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    return (_peak(attention * (1 - region)) - _peak(attention * region)).mean()


def _peak(maps: torch.Tensor) -> torch.Tensor:
    return maps.flatten(1).max(dim=1).values


def _wrong_gaps(attention: torch.Tensor, region: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a typical wrong answer gives, by the hint for it."""
    outside, inside = attention * (1 - region), attention * region
    return {
        "The sign is swapped: looking at the right place must make the loss small.": -_gap(attention, region),
        "The maximum is to be taken for each token, not over all of them.": outside.max() - inside.max(),
        "These are means over positions; asked are the *strongest* ones.":
            (outside.flatten(1).mean(1) - inside.flatten(1).mean(1)).mean(),
        "These are sums over positions; asked are the *strongest* ones.":
            (outside.flatten(1).sum(1) - inside.flatten(1).sum(1)).mean(),
        "The part outside is missing.": -_peak(inside).mean(),
        "The part inside is missing.": _peak(outside).mean(),
        "The outside must leave the region out: multiply by 1 - region.": (_peak(attention) - _peak(inside)).mean(),
        "This is the sum over the tokens; asked is their mean.": (_peak(outside) - _peak(inside)).sum(),
    }


POINTS = (
    {"a": (1.0, 0.2), "b": (2.0, 0.5), "c": (2.5, 0.4), "d": (3.0, 0.6), "e": (1.0, 0.1), "f": (4.0, 0.55)},
    {"a": (1.0, 0.5), "b": (2.0, 0.5), "c": (1.0, 0.5)},
    {"only": (3.0, 0.0)},
    {"a": (1.0, 0.3), "b": (2.0, 0.2), "c": (3.0, 0.1)},
)


def check_15_front(function: Callable) -> None:
    """Exercise 2: `function(points)` is the set of the names that no other point dominates."""
    for points in POINTS:
        got = result_of("front", function, dict(points))
        expect(not isinstance(got, str) and hasattr(got, "__iter__"), "Return a set of names.")
        found, right = set(got), _front(points)
        expect(found <= set(points), f"Return names, keys of the dictionary; you return {sorted(map(str, found))}.")
        if found == right:
            continue
        for hint, wrong in _wrong_fronts(points).items():
            expect(found != wrong, hint)
        extra, lost = sorted(found - right), sorted(right - found)
        expect(not extra, f"Of {points}: {extra} should not be there, another point is as cheap and as good and better "
                          "in one of the two.")
        expect(not lost, f"Of {points}: {lost} is missing, and no other point dominates it.")
    passed("what is dearer and worse than another needs no experiment any more")


def _front(points: dict) -> set:
    return {name for name, (cost, score) in points.items()
            if not any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points.values())}


def _wrong_fronts(points: dict) -> dict[str, set]:
    """What a typical wrong answer gives, by the hint for it."""
    def by(dominates) -> set:
        return {name for name, here in points.items()
                if not any(dominates(other, here) for n, other in points.items() if n != name)}

    return {
        "A high cost is bad: you treat it as good.": by(lambda a, b: a[0] >= b[0] and a[1] >= b[1] and a != b),
        "A high score is good: you treat it as bad.": by(lambda a, b: a[0] <= b[0] and a[1] <= b[1] and a != b),
        "Two equal points do not dominate each other: one must be better in something.":
            by(lambda a, b: a[0] <= b[0] and a[1] >= b[1]),
        "Equal in one and better in the other is enough to dominate: use <= and >=.":
            by(lambda a, b: a[0] < b[0] and a[1] > b[1]),
        "This is the best score alone; cheaper points that nobody beats belong to the front as well.":
            {name for name, (_, s) in points.items() if s == max(score for _, score in points.values())},
    }
