"""Checks of the exercises of notebook 07."""

from __future__ import annotations

from collections.abc import Callable

import torch

from anytext_lib.course.checks import expect, expect_int, expect_tensor, expect_value, passed, result_of


def check_07_quantile_step(function: Callable) -> None:
    """`function(weights, share)` gives an int; probed with weights of three shapes."""
    ramp = torch.arange(100, 0, -1, dtype=torch.float64)
    gate = torch.cat([torch.ones(40), torch.zeros(60)]).double() * 3
    even = torch.ones(8, dtype=torch.float64)  # a half is reached exactly: "at least" counts
    for weights, share in ((ramp, 0.5), (ramp, 0.79), (gate, 0.49), (ramp.flip(0), 0.3), (even, 0.5)):
        got = result_of("quantile_step", function, weights, share)
        expect_int(got, "one timestep")
        right = int((weights.cumsum(0) / weights.sum() >= share).nonzero()[0])
        expect(got != right + 1 or weights is not even, "At *least* the share: where the running sum equals it, the "
                                                        "step is reached (>=, not >).")
        expect(got != right + 1, "One too far: t itself counts among the steps 0 to t.")
        expect(got != right - 1, "One short: up to the timestep that you return, the share is not yet reached.")
        expect(got == right or got != int(share * len(weights)),
               "This is that share of the *steps*. The weights are not equal: add them up.")
        below = (weights <= share * weights.max()).nonzero()
        expect(got == right or not len(below) or got != int(below[0]),
               "This is where the weight itself has fallen to that share of its top. Asked is its running sum.")
        unscaled = (weights.cumsum(0) >= share).nonzero()
        expect(got == right or got != int(unscaled[0]), "Divide by the sum of all weights: they need not add up to 1.")
        expect(got == right, f"For {len(weights)} weights and a share of {share} you return {got}. Take the running "
                             "sum, divided by the total.")
    passed("the running sum tells where a weighting spends its weight")


def check_07_gate(function: Callable) -> None:
    """`function(limit)` gives a weighting of abar; probed at several limits, away from the threshold itself."""
    for limit in (2.0, 0.5, 4.0):
        a = torch.linspace(0.01, 0.99, 99)
        a = a[(a - 1 / (1 + limit**2)).abs() > 0.004]  # on the threshold, rounding decides: no right answer fails there
        weighting = result_of("amplification_gate", function, limit)
        expect(callable(weighting), "Return a function of abar, not weights: `return lambda a: ...`.")
        got = result_of("your weighting", weighting, a)
        expect_tensor(got, a.shape, "The weights have the shape of abar.")
        expect(got.dtype != torch.bool, "True and False are no weights yet: turn them into numbers, as with `.to(a)`.")
        got, right = got.to(a), (((1 - a) / a).sqrt() <= limit).to(a)
        expect_value(got, right, _wrong_gates(a, limit), f"For limit = {limit} your gate opens at the wrong noise "
                     "levels: it is 1 where sqrt((1 - abar) / abar) is at most the limit.", 0.0, 0.0)
    passed("1 where an error is amplified by no more than the limit; the same as hard_gate(1 / (1 + limit**2))")


def _wrong_gates(a: torch.Tensor, limit: float) -> dict[str, torch.Tensor]:
    """What a typical wrong gate gives, by the hint for it."""
    factor = ((1 - a) / a).sqrt()
    wrong = {
        "The gate is the wrong way round: it must be open where the factor is small.": factor > limit,
        "The factor has a square root: it acts on amplitudes.": factor**2 <= limit,
        "The fraction is upside down: the factor grows as abar falls.": 1 / factor <= limit,
        "The limit applies to the factor sqrt((1 - abar) / abar), not to abar itself.": a >= limit,
        "A gate is 1 or 0; this is the factor itself.": factor,
    }
    return {hint: gate.to(a) for hint, gate in wrong.items()}
