"""The exercises of notebook 08: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import numpy as np
import torch

from anytext_lib.course.checks.nb08 import check_08_alpha_for, check_08_canvas, check_08_reading_term
from tests.unit.exercise_tables import Exercise, exercise_tests


def alpha_for(share, simple, ocr, weight):
    return share / (weight * ocr / simple).median().item()


def alpha_as_a_median(share, simple, ocr, weight):
    return (share * simple / (weight * ocr)).median()


def alpha_sorted_by_hand(share, simple, ocr, weight):
    ratios = sorted(w * o / s for w, o, s in zip(weight.tolist(), ocr.tolist(), simple.tolist(), strict=True))
    return share / ratios[len(ratios) // 2]


def reading_term(value, image_index, language_weight, step_weight, alpha):
    zeros = torch.zeros_like(step_weight)
    count = zeros.index_add(0, image_index, torch.ones_like(value)).clamp(min=1)
    return alpha * (step_weight * zeros.index_add(0, image_index, language_weight * value) / count).mean()


def reading_term_in_a_loop(value, image_index, language_weight, step_weight, alpha):
    total = 0.0
    for sample, weight in enumerate(step_weight):
        own = image_index == sample
        if own.any():
            total += weight * (language_weight * value)[own].mean()
    return alpha * total / len(step_weight)


def reading_term_by_a_matrix(value, image_index, language_weight, step_weight, alpha):
    member = (image_index == torch.arange(len(step_weight))[:, None]).to(value)
    mean = member @ (language_weight * value) / member.sum(1).clamp(min=1)
    return alpha * torch.dot(step_weight, mean) / len(step_weight)


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


test_right, test_wrong, test_no_answer = exercise_tests(
    Exercise(check_08_alpha_for, [alpha_for, alpha_as_a_median, alpha_sorted_by_hand], [
        ("step weight is missing", lambda s, simple, ocr, w: s / (ocr / simple).median()),
        ("belongs to the OCR term", lambda s, simple, ocr, w: s / (ocr / w / simple).median()),
        ("upside down", lambda s, simple, ocr, w: s * (w * ocr / simple).median()),
        ("share is missing|step weight", lambda s, simple, ocr, w: 1 / (w * ocr / simple).median()),
        ("Take the median", lambda s, simple, ocr, w: s / (w * ocr / simple).mean()),
        ("ratio of the medians", lambda s, simple, ocr, w: s * simple.median() / (w * ocr).median()),
        ("must satisfy", lambda s, simple, ocr, w: 7.0),
        ("one number, not a Tensor", lambda s, simple, ocr, w: s * simple / (w * ocr)),
    ]),
    Exercise(check_08_reading_term, [reading_term, reading_term_in_a_loop, reading_term_by_a_matrix], [
        ("still the colleague's", colleague),
        ("over the whole batch", pooled),
        ("0/0", divided_by_zero),
        ("renormalised", renormalised),
        ("alpha is missing", lambda v, i, la, st, a: reading_term(v, i, la, st, 1.0)),
        ("step weight is missing", lambda v, i, la, st, a: reading_term(v, i, la, torch.ones_like(st), a)),
        ("language weight is missing", lambda v, i, la, st, a: reading_term(v, i, torch.ones_like(la), st, a)),
        ("averaged over the batch", lambda v, i, la, st, a: reading_term(v, i, la, st.mean().expand_as(st), a)),
        ("samples are added", lambda v, i, la, st, a: len(st) * reading_term(v, i, la, st, a)),
        ("One number", lambda v, i, la, st, a: torch.zeros(4)),
        ("In this order", lambda v, i, la, st, a: torch.tensor(5.0)),
        ("reading_term raises RuntimeError", lambda v, i, la, st, a: a * (st * la * v)[9:].view(7).mean()),
    ]),
    Exercise(check_08_canvas, [2, 2.0, np.sqrt(4), torch.tensor(2)], [
        ("each element", 4), ("mean over all elements", 1), ("Upside down", 0.5), ("one element", 0.25),
        ("Count again", 16), ("2 rms", 3), ("one number", "twice")], a_function=False),
)
