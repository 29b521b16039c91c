"""Checks of notebook 05: the OCR loss by hand, and one that forgives slides by whole frames."""

from __future__ import annotations

from collections.abc import Callable

import torch

from anytext_lib.course.checks import answered, expect, passed


def _check_lines(result, lines: int, name: str) -> None:
    answered(result, f"what {name} returns")
    expect(isinstance(result, torch.Tensor), f"{name} should return a tensor, not a {type(result).__name__}.")
    expect(result.ndim != 0, f"{name} returned a single number: keep one value for each line, so that lines can be "
                             "weighted later. Take the mean over frames and numbers only.")
    expect(tuple(result.shape) == (lines,), f"{name} should have the shape ({lines},) for {lines} lines, it has "
                                            f"{tuple(result.shape)}: average over the frames (dim 1) and the "
                                            "numbers (dim 2).")


def _check_constant_reference(loss: Callable, features: torch.Tensor, reference: torch.Tensor) -> None:
    features, reference = features.clone().requires_grad_(), reference.clone().requires_grad_()
    loss(features, reference).sum().backward()
    expect(reference.grad is None or not reference.grad.any(), "a gradient reaches the reference: the truth is a "
                                                               "constant, so detach it.")
    expect(features.grad is not None and features.grad.any(), "no gradient reaches the features of the prediction: "
                                                              "detach the reference only.")


def check_05_careless(careful: Callable) -> None:
    """Exercise 1: `careful(features, reference)` is the OCR loss of each line."""
    generator = torch.Generator().manual_seed(5)
    features, reference = (torch.randn(3, 40, 64, generator=generator) for _ in range(2))
    features[1] *= 3
    result = careful(features, reference)
    _check_lines(result, 3, "careful")
    wanted = (features - reference).square().mean(dim=(1, 2))
    expect(not torch.allclose(result, wanted.sqrt(), rtol=1e-3), "the square root is one slip: the loss is the mean "
                                                                 "square itself.")
    for factor, over in ((64, "the 64 numbers"), (40, "the 40 frames"), (2560, "the frames and numbers")):
        expect(not torch.allclose(result, factor * wanted, rtol=1e-3), f"{factor} times too large: you sum over {over} "
                                                                       "where the loss takes the mean.")
    expect(not torch.allclose(result, (features - reference).abs().mean(dim=(1, 2)), rtol=1e-3),
           "that is the mean absolute difference: square it.")
    expect(torch.allclose(result, wanted, rtol=1e-4), f"the values differ: for a probe of three lines they should be "
                                                      f"{[round(v, 3) for v in wanted.tolist()]}.")
    _check_constant_reference(careful, features, reference)
    passed("one value a line, a mean over 40 x 64, and a constant truth")


def check_05_sliding(sliding: Callable) -> None:
    """Exercise 2: `sliding(features, reference, reach)` is the least OCR loss over slides by whole frames."""
    generator = torch.Generator().manual_seed(6)
    long = torch.randn(2, 46, 64, generator=generator)
    reference, later, earlier, far = long[:, 3:43], long[:, 2:42], long[:, 4:44], long[:, 1:41]
    result = sliding(reference.clone(), reference, 1)
    _check_lines(result, 2, "sliding_ocr_loss")
    expect(result.abs().max() < 1e-6, "equal features should cost 0: is the slide by k = 0 among the candidates?")
    for moved, side in ((later, "right"), (earlier, "left")):
        cost = sliding(moved, reference, 1)
        ring = torch.stack([(moved.roll(k, 1) - reference).square().mean((1, 2)) for k in (-1, 0, 1)]).amin(0)
        expect(not torch.allclose(cost, ring, rtol=1e-3), "torch.roll brings frames back in at the other end, and "
                                                          "they are compared too: cut both tensors to the overlap.")
        expect(cost.max() < 1e-6, f"a line that moved by one frame to the {side} should cost 0 with reach=1: compare "
                                  "frame tau + k of the prediction with frame tau of the reference, also for k < 0.")
    mixed = sliding(torch.stack([later[0], earlier[1]]), reference, 1)
    expect(mixed.max() < 1e-6, "each line may slide differently: take the minimum line by line, after the mean over "
                               "frames and not over the batch.")
    expect(sliding(far, reference, 1).min() > 0.1, "a line that moved by two frames must not be free with reach=1: is "
                                                   "the minimum taken frame by frame, or over too many slides?")
    expect(sliding(far, reference, 2).max() < 1e-6, "with reach=2 a line that moved by two frames should cost 0: use "
                                                    "`reach`, not a fixed 1.")
    _check_constant_reference(lambda f, r: sliding(f, r, 1), far, reference)
    passed("whole frames are forgiven, line by line, and nothing else")
