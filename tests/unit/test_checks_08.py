"""Checks of notebook 08: right answers pass, typical wrong ones get their hint."""

from __future__ import annotations

import pytest
import torch

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb08 import check_08_alpha_for, check_08_canvas, check_08_reading_term


def alpha_for(share, simple, ocr, weight):
    return share / (weight * ocr / simple).median().item()


def reading_term(value, image_index, language_weight, step_weight, alpha):
    zeros = torch.zeros_like(step_weight)
    count = zeros.index_add(0, image_index, torch.ones_like(value)).clamp(min=1)
    return alpha * (step_weight * zeros.index_add(0, image_index, language_weight * value) / count).mean()


def test_solutions_pass(capsys):
    check_08_alpha_for(alpha_for)
    check_08_reading_term(reading_term)
    check_08_canvas(2)
    assert capsys.readouterr().out.count("✓") == 3


def test_unsolved_copies_say_what_is_missing():
    for check, what in ((check_08_alpha_for, "what alpha_for returns"), (check_08_reading_term, "what reading_term")):
        with pytest.raises(NotYet, match=f"{what}.* is still missing"):
            check(lambda *_: None)
    with pytest.raises(NotYet, match="the factor is still missing"):
        check_08_canvas(...)


@pytest.mark.parametrize(("wrong", "hint"), [
    (lambda s, simple, ocr, w: s / (ocr / simple).median(), "step weight is missing"),
    (lambda s, simple, ocr, w: s / (ocr / w / simple).median(), "belongs to the OCR term"),
    (lambda s, simple, ocr, w: s * (w * ocr / simple).median(), "upside down"),
    (lambda s, simple, ocr, w: 1 / (w * ocr / simple).median(), "share is missing|step weight"),
    (lambda s, simple, ocr, w: s / (w * ocr / simple).mean(), "Take the median"),
    (lambda s, simple, ocr, w: s * simple.median() / (w * ocr).median(), "ratio of the medians"),
    (lambda s, simple, ocr, w: 7.0, "must satisfy"),
])
def test_wrong_alphas_get_their_hint(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check_08_alpha_for(wrong)


def colleague(value, index, language, step, alpha):
    return alpha * step.mean() * (language * value).sum() / language.sum()


def pooled(value, index, language, step, alpha):
    return alpha * (step[index] * language * value).mean()


def divided_by_zero(value, index, language, step, alpha):
    zeros = torch.zeros_like(step)
    total, count = zeros.index_add(0, index, language * value), zeros.index_add(0, index, torch.ones_like(value))
    return alpha * (step * total / count).mean()


def renormalised(value, index, language, step, alpha):
    zeros = torch.zeros_like(step)
    total, norm = zeros.index_add(0, index, language * value), zeros.index_add(0, index, language)
    return alpha * (step * total / norm.clamp(min=1e-9)).mean()


@pytest.mark.parametrize(("wrong", "hint"), [
    (colleague, "still the colleague's"),
    (pooled, "over the whole batch"),
    (divided_by_zero, "0/0"),
    (renormalised, "renormalised"),
    (lambda v, i, la, st, a: reading_term(v, i, la, st, 1.0), "alpha is missing"),
    (lambda v, i, la, st, a: reading_term(v, i, la, torch.ones_like(st), a), "step weight is missing"),
    (lambda v, i, la, st, a: reading_term(v, i, torch.ones_like(la), st, a), "language weight is missing"),
    (lambda v, i, la, st, a: reading_term(v, i, la, st.mean().expand_as(st), a), "averaged over the batch"),
    (lambda v, i, la, st, a: len(st) * reading_term(v, i, la, st, a), "samples are added"),
    (lambda v, i, la, st, a: torch.zeros(4), "One number"),
    (lambda v, i, la, st, a: torch.tensor(5.0), "In this order"),
])
def test_wrong_totals_get_their_hint(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check_08_reading_term(wrong)


@pytest.mark.parametrize(("answer", "hint"), [
    (4, "each element"), (1, "mean over all elements"), (0.5, "Upside down"), (0.25, "one element"),
    (16, "Count again"), (3, "2 rms"),
])
def test_wrong_factors_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_08_canvas(answer)
