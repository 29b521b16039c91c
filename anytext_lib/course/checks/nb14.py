"""Checks of the exercises of notebook 14."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from anytext_lib.course.checks import as_number, expect, passed, result_of
from anytext_lib.db.labels import unshrink_distance
from anytext_lib.db.loss import balanced_loss, cross_entropy


def check_14_entropy_of_b(function: Callable) -> None:
    """`function(p, t, y, k)` gives the cross-entropy of B for every pixel; probed near the threshold and far off."""
    generator = torch.Generator().manual_seed(0)
    t = torch.rand(2, 5, 7, generator=generator)
    p = (t + 0.2 * torch.rand(t.shape, generator=generator) - 0.1).requires_grad_()
    y = (torch.rand(t.shape, generator=generator) < 0.4).float()
    got = result_of("entropy_of_b", function, p, t, y, 50.0)
    expect(isinstance(got, torch.Tensor) and got.shape == p.shape,
           "Return a value for every pixel, in the shape of p: no mean, no sum.")
    for hint, wrong in {
        "The signs are swapped: B is near 1 where P is *above* T.": 50 * (t - p),
        "T is missing: B compares P with T.": 50 * p,
        "k is missing: B is the sigmoid of k (P - T).": p - t,
    }.items():
        expect(not _equals(got, wrong, y), hint)
    expect(_equals(got, 50 * (p - t), y), "These are not the values of -y log B - (1 - y) log(1 - B).")
    expect(_equals(result_of("entropy_of_b", function, p, t, y, 10.0), 10 * (p - t), y),
           "Use the k that is given; here it was 10.")
    _check_far(function)
    passed("badly wrong pixels are pulled with the full force k, however wrong they are")


def _equals(values: torch.Tensor, logits: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether `values` is the cross-entropy of these logits, pixel by pixel."""
    right = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    return torch.allclose(values.to(right), right, rtol=1e-3, atol=1e-4)


def _check_far(function: Callable) -> None:
    """Badly wrong pixels, in float32."""
    p, y = torch.tensor([0.95, 0.7, 0.05]).requires_grad_(), torch.tensor([0.0, 0.0, 1.0])
    far = result_of("entropy_of_b", function, p, torch.tensor([0.05, 0.3, 0.95]), y, 50.0)
    expect(torch.isfinite(far).all(), f"For gaps of 0.9, 0.4 and -0.9 you return {far.detach().tolist()}: something "
                                      "overflows. Cross-entropy can be computed from k (P - T) without B.")
    expect(far.requires_grad, "No gradient reaches p: leave out `.detach()` and `torch.no_grad()`.")
    (slope,) = torch.autograd.grad(far.sum(), p)
    expect(torch.isfinite(slope).all() and slope.abs().min() > 49,
           f"The values are right near the threshold, but at gaps of 0.9, 0.4 and -0.9 the gradient is "
           f"{slope.tolist()} in place of 50, 50 and -50: B has been rounded. Do not compute B at all; k (P - T) is a "
           "logit.")


def check_14_mined_entropy(function: Callable) -> None:
    """`function(p, y, mask, ratio)` gives one number; probed with few and with many positives."""
    for share, ratio in ((0.05, 3.0), (0.05, 1.0), (0.6, 3.0)):
        p, y, mask = _probe(share)
        got = result_of("mined_entropy", function, p, y, mask, ratio, hints={
            "out of range": "There are fewer negatives than `ratio` times the positives here: take at most as many as "
                            "there are."})
        expect(isinstance(got, torch.Tensor) and got.numel() == 1, "Return one number, a tensor.")
        right = balanced_loss(cross_entropy(p, y), y, mask, ratio)
        for hint, wrong in _wrong_mining(p, y, mask, ratio).items():
            expect(torch.isclose(got, right, rtol=1e-3) or not torch.isclose(got, wrong, rtol=1e-4), hint)
        expect(torch.isclose(got, right, rtol=1e-3),
               f"With {int((y * mask).sum())} positives and a ratio of {ratio:g} you return {got.item():.4f} in place "
               f"of {right.item():.4f}. Add the positives' losses to the largest of the negatives', divide by their "
               "number.")
        expect(got.requires_grad, "No gradient flows to p: leave out `.detach()` and `torch.no_grad()`.")
        (mine,), (library,) = torch.autograd.grad(got, p), torch.autograd.grad(right, p)
        expect(torch.allclose(mine, library, rtol=1e-3, atol=1e-6), "The value is right, its gradient is not: only the "
                                                                   "*choice* of the negatives has no gradient.")
    passed("the hardest negatives, and no others, get a gradient")


