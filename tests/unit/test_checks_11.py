"""The exercises of notebook 11: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

from math import ceil

import numpy as np
import torch

from anytext_lib.course.checks.nb11 import check_11_ddim_step, check_11_keep_outside, check_11_passes
from anytext_lib.generation import ddim_timesteps
from tests.unit.exercise_tables import Exercise, exercise_tests


def x0_of(x, eps, a):
    return (x - (1 - a) ** 0.5 * eps) / a**0.5


def ddim_step(x, eps, a, a_next):
    return a_next**0.5 * x0_of(x, eps, a) + (1 - a_next) ** 0.5 * eps


def by_one_factor(x, eps, a, a_next):
    ratio = (a_next / a) ** 0.5
    return ratio * x + ((1 - a_next) ** 0.5 - ratio * (1 - a) ** 0.5) * eps


def in_double(x, eps, a, a_next):
    a, a_next = torch.tensor([a, a_next], dtype=torch.float64)
    x0 = (x.double() - (1 - a).sqrt() * eps) / a.sqrt()
    return torch.sqrt(a_next) * x0 + torch.sqrt(1 - a_next) * eps


def by_angles(x, eps, a, a_next):
    return np.sqrt(a_next) * x0_of(x, eps, a) + np.sin(np.arccos(np.sqrt(a_next))) * eps


def in_place(x, eps, a, a_next):
    x -= (1 - a) ** 0.5 * eps
    return x


STEP = Exercise(check_11_ddim_step, [ddim_step, by_one_factor, in_double, by_angles], [
    ("changes x", in_place),
    ("shape of x", lambda x, e, a, n: ddim_step(x, e, a, n).mean()),
    ("that is x0", lambda x, e, a, n: x0_of(x, e, a)),
    ("gives x again", lambda x, e, a, n: ddim_step(x, e, a, a)),
    ("that of a", lambda x, e, a, n: n**0.5 * x0_of(x, e, a) + (1 - a) ** 0.5 * e),
    ("not scaled", lambda x, e, a, n: x0_of(x, e, a) + (1 - n) ** 0.5 * e),
    ("square roots", lambda x, e, a, n: n * (x - (1 - a) * e) / a + (1 - n) * e),
    ("exchanged", lambda x, e, a, n: ddim_step(x, e, n, a)),
    ("values differ", lambda x, e, a, n: ddim_step(x, -e, a, n)),
    ("divided by", lambda x, e, a, n: n**0.5 * (x - (1 - a) ** 0.5 * e) + (1 - n) ** 0.5 * e),
])


def keep_outside(x, clean, noise, inside, a):
    return inside * x + (1 - inside) * (a**0.5 * clean + (1 - a) ** 0.5 * noise)


def by_where(x, clean, noise, inside, a):
    return torch.where(inside > 0, x, a**0.5 * clean + (1 - a) ** 0.5 * noise)


def by_index(x, clean, noise, inside, a):
    kept = (a**0.5 * clean + (1 - a) ** 0.5 * noise).double()
    chosen = inside.bool().expand_as(x)
    kept[chosen] = x[chosen].double()
    return kept


def by_lerp(x, clean, noise, inside, a):
    return torch.lerp(clean * np.sqrt(a) + noise * np.sqrt(1 - a), x, inside)


KEEP = Exercise(check_11_keep_outside, [keep_outside, by_where, by_index, by_lerp], [
    ("shape of x", lambda *given: keep_outside(*given)[0]),
    ("exchanged", lambda x, c, n, m, a: keep_outside(x, c, n, 1 - m, a)),
    ("without noise", lambda x, c, n, m, a: m * x + (1 - m) * c),
    ("wrong proportions", lambda x, c, n, m, a: keep_outside(x, n, c, m, a)),
    ("square roots", lambda x, c, n, m, a: m * x + (1 - m) * (a * c + (1 - a) * n)),
    ("on top", lambda x, c, n, m, a: x + (1 - m) * (a**0.5 * c + (1 - a) ** 0.5 * n)),
    ("nothing", lambda x, c, n, m, a: x),
    ("values differ", lambda x, c, n, m, a: keep_outside(x, c, -n, m, a)),
])


def taken(steps):
    return len(ddim_timesteps(steps))


def passes(images, steps, batch, guided):
    conditions = 2 if guided else 1
    return conditions, conditions * taken(steps) * ceil(images / batch)


def by_counting(images, steps, batch, guided):
    writenet = unet = 0
    for _ in range(1 + guided):
        writenet += 1
        for _ in range(0, images, batch):
            for _ in ddim_timesteps(steps):
                unet += 1
    return [writenet, unet]


def without_the_library(images, steps, batch, guided):
    steps_taken = len(range(0, 1000, 1000 // steps))
    return np.array([1, steps_taken * -(-images // batch)]) * (1 + guided)


PASSES = Exercise(check_11_passes, [passes, by_counting, without_the_library], [
    ("two numbers", lambda i, s, b, g: 3),
    ("need not run at every step", lambda i, s, b, g: (passes(i, s, b, g)[1], passes(i, s, b, g)[1])),
    ("also those of other batches", lambda i, s, b, g: ((1 + g) * ceil(i / b), passes(i, s, b, g)[1])),
    ("share what WriteNet says", lambda i, s, b, g: ((1 + g) * i, passes(i, s, b, g)[1])),
    ("another text caption", lambda i, s, b, g: (1, passes(i, s, b, g)[1])),
    ("2 passes, not 0", lambda i, s, b, g: (0, passes(i, s, b, g)[1])),
    ("one step more", lambda i, s, b, g: (1 + g, (1 + g) * s * ceil(i / b))),
    ("guidance needs", lambda i, s, b, g: (1 + g, taken(s) * ceil(i / b))),
    ("together", lambda i, s, b, g: (1 + g, (1 + g) * taken(s) * i)),
    ("several batches", lambda i, s, b, g: (1 + g, (1 + g) * taken(s))),
    ("round up", lambda i, s, b, g: (1 + g, (1 + g) * taken(s) * max(1, i // b))),
    ("passes, not 0|round up", lambda i, s, b, g: (1 + g, 0)),
])
test_right, test_wrong, test_no_answer = exercise_tests(STEP, KEEP, PASSES)
