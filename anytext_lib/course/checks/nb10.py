"""Checks of notebooks 10 and 10b: a batch in parts, what training keeps in memory, how sure a few seeds make one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats

from anytext_lib.course.checks import answered, as_number, expect, expect_value, passed, result_of

GIB = 2**30


def check_10_accumulate(function: Callable) -> None:
    """`function(loss_of, parts)` leaves the gradient of the mean loss over the parts in `.grad`."""
    answered(function, "accumulate")
    weight = torch.tensor([1.0, -2.0], requires_grad=True)
    parts = [torch.randn(4, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    seen = []

    def loss_of(part):
        seen.append(part)
        return (part @ weight - 1).square().mean()

    each = torch.stack([torch.autograd.grad(loss_of(part), weight)[0] for part in parts])
    seen.clear()
    result_of("accumulate", lambda *given: (function(*given), True), loss_of, list(parts),
              hints={"second time": "each part has a graph of its own: call loss_of(part) anew for each.",
                     "'list'": "`parts` is a list: call loss_of for each part.",
                     "argument 'input'": "`parts` is a list: call loss_of for each part."})
    expect(weight.grad is not None, "no gradient has arrived: is `accumulate` written, and does it call backward()?")
    expect(len(seen) == len(parts), f"loss_of was called {len(seen)} times; once for each of the {len(parts)} parts.")
    got, right = weight.grad, each.mean(dim=0)
    mistakes = {
        "the gradients of the parts are added: divide each loss by the number of parts.": each.sum(dim=0),
        "only the last part is left: the gradients are cleared in between, and must not be.": each[-1],
        "only the last part is left, and it is divided as well: do not clear in between.": each[-1] / len(parts),
        "only the first part has arrived: call backward() inside of the loop.": each[0],
        "divide by the number of parts, not by that of the samples: each loss is a mean already.":
            each.sum(dim=0) / sum(len(part) for part in parts),
    }
    for hint, wrong in mistakes.items():
        expect(not torch.allclose(got, wrong, rtol=1e-4), hint)
    expect(torch.allclose(got, right, rtol=1e-4), f"the gradient should be {right.tolist()}, it is {got.tolist()}.")
    passed("many small batches, one large one: the same gradient, less memory")



def check_10_seeds_needed(function: Callable) -> None:
    """`function(sd, half_width)` is the smallest number of seeds whose 95% interval is as narrow as wanted."""
    probes = ((0.02, 0.01), (0.02, 0.03), (0.01, 0.1), (0.05, 0.011))
    found = []
    for sd, half_width in probes:
        got = as_number(result_of("seeds_needed", function, sd, half_width), "what seeds_needed returns")
        where = f"seeds_needed({sd}, {half_width}) gives {got:g}"
        expect(got == int(got), f"{where}; a whole number of seeds is wanted.")
        expect(got >= 2, f"{where}: one seed has no standard deviation, begin at 2.")
        found.append(int(got))
    right = [_smallest(_half_width, *probe) for probe in probes]
    for hint, half in _SEED_MISTAKES.items():
        expect(found == right or found != [_smallest(half, *probe) for probe in probes], hint)
    for probe, got, wanted in zip(probes, found, right, strict=True):
        expect(got >= wanted, f"seeds_needed{probe} gives {got}, whose interval is still wider than wanted.")
        expect(got <= wanted, f"seeds_needed{probe} gives {got}, but fewer seeds are enough: return the first that is.")
    passed("t grows as seeds get few: the number is found by trying, not by solving")


def _half_width(sd: float, n: int) -> float:
    return stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n)


def _smallest(half: Callable[[float, int], float], sd: float, wanted: float) -> int:
    return next(n for n in itertools.count(2) if half(sd, n) <= wanted)


_SEED_MISTAKES: dict[str, Callable[[float, int], float]] = {
    "1.96 belongs to a standard deviation that is known. Yours is estimated from the same few seeds: Student's t.":
        lambda sd, n: 1.959964 * sd / math.sqrt(n),
    "This leaves 5% on each side. A 95% interval leaves 2.5%: the quantile at 0.975.":
        lambda sd, n: stats.t.ppf(0.95, n - 1) * sd / math.sqrt(n),
    "n values have n - 1 degrees of freedom: one is spent on their mean.":
        lambda sd, n: stats.t.ppf(0.975, n) * sd / math.sqrt(n),
    "half_width is the distance from the mean to one end, not the length of the whole interval.":
        lambda sd, n: 2 * _half_width(sd, n),
}
"""Half width of the interval by typical mistakes, by the hint for them."""


def check_10_sign_flips(function: Callable) -> None:
    """`function(differences)` is the exact two-sided p value of the sign-flip test."""
    for values in ([0.3, 0.1, 0.2, 0.4, 0.2], [0.3, -0.1, 0.25, 0.07], [-0.2, -0.1, 0.05], [0.5]):
        got = as_number(result_of("sign_flip_p", function, list(values)), "what sign_flip_p returns")
        sums = [sum(s * v for s, v in zip(signs, values, strict=True))
                for signs in itertools.product((1, -1), repeat=len(values))]
        seen = sum(values)
        right = np.mean([abs(total) >= abs(seen) - 1e-12 for total in sums])
        mistakes = {
            "The pattern that was observed is one of the patterns: count it, so that p is never 0 (>=, not >). Mind "
            "rounding: allow for 1e-12.": np.mean([abs(total) > abs(seen) + 1e-12 for total in sums]),
            "This counts one direction only. Before the experiment nobody knew the sign: take absolute values.":
                np.mean([total >= seen - 1e-12 for total in sums]),
            "This is the share of patterns that are less extreme.": np.mean([abs(t) < abs(seen) - 1e-12 for t in sums]),
        }
        expect_value(got, right, mistakes, f"sign_flip_p({values}) gives {got:.4f}, expected {right:.4f}: the share of "
                     f"all {len(sums)} sign patterns whose |sum| is at least the observed one.", atol=0.0)
    passed("no bell curve needed; and with n seeds no p value below 2 / 2**n")


def check_10_static_gib(function: Callable) -> None:
    """`function(total, trained, width)` is what weights, gradients and AdamW's two moments take, in GiB."""
    for total, trained, width in ((1_000_000_000, 400_000_000, 4), (1_496_676_949, 427_776_729, 2)):
        got = as_number(result_of("static_gib", function, total, trained, width), "what static_gib returns")
        right = width * (total + 3 * trained) / GIB
        mistakes = {
            "1 GiB is 2**30 bytes, not 10**9.": right * GIB / 1e9,
            "These are bytes; GiB are wanted.": right * GIB,
            "Frozen weights have neither gradient nor moments: only the trained ones do.": width * 4 * total / GIB,
            "Either the gradients are missing, or one of AdamW's two numbers for each trained weight: the mean of its "
            "gradient and that of its square.": width * (total + 2 * trained) / GIB,
            "The frozen weights must be there too, to be computed with.": width * 4 * trained / GIB,
            "This counts the weights only.": width * total / GIB,
            "The width in bytes is an argument: not everybody trains in four bytes.": 4 * (total + 3 * trained) / GIB,
        }
        expect_value(got, right, mistakes, f"For {total:,} weights, {trained:,} of them trained, {width} bytes each: "
                     f"expected {right:.3f} GiB, got {got:.3f}.", rtol=1e-6)
    passed("every weight once, every trained weight four times")