def _probe(share: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """P, labels with that share of positives, and a mask."""
    generator = torch.Generator().manual_seed(1)
    p = (0.02 + 0.96 * torch.rand(2, 12, 12, generator=generator, dtype=torch.float64)).requires_grad_()
    y = (torch.rand(p.shape, generator=generator) < share).double()
    return p, y, (torch.rand(p.shape, generator=generator) < 0.8).double()


def _wrong_mining(p: torch.Tensor, y: torch.Tensor, mask: torch.Tensor, ratio: float) -> dict[str, torch.Tensor]:
    """What a typical wrong mining gives, by the hint for it."""
    loss = cross_entropy(p, y)
    positive, negative = loss[(y * mask) > 0], loss[((1 - y) * mask) > 0]
    count = min(len(negative), int(ratio * len(positive)))
    hard, easy = negative.topk(count).values, negative.topk(count, largest=False).values
    return {
        "This is the mean over all pixels of the mask: nothing is mined.": torch.cat([positive, negative]).mean(),
        "You keep the easiest negatives. The hardest are those with the *largest* loss.":
            torch.cat([positive, easy]).mean(),
        "Masked pixels count in your loss: multiply both kinds by the mask.":
            balanced_loss(loss, y, torch.ones_like(y), ratio),
        "Divide by the number of pixels that are kept, not by all.": (positive.sum() + hard.sum()) / loss.numel(),
        "Divide by the number of pixels that are kept, not by all of the mask.":
            (positive.sum() + hard.sum()) / mask.sum(),
        "Divide by positives *and* kept negatives.": (positive.sum() + hard.sum()) / len(positive),
        "One mean over both kinds is asked for, not the sum of two means.": positive.mean() + hard.mean(),
        "The positives are missing.": hard.mean(),
    }


def check_14_unclip_distance(function: Callable) -> None:
    """`function(width, height, r)` gives a number; probed with squares, long lines and other ratios."""
    for width, height, ratio in ((100.0, 10.0, 0.4), (20.0, 20.0, 0.4), (5.0, 300.0, 0.4), (60.0, 24.0, 0.7)):
        got = as_number(result_of("unclip_distance", function, width, height, ratio), "what unclip_distance returns")
        right = unshrink_distance(width, height, ratio)
        area, perimeter, s = width * height, 2 * (width + height), 1 - ratio**2
        for hint, wrong in {
            "This is the rule of thumb, 1.5 A' / L'. Asked is the exact inverse.": 1.5 * area / perimeter,
            "You shrink the *kernel*. Area and perimeter in the formula are those of the large rectangle.":
                s * area / perimeter,
            "The quadratic equation has two solutions; this is the negative one.":
                -s * area / ((8 - 4 * s) * right),
            "Use the r that is given, not 0.4.": unshrink_distance(width, height) if ratio != 0.4 else -1.0,
        }.items():
            expect(abs(got - wrong) > 1e-6 * abs(wrong), hint)
        large = (width + 2 * got) * (height + 2 * got) * s / (2 * (width + height) + 8 * got)
        expect(abs(got - right) < 1e-6 * right,
               f"For {width:g} x {height:g} and r = {ratio} you return {got:.4f}. A rectangle that much larger on all "
               f"sides would be shrunk by {large:.4f}; both numbers must be equal.")
    passed("shrunk and grown again, every rectangle is itself")
