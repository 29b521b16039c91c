"""The exercises of notebook 04: solutions pass, untouched copies and typical wrong answers get their hint."""

import itertools
import math

import pytest

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb04 import check_04_box, check_04_flip_angle, check_04_spans


def solved_spans(ids):
    found = []
    for t, k in enumerate(ids):
        if k != 0 and (t == 0 or ids[t - 1] != k):
            found.append((k, t, t))
        elif k != 0:
            found[-1] = (k, found[-1][1], t)
    return found


def solved_angle(w, h):
    return math.degrees(math.atan2(w, h))


def runs(ids, keep_blank=False):
    start = 0
    for k, group in itertools.groupby(ids):
        n = len(list(group))
        if k or keep_blank:
            yield k, start, start + n - 1
        start += n


def merged_over_blanks(ids):
    found = {}
    for t, k in enumerate(ids):
        if k:
            found[k] = (k, found.get(k, (k, t))[1], t)
    return list(found.values())


@pytest.mark.parametrize(("check", "answer", "words"), [
    (check_04_spans, solved_spans, "spans gives"),
    (check_04_spans, lambda ids: [list(run) for run in runs(ids)], "spans gives"),
    (check_04_flip_angle, solved_angle, "flip_angle is right"),
    (check_04_box, 99 * 11 / 1200, "tenth"),
    (check_04_box, 0.907, "tenth"),
])
def test_right_answers_pass(check, answer, words, capsys):
    check(answer)
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(("check", "answer", "what"), [
    (check_04_spans, lambda ids: ..., "what spans returns"),
    (check_04_spans, lambda ids: None, "what spans returns"),
    (check_04_flip_angle, lambda w, h: ..., "what flip_angle returns"),
    (check_04_box, ..., "covered"),
])
def test_untouched_copies_are_told_what_is_missing(check, answer, what):
    with pytest.raises(NotYet, match=f"{what} is still missing"):
        check(answer)


@pytest.mark.parametrize(("check", "answer", "hint"), [
    (check_04_spans, lambda ids: list(runs(ids, keep_blank=True)), "blank is no character"),
    (check_04_spans, merged_over_blanks, "after a blank is a new character"),
    (check_04_spans, lambda ids: [(k, t, t) for t, k in enumerate(ids) if k], "equal neighbours are one"),
    (check_04_spans, lambda ids: [(k, a, b + 1) for k, a, b in runs(ids)], "one too large"),
    (check_04_spans, lambda ids: [(k, 8 * a, 8 * b) for k, a, b in runs(ids)], "expected"),
    (check_04_spans, lambda ids: [(k, a) for k, a, _ in runs(ids)], "is not"),
    (check_04_flip_angle, lambda w, h: math.atan2(w, h), "radians"),
    (check_04_flip_angle, lambda w, h: math.degrees(math.atan2(h, w)), "angle of the diagonal"),
    (check_04_flip_angle, lambda w, h: 90, "depends on the shape"),
    (check_04_flip_angle, lambda w, h: 45, "depends on the shape"),
    (check_04_flip_angle, lambda w, h: 60.0, "two leftmost"),
    (check_04_box, 1.0, "not the mask"),
    (check_04_box, 99 * 11, "at most 1"),
    (check_04_box, 98 * 10 / 1200, "not one"),
    (check_04_box, 0.99, "both directions"),
    (check_04_box, 0.5, "w - 1"),
    (check_04_box, "0.9", "number"),
])
def test_wrong_answers_get_their_hint(check, answer, hint):
    with pytest.raises(NotYet, match=hint):
        check(answer)


@pytest.mark.parametrize(("w", "h"), [(120, 30), (150, 50), (160, 32)])
def test_the_formula_of_the_angle_is_what_line_quad_does(w, h):
    """Below the angle the side from tl to tr is the long one, above it the short one."""
    import numpy as np

    from anytext_lib.data import TextLines

    def top(angle):
        a = math.radians(-angle)  # rising text
        turn = np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
        box = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 @ turn + 128
        quad = TextLines.from_polygons([box], [0], ["x"], ["Latin"], size=(256, 256)).quads[0]
        return (quad[1] - quad[0]).norm().item()

    angle = solved_angle(w, h)
    assert top(angle - 3) > w - 4
    assert top(angle + 3) < h + 4
