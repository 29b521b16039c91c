"""The exercises of notebook 04: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from anytext_lib.course.checks.nb04 import check_04_box, check_04_flip_angle, check_04_spans
from tests.unit.exercise_tables import Exercise, exercise_tests


def solved_spans(ids):
    found = []
    for t, k in enumerate(ids):
        if k != 0 and (t == 0 or ids[t - 1] != k):
            found.append((k, t, t))
        elif k != 0:
            found[-1] = (k, found[-1][1], t)
    return found


def runs(ids, keep_blank=False):
    start = 0
    for k, group in itertools.groupby(ids):
        n = len(list(group))
        if k or keep_blank:
            yield k, start, start + n - 1
        start += n


def spans_by_differences(ids):
    padded = np.array([-1, *ids, -1])
    edges = np.flatnonzero(np.diff(padded))
    return [(padded[a + 1], a, b - 1) for a, b in itertools.pairwise(edges) if padded[a + 1] != 0]


def merged_over_blanks(ids):
    found = {}
    for t, k in enumerate(ids):
        if k:
            found[k] = (k, found.get(k, (k, t))[1], t)
    return list(found.values())


def flip_angle(w, h):
    return math.degrees(math.atan2(w, h))


def flip_angle_by_search(w, h):
    angles = np.deg2rad(np.linspace(0, 90, 90_001))
    return np.rad2deg(angles[np.argmax(w * np.cos(angles) < h * np.sin(angles))])


test_right, test_wrong, test_no_answer = exercise_tests(
    Exercise(check_04_spans, [solved_spans, lambda ids: [list(run) for run in runs(ids)], spans_by_differences], [
        ("blank is no character", lambda ids: list(runs(ids, keep_blank=True))),
        ("after a blank is a new character", merged_over_blanks),
        ("equal neighbours are one", lambda ids: [(k, t, t) for t, k in enumerate(ids) if k]),
        ("one too large", lambda ids: [(k, a, b + 1) for k, a, b in runs(ids)]),
        ("expected", lambda ids: [(k, 8 * a, 8 * b) for k, a, b in runs(ids)]),
        ("is not", lambda ids: [(k, a) for k, a, _ in runs(ids)]),
        ("not made of three numbers", lambda ids: [k for k, _, _ in runs(ids)]),
        ("a list of .* is wanted, not a dict", lambda ids: {k: (a, b) for k, a, b in runs(ids)}),
        ("spans raises IndexError", lambda ids: [(ids[t], t, t) for t in range(len(ids) + 1)]),
    ]),
    Exercise(check_04_flip_angle, [flip_angle, lambda w, h: 90 - math.degrees(math.atan(h / w)), flip_angle_by_search,
                                   lambda w, h: np.degrees(np.arccos(h / np.hypot(w, h)))], [
        ("radians", lambda w, h: math.atan2(w, h)),
        ("angle of the diagonal", lambda w, h: math.degrees(math.atan2(h, w))),
        ("depends on the shape", lambda w, h: 90),
        ("depends on the shape", lambda w, h: 45),
        ("two leftmost", lambda w, h: 60.0),
        ("one number, not a tuple", lambda w, h: (flip_angle(w, h), 90)),
    ]),
    Exercise(check_04_box, [99 * 11 / 1200, 0.907, np.float32(0.9075)], [
        ("not the mask", 1.0), ("at most 1", 99 * 11), ("not one", 98 * 10 / 1200), ("both directions", 0.99),
        ("both directions", 11 / 12), ("w - 1", 0.5), ("number", "0.9")], a_function=False),
)


@pytest.mark.parametrize(("w", "h"), [(120, 30), (150, 50), (160, 32)])
def test_the_formula_of_the_angle_is_what_line_quad_does(w, h):
    """Below the angle the side from tl to tr is the long one, above it the short one."""
    from anytext_lib.data import TextLines

    def top(angle):
        a = math.radians(-angle)  # rising text
        turn = np.array([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])
        box = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2 @ turn + 128
        quad = TextLines.from_polygons([box], [0], ["x"], ["Latin"], size=(256, 256)).quads[0]
        return (quad[1] - quad[0]).norm().item()

    angle = flip_angle(w, h)
    assert top(angle - 3) > w - 4
    assert top(angle + 3) < h + 4
