"""Checks of notebook 04: the recogniser."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

from anytext_lib.course.checks import answered, as_number, expect, passed, result_of

# frames -> (class, first, last) of each character
RUNS: tuple[tuple[list[int], list[tuple[int, int, int]]], ...] = (
    ([0, 0, 5, 0, 7, 7, 0], [(5, 2, 2), (7, 4, 5)]),
    ([3, 3, 3, 0, 3, 0], [(3, 0, 2), (3, 4, 4)]),
    ([4, 9, 9, 2], [(4, 0, 0), (9, 1, 2), (2, 3, 3)]),
    ([0, 0, 0], []),
    ([], []),
)
BOXES = ((200.0, 44.0), (300.0, 30.0), (120.0, 60.0))


def check_04_spans(spans: Callable[[list[int]], list[tuple[int, int, int]]]) -> None:
    """``spans`` returns (class, first frame, last frame) of each run of one character."""
    for ids, wanted in RUNS:
        found = _as_spans(result_of("spans", spans, list(ids)))
        if found == wanted:
            continue
        where = f"for the frames {ids}"
        expect(all(span[0] != 0 for span in found), f"{where} your list holds class 0: the blank is no character.")
        expect(all(len(span) == 3 for span in found), f"{where} an entry is not (class, first frame, last frame).")
        expect(len(found) >= len(wanted), f"{where} you found {len(found)} characters, greedy decoding {len(wanted)}: "
               "the same class after a blank is a new character, not a longer one.")
        expect(len(found) <= len(wanted), f"{where} you found {len(found)} characters, greedy decoding {len(wanted)}: "
               "equal neighbours are one character.")
        expect([s[2] - 1 for s in found] != [s[2] for s in wanted],
               f"{where} your last frames are one too large: the last frame is included, as in (5, 2, 2).")
        expect(False, f"{where} your answer is {found}, expected {wanted}.")
    passed("spans gives each character its frames")


def _as_spans(answer: Any) -> list[tuple[int, ...]]:
    """`answer` as a list of tuples of ints; raises NotYet when it cannot be one."""
    wanted = "a list of (class, first frame, last frame) is wanted"
    expect(isinstance(answer, list | tuple), f"{wanted}, not a {type(answer).__name__}.")
    try:
        return [tuple(map(int, span)) for span in answer]
    except (TypeError, ValueError):
        expect(False, f"{wanted}; an entry of yours is not made of three numbers.")


def check_04_flip_angle(flip_angle: Callable[[float, float], float]) -> None:
    """``flip_angle(w, h)`` is atan(w / h) in degrees."""
    for w, h in BOXES:
        angle = as_number(result_of("flip_angle", flip_angle, w, h), "what flip_angle returns")
        wanted = math.degrees(math.atan2(w, h))
        if math.isclose(angle, wanted, abs_tol=0.01):
            continue
        asked = f"for a box of {w:g} x {h:g}"
        expect(not math.isclose(angle, math.radians(wanted), abs_tol=1e-3), f"{asked} you answer in radians: "
               "use math.degrees.")
        expect(not math.isclose(angle, 90 - wanted, abs_tol=0.01), f"{asked} you have the angle of the diagonal, "
               "atan(h / w). The sides change roles where w cos(theta) = h sin(theta): a long box must be steep.")
        expect(not math.isclose(angle, 90, abs_tol=0.01) and not math.isclose(angle, 45, abs_tol=0.01),
               f"{asked} the angle depends on the shape: try a square, then a very long box.")
        expect(False, f"{asked} the roles change at {wanted:.1f} degrees, you answer {angle:.1f}. Which corners are "
               "the two leftmost ones depends on whether w cos(theta) or h sin(theta) is larger.")
    passed("flip_angle is right: the longer the line, the steeper it may stand")


def check_04_box(covered: float) -> None:
    """The box of a mask of 100 x 12 pixels covers 99 x 11 of them."""
    covered = answered(covered, "covered")
    expect(isinstance(covered, numbers.Real), f"covered is a number between 0 and 1, got {type(covered).__name__}.")
    covered = float(covered)
    expect(not math.isclose(covered, 1, abs_tol=1e-6), "the box is not the mask: section 1 printed 99 x 29 for a mask "
           "of 100 x 30.")
    expect(covered <= 1, "a share is at most 1: divide by the area of the mask, 1200 pixels.")
    expect(not math.isclose(covered, 98 * 10 / 1200, abs_tol=1e-3), "only one pixel is lost in each direction, not one "
           "at each end.")
    expect(not any(math.isclose(covered, v, abs_tol=1e-3) for v in (0.99, 11 / 12)), "both directions lose a pixel, "
           "the width and the height.")
    expect(math.isclose(covered, 99 * 11 / 1200, abs_tol=2e-3), f"corners are pixel centres, so w pixels span w - 1: "
           f"(w - 1)(h - 1) / (w h) is not {covered:.3f}.")
    passed("a small line loses almost a tenth of its box, mostly from its height")
