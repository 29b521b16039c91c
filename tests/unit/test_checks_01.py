"""The exercises of notebook 01: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from anytext_lib.course.checks.nb01 import check_01_editing_input, check_01_scaled_polygon
from tests.unit.exercise_tables import Exercise, exercise_tests


def scaled(polygon, old, new, shift=0.5):
    scale = np.array([new[1] / old[1], new[0] / old[0]])
    return (np.asarray(polygon) + shift) * scale - shift


def scaled_by_matrix(polygon, old, new):
    x, y = new[1] / old[1], new[0] / old[0]
    matrix = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]])
    return cv2.transform(polygon[None], matrix)[0]


def scaled_point_by_point(polygon, old, new):
    return np.array([[(x + 0.5) / old[1] * new[1] - 0.5, (y + 0.5) / old[0] * new[0] - 0.5] for x, y in polygon])


def in_place(polygon, old, new):
    polygon += 0.5
    polygon *= np.array(new[::-1]) / old[::-1]
    polygon -= 0.5
    return polygon


def editing(image, positions):
    inside = positions.sum(dim=0) > 0
    return torch.where(inside, torch.full_like(image, -1), image)


def editing_in_a_loop(image, positions):
    result = image.clone()
    for mask in positions:
        result[:, mask[0] == 1] = -1
    return result


def editing_by_clamp(image, positions):
    return (image - 10 * positions.sum(0)).clamp(min=-1)


def paint(image, positions):
    image[:, positions[:, 0].sum(0) > 0] = -1
    return image


test_right, test_wrong, test_no_answer = exercise_tests(
    Exercise(check_01_scaled_polygon, [scaled, scaled_by_matrix, scaled_point_by_point], [
        ("cache", in_place),
        ("not a list", lambda p, o, n: scaled(p, o, n).tolist()),
        ("more than four", lambda p, o, n: scaled(p, o, n)[:4]),
        ("exchanged", lambda p, o, n: scaled(p, o[::-1], n[::-1])),
        ("exchanged", lambda p, o, n: scaled(p, o[::-1], n[::-1], 0)),
        ("upside down", lambda p, o, n: scaled(p, n, o)),
        ("one factor", lambda p, o, n: (p + 0.5) * n[1] / o[1] - 0.5),
        ("one factor", lambda p, o, n: (p + 0.5) * n[0] / o[0] - 0.5),
        ("one half", lambda p, o, n: scaled(p, o, n, 0)),
        ("wrong sign", lambda p, o, n: scaled(p, o, n, -0.5)),
        ("round", lambda p, o, n: scaled(p, o, n).round()),
        ("clip", lambda p, o, n: scaled(p, o, n).clip(0, 511)),
        ("should go to", lambda p, o, n: scaled(p, o, n) + 3),
        ("fixed number", lambda p, o, n: scaled(p, o, (512, 512))),
        ("scaled_polygon raises TypeError", lambda p, o, n: p * (n / o)),
    ]),
    Exercise(check_01_editing_input, [editing, editing_in_a_loop, editing_by_clamp], [
        ("changes its arguments", paint),
        ("an image should come out", lambda x, p: editing(x, p)[0]),
        ("a tensor is wanted", lambda x, p: editing(x, p).numpy()),
        ("grey", lambda x, p: x * (1 - p.amax(0))),
        ("grey", lambda x, p: x * (1 - p.sum(0))),
        ("sum is 2", lambda x, p: x * (1 - p.sum(0)) - p.sum(0)),
        ("clamp", lambda x, p: x - 10 * p.amax(0)),
        ("clamp", lambda x, p: x - 10 * p.sum(0)),
        ("wrong way round", lambda x, p: torch.where(p.sum(0) > 0, x, -1.0)),
        ("first line", lambda x, p: editing(x, p[:1])),
        ("generation mode", lambda x, p: -torch.ones_like(x)),
        ("outside", lambda x, p: editing(0.9 * x, p)),
        ("inside the regions", lambda x, p: torch.where(p.sum(0) > 0, -0.9, x)),
        (r"without lines \(L = 0\) raises", lambda x, p: torch.where(p.amax(0) > 0, -1.0, x)),
        ("as it is", lambda x, p: editing(x, p) if len(p) else -torch.ones_like(x)),
    ]),
)
