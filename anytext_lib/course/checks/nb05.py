"""Checks of notebook 05: an OCR loss that leaves the padding out, and one that forgives slides by whole frames."""

from __future__ import annotations

from collections.abc import Callable

import torch

from anytext_lib.course.checks import expect, expect_tensor, expect_value, passed, result_of


def _per_line(got: object, lines: int, name: str) -> None:
    expect(getattr(got, "ndim", None) != 0, f"{name} returned a single number: keep one value for each line, so that "
                                            "lines can be weighted later.")
    expect_tensor(got, (lines,), f"{name} gives one value for each line: average over the frames (dim 1) and the "
                                 "numbers (dim 2).")


def _check_constant_reference(name: str, loss: Callable, features: torch.Tensor, reference: torch.Tensor) -> None:
    features, reference = features.clone().requires_grad_(), reference.clone().requires_grad_()
    result = result_of(name, loss, features, reference)
    reached = [None, None]
    if result.requires_grad:
        reached = torch.autograd.grad(result.sum(), (features, reference), allow_unused=True)
    expect(reached[1] is None or not reached[1].any(), "a gradient reaches the reference: the truth is a constant, so "
                                                       "detach it.")
    expect(reached[0] is not None and reached[0].any(), "no gradient reaches the features of the prediction: detach "
                                                        "the reference only.")


