"""Checks of the exercises of notebook 13."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from anytext_lib.course.checks import expect, expect_value, passed, result_of


def check_13_choose_noise(function: Callable) -> None:
    """`function(noises, losses)` picks a noise for each sample; probed with a batch whose samples disagree."""
    generator = torch.Generator().manual_seed(0)
    noises = torch.randn(4, 3, 2, 5, 6, generator=generator)
    losses = torch.tensor([[-0.7, -0.2, -0.4], [-0.1, -0.9, -0.3], [-0.3, -0.05, -0.8], [-0.5, -0.6, -0.02]])
    got = result_of("choose_noise", function, noises.clone(), losses.clone())
    expect(isinstance(got, torch.Tensor) and got.shape == noises.shape[1:],
           f"Return one noise for each sample, {tuple(noises.shape[1:])} here; yours has the shape "
           f"{tuple(getattr(got, 'shape', ()))}.")
    samples = torch.arange(3)
    expect_value(got, noises[losses.argmin(dim=0), samples], {
        "You take the loss nearest to 0, the *worst* of all: -0.9 is a character that is attended to, -0.05 one that "
        "is lost.": noises[losses.argmax(dim=0), samples],
        "One noise number was taken for the whole batch. Every sample has its own best one.":
            noises[losses.mean(dim=1).argmin()],
        "The candidate with the single best loss was taken for the whole batch. Every sample has its own best one.":
            noises[losses.min(dim=1).values.argmin()],
    }, "These are not the noises of the most negative losses: sample b needs candidate argmin over k of losses[k, b].",
        0.0, 0.0)
    passed("the most negative L_aae wins, sample by sample")


def check_13_refine_once(function: Callable) -> None:
    """`function(x, focus, step_size)` moves latents; probed with a batch whose samples differ in size."""
    x = torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([1.0, 5.0, 0.2]).reshape(3, 1, 1, 1)

    def focus(latents: torch.Tensor) -> torch.Tensor:
        return -torch.exp(-(weights * latents.square()).flatten(1).mean(dim=1))

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(focus(leaf).sum(), leaf)
    with torch.no_grad():
        got = result_of("refine_once", function, x.clone(), focus, 2.0)
    expect(isinstance(got, torch.Tensor) and got.shape == x.shape, "Return latents of the shape of x.")
    got = got.to(x)
    expect(not got.requires_grad, "The result still hangs on the graph: the next step would be differentiated through "
                                  "this one. Detach it.")
    expect_value(got, x - 2 * gradient, {
        "Nothing was moved. Inside torch.no_grad() no graph is made: open torch.enable_grad() around the loss.": x,
        "You move *up* the gradient: L_aae shall fall.": x + 2 * gradient,
        "The gradient is divided by the number of samples: a word would move less because others are in its batch. "
        "Take the sum of the losses, not their mean.": x - 2 * gradient / 3,
        "The step size is not used.": x - gradient,
        "All samples are moved by the sum of the gradients: each has its own.": x - 2 * gradient.sum(dim=0),
    }, "These are not x - step_size times the gradient of each sample's own loss.", 1e-4, 1e-6)
    passed("every sample moves down its own gradient, as if it were alone")


def check_13_strict_sequence_loss(function: Callable) -> None:
    """`function(logits, ids)` is a sequence loss that sees the end; probed with words of different lengths."""
    logits = 2 * torch.randn(3, 7, 9, generator=torch.Generator().manual_seed(2))
    words = [[3, 1, 4], [1, 5, 2, 6, 5], [8]]
    leaf = logits.clone().requires_grad_()
    got = result_of("strict_sequence_loss", function, leaf, words)
    expect(isinstance(got, torch.Tensor) and got.shape == (3,), "Return one loss for each word, of shape (3,).")
    got = got.to(logits)
    right = _slots_loss(logits, words, lambda ids: [*ids, 0])
    expect_value(got, right, {
        "This is upstream's loss: the slot behind the word is free. Ask it for class 0, the end.":
            _slots_loss(logits, words, list),
        "You sum over the slots: divide by their number, len(word) + 1.":
            torch.stack([value * (len(ids) + 1) for value, ids in zip(right, words, strict=True)]),
        "The end slot is in the sum, but you divide by len(word): one slot too few.":
            torch.stack([value * (len(ids) + 1) / len(ids) for value, ids in zip(right, words, strict=True)]),
        "All slots to the last ask for the end: what a reader says behind the end is not read, leave it out.":
            _slots_loss(logits, words, lambda ids: [*ids, *[0] * (7 - len(ids))]),
        "Upstream's clamp is in it: a word that is badly wrong would pull nothing.": right.clamp(max=1),
    }, f"You return {[round(v, 3) for v in got.tolist()]} in place of {[round(v, 3) for v in right.tolist()]}: the "
       "mean cross-entropy of the slots 0..len(word), the last of them against class 0.", rtol=1e-4)
    expect(got.requires_grad, "No gradient reaches the logits: leave out `.detach()` and `torch.no_grad()`.")
    passed("an extra letter now costs as much as a wrong one")


def _slots_loss(logits: torch.Tensor, words: Sequence[Sequence[int]], targets: Callable) -> torch.Tensor:
    """Mean cross-entropy of the first slots against what ``targets`` makes of a word."""
    wanted = [targets(ids) for ids in words]
    return torch.stack([F.cross_entropy(row[: len(ids)], torch.tensor(ids))
                        for row, ids in zip(logits, wanted, strict=True)])
