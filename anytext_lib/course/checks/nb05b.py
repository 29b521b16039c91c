"""Checks of notebook 05b: what an alarm of two readers costs, and a gradient that holds under every view."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from anytext_lib.course.checks import as_number, expect, expect_tensor, expect_value, passed, result_of


def check_05b_alarm(alarm: Callable) -> None:
    """`alarm(first, second, honest)` is (share of painted pictures refused, share of honest ones refused)."""
    first = ["Coffee", "Table ", "River", "Lunch", "Honey", "Magic", "Bread"]
    second = ["Garden", "Table", "Rives", "Lunch", "honey", "Magic", "Bread"]
    honest = [False, False, False, False, True, True, True]
    got = _pair(result_of("alarm", alarm, list(first), list(second), list(honest)))
    mistakes = {
        "the shares are the other way round: first the painted pictures, then the honest ones.": (1 / 3, 2 / 4),
        "these are the shares that are accepted: a picture is refused if the readings differ.": (2 / 4, 2 / 3),
        "'Table ' and 'Table' are the same reading: strip the blanks at the ends.": (3 / 4, 1 / 3),
        "'honey' is not 'Honey': the readings are compared as they are, capitals included.": (2 / 4, 0.0),
        "these are numbers of pictures: divide each by the number of pictures of its kind.": (2.0, 1.0),
        "each share is of the pictures of its own kind, not of all pictures.": (2 / 7, 1 / 7),
    }
    for hint, wrong in mistakes.items():
        expect(not _close(got, wrong), hint)
    expect(_close(got, (2 / 4, 1 / 3)), f"for the probe of seven pictures (0.500, 0.333) is right, you return "
                                        f"({got[0]:.3f}, {got[1]:.3f}).")
    empty = "there may be no pictures of a kind: its share is 0 then, and nothing is divided by 0."
    only = _pair(result_of("alarm", alarm, ["a", "b"], ["a", "c"], [True, True], hints={"division by zero": empty}))
    expect(_close(only, (0.0, 0.5)), empty)
    passed("what an alarm catches says little until you know what it refuses besides")


def _pair(got: object) -> tuple[float, float]:
    expect(isinstance(got, tuple | list) and len(got) == 2, "alarm returns two numbers: the share of the painted "
                                                            "pictures that are refused, and that of the honest ones.")
    return as_number(got[0], "the first share"), as_number(got[1], "the second share")


def _close(got: tuple[float, float], wanted: tuple[float, float]) -> bool:
    return all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(got, wanted, strict=True))


def check_05b_views(gradient: Callable) -> None:
    """`gradient(loss, x, views)` is the gradient at x of the mean of loss(view(x)) over the views."""
    x = torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(5)).requires_grad_()
    views = [lambda x: x, lambda x: 0.5 * x, lambda x: x.roll(1, -1)]
    weights = torch.linspace(-1, 1, x.numel()).reshape(x.shape)

    def loss(picture):
        return (weights * picture).exp().mean()

    def at(value):
        point = x.detach().clone().requires_grad_()
        return torch.autograd.grad(value(point), point)[0]

    before = x.detach().clone()
    got = result_of("gradient_over_views", gradient, loss, x, views,
                    hints={"grad can be implicitly created only for scalar": "differentiate one number: the mean of "
                                                                             "the losses over the views.",
                           "does not require grad": "the views' losses must hang on a tensor that requires a "
                                                    "gradient: x.detach().clone().requires_grad_()."})
    expect_tensor(got, tuple(x.shape), "the gradient has the shape of x.")
    expect(torch.equal(x, before) and x.grad is None, "x or its .grad has changed: work on a copy of x, and let "
                                                      "torch.autograd.grad return the gradient.")
    right = at(lambda p: sum(loss(view(p)) for view in views) / len(views))
    mistakes = {
        "this is the sum over the views: divide by their number.": len(views) * right,
        "this looks through the first view only.": at(lambda p: loss(views[0](p))),
        "this looks through the last view only.": at(lambda p: loss(views[-1](p))),
        "the mean of the views is one blurred picture: take the loss of each view, then the mean of the losses.":
            at(lambda p: loss(sum(view(p) for view in views) / len(views))),
        "this is the way down: the gradient itself is wanted, without a minus.": -right,
    }
    expect_value(got, right, mistakes, "the values differ from the gradient of the mean loss: is every view applied to "
                                       "x, and every loss counted once?", rtol=1e-4)
    passed("a texture that works must work under every view")