def _mean_squares(difference: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
    """Mean over the numbers and the used frames: (L,) of (L, 40, 64) and (L, 40)."""
    each = difference.square().mean(dim=2)
    return (each * used).sum(dim=1) / used.sum(dim=1)


def check_05_boxed(boxed: Callable) -> None:
    """Exercise 1: `boxed(features, reference, boxes)` is the mean over the frames that touch each line's box."""
    generator = torch.Generator().manual_seed(5)
    features, reference = (torch.randn(4, 40, 64, generator=generator) for _ in range(2))
    features[1] *= 3
    boxes = torch.tensor([80, 123, 320, 5])  # 80 ends a frame, 123 cuts one
    before = features.clone(), reference.clone()
    got = result_of("boxed_ocr_loss", boxed, features, reference, boxes,
                    hints={"size of tensor": "each line has its own number of frames. Compare the frame numbers, "
                                             "torch.arange(40), with boxes[:, None], and average with this mask."})
    expect(torch.equal(features, before[0]) and torch.equal(reference, before[1]),
           "your function changes its arguments: multiply by a mask in place of writing zeros into them.")
    _per_line(got, 4, "boxed_ocr_loss")
    got = got.detach()
    expect(not got.isnan().any(), "there is a NaN: a box of 5 pixels touches one frame, and none is divided by 0.")
    difference, frame = features - reference, torch.arange(40)
    used = (8 * frame < boxes[:, None]).float()
    right = _mean_squares(difference, used)
    expect_value(got, right, _boxed_mistakes(difference, used, boxes), "the values differ: for a probe of four lines "
                 f"they should be {[round(v, 3) for v in right.tolist()]}, yours are "
                 f"{[round(v, 3) for v in got.tolist()]}.", rtol=1e-4)
    _check_constant_reference("boxed_ocr_loss", lambda f, r: boxed(f, r, boxes), features, reference)
    passed("one value a line, a mean over the frames of its box, and a constant truth")


def _boxed_mistakes(difference: torch.Tensor, used: torch.Tensor, boxes: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a typical wrong answer gives, by the hint for it."""
    right, squares = _mean_squares(difference, used), difference.square()
    frame, count = torch.arange(40), used.sum(dim=1)
    whole = (8 * frame + 8 <= boxes[:, None]).float()
    return {
        "this is the plain OCR loss: the padding still counts.": squares.mean(dim=(1, 2)),
        "the padding is silenced and still counted: divide by the number of frames in the box, not by 40.":
            right * count / 40,
        "a frame that the box cuts counts too: frame k covers the pixels 8 k to 8 k + 7, and 8 k < box is enough.":
            (squares.mean(2) * whole).sum(1) / whole.sum(1).clamp(min=1),
        "one frame too many: where a box ends exactly with a frame, the next one does not touch it.":
            _mean_squares(difference, (8 * frame <= boxes[:, None]).float()),
        "64 times too large: you add the 64 numbers where their mean is wanted.": 64 * right,
        "you add the frames where their mean is wanted.": right * count,
        "you add frames and numbers where their mean is wanted.": 64 * right * count,
        "the square root is a slip: the loss is the mean square itself.": right.sqrt(),
        "that is the mean absolute difference: square it.": (difference.abs().mean(2) * used).sum(1) / count,
        "you divide by the frames of the whole batch: every line has its own number.": right * count / count.sum(),
        "these are the frames of the padding: the mask is the wrong way round.":
            _mean_squares(difference, 1 - used).nan_to_num(),
    }


def slide_losses(features: torch.Tensor, reference: torch.Tensor, reach: int) -> torch.Tensor:
    """OCR losses (2 reach + 1, L) of the overlap after slides by -reach to reach frames."""
    n, losses = features.shape[1], []
    for k in range(-reach, reach + 1):
        a, b = features[:, max(k, 0): n + min(k, 0)], reference[:, max(-k, 0): n - max(k, 0)]
        losses.append((a - b).square().mean(dim=(1, 2)))
    return torch.stack(losses)


def check_05_sliding(sliding: Callable) -> None:
    """Exercise 2: `sliding(features, reference, reach)` is the least OCR loss over slides by whole frames."""
    slice_end = ("a slice is empty: for k = 0 a cut at the end like [:, :-k] is [:, :0] and leaves nothing. Cut to an "
                 "explicit end such as n - k.")
    hints = {"size of tensor": slice_end, "empty": slice_end, "at least one frame": slice_end}

    def slide(features, reference, reach):
        return result_of("sliding_ocr_loss", sliding, features, reference, reach, hints=hints)

    generator = torch.Generator().manual_seed(6)
    long = torch.randn(2, 46, 64, generator=generator)
    reference, later, earlier, far = long[:, 3:43], long[:, 2:42], long[:, 4:44], long[:, 1:41]
    result = slide(reference.clone(), reference, 1)
    _per_line(result, 2, "sliding_ocr_loss")
    expect(not result.isnan().any(), slice_end)
    expect(result.abs().max() < 1e-6, "equal features should cost 0: is the slide by k = 0 among the candidates?")
    for moved, side in ((later, "right"), (earlier, "left")):
        cost = slide(moved, reference, 1)
        ring = torch.stack([(moved.roll(k, 1) - reference).square().mean((1, 2)) for k in (-1, 0, 1)]).amin(0)
        expect(not torch.allclose(cost, ring, rtol=1e-3), "torch.roll brings frames back in at the other end, and "
                                                          "they are compared too: cut both tensors to the overlap.")
        expect(cost.max() < 1e-6, f"a line that moved by one frame to the {side} should cost 0 with reach=1: compare "
                                  "frame tau + k of the prediction with frame tau of the reference, also for k < 0.")
    mixed = slide(torch.stack([later[0], earlier[1]]), reference, 1)
    expect(mixed.max() < 1e-6, "each line may slide differently: take the minimum line by line, after the mean over "
                               "frames and not over the batch.")
    expect(slide(far, reference, 1).min() > 0.01, "a line that moved by two frames must not be free with reach=1: is "
                                                  "the minimum taken frame by frame, or over too many slides?")
    expect(slide(far, reference, 2).max() < 1e-6, "with reach=2 a line that moved by two frames should cost 0: use "
                                                  "`reach`, not a fixed 1.")
    _check_scale(slide, generator)
    _check_constant_reference("sliding_ocr_loss", lambda f, r: sliding(f, r, 1), far, reference)
    passed("whole frames are forgiven, line by line, and nothing else")


def _check_scale(slide: Callable, generator: torch.Generator) -> None:
    """Zeros say nothing about the scale: lines that no slide repairs, of 40 frames and of 12."""
    for frames, reach in ((40, 2), (12, 3)):
        features, reference = torch.randn(2, 3, frames, 64, generator=generator)
        got, each = slide(features, reference, reach).detach(), slide_losses(features, reference, reach)
        right = each.amin(dim=0)
        overlaps = frames - torch.arange(-reach, reach + 1).abs()[:, None]
        mistakes = {
            "the values are too large: mean over the frames and numbers of the overlap, not their sum.":
                (each * overlaps * 64).amin(0),
            "the values are too large: mean over the 64 numbers, not their sum.": 64 * right,
            "the values are too large: mean over the frames of the overlap, not their sum.": (each * overlaps).amin(0),
            "this is the root of the loss: leave the mean square as it is.": right.sqrt(),
            "a slide by k leaves fewer frames to compare: divide by their number, not by all frames.":
                (each * overlaps / frames).amin(0),
            "this is the largest loss over the slides: the smallest is wanted.": each.amax(0),
            "this is the mean over the slides: the smallest is wanted.": each.mean(0),
        }
        expect_value(got, right, mistakes, "right where a slide makes the lines equal, wrong elsewhere: for lines of "
                     f"{frames} frames that no slide repairs and reach={reach} you return {got[0]:.3f}, it should be "
                     f"{right[0]:.3f}, the least mean *square* of the differences.", rtol=1e-4)
