"""Checks of notebook 08: the total of the three losses."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from anytext_lib.course.checks import as_number, expect, expect_value, passed, result_of


def check_08_alpha_for(function: Callable) -> None:
    """`function(share, simple, ocr, weight)` is the alpha that gives the OCR term its share in the median sample."""
    generator = torch.Generator().manual_seed(81)
    for share in (0.1, 0.5, 1.0):
        simple, ocr, weight = 0.1 + torch.rand(3, 7, generator=generator, dtype=torch.float64)
        got = as_number(result_of("alpha_for", function, share, simple, ocr, weight), "what alpha_for returns")
        ratio = weight * ocr / simple
        right = share / ratio.median().item()
        expect_value(got, right, _alpha_mistakes(share, simple, ocr, weight),
                     f"For share {share} alpha should be {right:.4f}, not {got:.4f}: it must satisfy "
                     "median(alpha * weight * ocr / simple) = share.", rtol=1e-6)
    passed("alpha = share / median(weight * ocr / simple)")


def _alpha_mistakes(share: float, simple: torch.Tensor, ocr: torch.Tensor, weight: torch.Tensor) -> dict[str, float]:
    ratio = weight * ocr / simple
    return {
        "The step weight is missing: the OCR term pulls with alpha * weight * ocr.":
            share / (ocr / simple).median().item(),
        "The step weight belongs to the OCR term, not to the diffusion term.":
            share / (ocr / (weight * simple)).median().item(),
        "This is upside down: the stronger the reader pulls at weight 1, the smaller alpha must be.":
            share * ratio.median().item(),
        "This is the force that the reader has at alpha = 1; which alpha brings it to the share?":
            ratio.median().item(),
        "The share is missing: this makes both forces equal.": 1 / ratio.median().item(),
        "This is the mean over the samples; one odd sample would decide. Take the median.": share / ratio.mean().item(),
        "The median of the ratio is not the ratio of the medians: divide first, sample by sample.":
            share * simple.median().item() / (weight * ocr).median().item(),
    }


def check_08_reading_term(function: Callable) -> None:
    """`function(value, image_index, language_weight, step_weight, alpha)` is the logged t/ocr, a scalar."""
    value = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    image_index = torch.tensor([0, 0, 0, 2])  # the second of four samples and the last have no lines
    language = torch.tensor([1.0, 0.5, 0.5, 0.5], dtype=torch.float64)
    step = torch.tensor([0.9, 0.6, 0.2, 0.4], dtype=torch.float64)
    alpha = 0.01
    got = result_of("reading_term", function, value, image_index, language, step, alpha)
    shape = tuple(getattr(got, "shape", ()))
    expect(shape == (), f"One number is wanted, the mean over the samples; this has the shape {shape}.")
    got = as_number(got, "what reading_term returns")
    expect(not math.isnan(got), "A sample without lines gives 0/0 here: let the count be at least 1.")
    mean = torch.tensor([4.0 / 3, 0, 4.0, 0], dtype=torch.float64)
    right = alpha * float((step * mean).mean())
    expect_value(got, right, _reading_mistakes(value, image_index, language, step, alpha),
                 f"Expected {right:.6f}, got {got:.6f}. In this order: weight the lines, take the mean over each "
                 "sample's lines, multiply by the sample's own step weight, take the mean over all samples.", rtol=1e-6)
    one = result_of("reading_term", function, value[:0], image_index[:0], language[:0], step, alpha)
    expect(as_number(one, "the term of a batch without lines") == 0,
           "A batch without any line costs nothing: 0 is wanted.")
    passed("line, sample, batch: the means are in the right order, and no weight is renormalised")


def _reading_mistakes(value, image_index, language, step, alpha) -> dict[str, float]:
    zeros = torch.zeros_like(step)

    def by_sample(per_line):
        return zeros.index_add(0, image_index, per_line)

    count, weighted = by_sample(torch.ones_like(value)), by_sample(language * value)
    mean = weighted / count.clamp(min=1)
    used = count > 0
    return {
        "This is still the colleague's: lines are pooled, step weights averaged, language weights renormalised.":
            alpha * float(step.mean() * (language * value).sum() / language.sum()),
        "The mean over lines is taken over the whole batch: every sample needs its own.":
            alpha * float((step[image_index] * language * value).mean()),
        "The step weights are averaged over the batch; each sample has its own timestep and weight.":
            alpha * float(step.mean() * mean.mean()),
        "The language weights are renormalised: divide by the number of lines, not by the sum of their weights.":
            alpha * float((step * weighted / by_sample(language).clamp(min=1e-9)).mean()),
        "The lines of a sample are added; their mean is wanted.": alpha * float((step * weighted).mean()),
        "The mean over the batch must count the samples without lines too (as zeros).":
            alpha * float((step * mean)[used].mean()),
        "The samples are added; their mean is wanted.": alpha * float((step * mean).sum()),
        "The step weight is missing.": alpha * float(mean.mean()),
        "The language weight is missing.": alpha * float((step * by_sample(value) / count.clamp(min=1)).mean()),
        "alpha is missing: t/ocr is logged after all weights.": float((step * mean).mean()),
    }


def check_08_canvas(answer) -> None:
    """The factor by which |ocr|/|simple| grows on a canvas of four times the area."""
    answer = as_number(answer, "the factor")
    expect_value(answer, 2.0, {
        "That is the factor of each element: the mean divides by 4 times as many. But the norm also has 4 times as "
        "many elements to add up, squared.": 4.0,
        "The lines and the reader's gradient are unchanged, but the diffusion term is a mean over all elements: what "
        "happens to its derivative in one of them?": 1.0,
        "Upside down: does the diffusion term pull harder or more gently when its mean has more elements?": 0.5,
        "Upside down, and for one element only; the norm adds up 4 times as many of them, squared.": 0.25,
        "Count again: twice the width and height are 4 times the elements, and the mean divides once.": 16.0,
    }, "|d sim| is 2 rms / sqrt(N) for N elements; the reader's gradient does not depend on N.", rtol=1e-6)
    passed("twice: |d sim| = 2 rms / sqrt(N), and the reader does not notice the canvas")
