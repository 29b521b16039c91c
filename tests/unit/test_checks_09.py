"""The exercises of notebook 09: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import numpy as np
import torch

from anytext_lib.course.checks.nb09 import check_09_attnx_block, check_09_speed_up
from tests.unit.exercise_tables import Exercise, exercise_tests


def attnx(b, x, c, s, second=None, stale=False, feed=True):
    second = s if second is None else second
    n = b.norm1(x)
    x = x + b.attn1(n)
    x = x + s * b.attn1x(n if stale else b.norm1(x))
    n = b.norm2(x)
    x = x + b.attn2(n, encoder_hidden_states=c)
    x = x + second * b.attn2x(n if stale else b.norm2(x), encoder_hidden_states=c)
    return x + b.ff(b.norm3(x)) if feed else x


def attnx_in_a_loop(b, x, c, s):
    for norm, pair, more in ((b.norm1, (b.attn1, b.attn1x), {}),
                             (b.norm2, (b.attn2, b.attn2x), {"encoder_hidden_states": c})):
        for attention, scale in zip(pair, (1, s), strict=True):
            x = torch.add(x, attention(norm(x), **more), alpha=scale)
    return x + b.ff(b.norm3(x))


def attnx_named(b, x, c, s):
    first = x + b.attn1(b.norm1(x))
    second = first + b.attn1x(b.norm1(first)) * s
    third = second + b.attn2(b.norm2(second), c)
    fourth = third + b.attn2x(b.norm2(third), c) * s
    return b.ff(b.norm3(fourth)) + fourth


def attnx_in_a_copy(b, x, c, s):
    y = x.clone()
    y += b.attn1(b.norm1(y))
    y += s * b.attn1x(b.norm1(y))
    y += b.attn2(b.norm2(y), encoder_hidden_states=c)
    y += s * b.attn2x(b.norm2(y), encoder_hidden_states=c)
    y += b.ff(b.norm3(y))
    return y


def swapped(b, x, c, s):
    x = x + s * b.attn1x(b.norm1(x))
    x = x + b.attn1(b.norm1(x))
    x = x + s * b.attn2x(b.norm2(x), encoder_hidden_states=c)
    x = x + b.attn2(b.norm2(x), encoder_hidden_states=c)
    return x + b.ff(b.norm3(x))


def in_place(b, x, c, s):
    x += b.attn1(b.norm1(x))
    return attnx(b, x, c, s)


def speed_up(steps, unet, writenet):
    return steps * (unet + writenet) / (steps * unet + writenet)


BLOCK = Exercise(check_09_attnx_block, [attnx, attnx_in_a_loop, attnx_named, attnx_in_a_copy], [
    ("encoder_hidden_states", lambda b, x, c, s: x + b.attn2(b.norm2(x))),
    ("changes x", in_place),
    ("shape of x", lambda b, x, c, s: attnx(b, x, c, s)[0]),
    ("taken once", lambda b, x, c, s: attnx(b, x, c, s, stale=True)),
    ("both extra", lambda b, x, c, s: attnx(b, x, c, 1.0)),
    ("missing at attn2x", lambda b, x, c, s: attnx(b, x, c, s, second=1.0)),
    ("missing at attn1x", lambda b, x, c, s: attnx(b, x, c, 1.0, second=s)),
    ("Stable Diffusion", lambda b, x, c, s: attnx(b, x, c, 0.0)),
    ("attn2x is missing", lambda b, x, c, s: attnx(b, x, c, s, second=0.0)),
    ("attn1x is missing", lambda b, x, c, s: attnx(b, x, c, 0.0, second=s)),
    ("after", swapped),
    ("feed-forward", lambda b, x, c, s: attnx(b, x, c, s, feed=False)),
    ("last line", lambda b, x, c, s: b.ff(b.norm3(attnx(b, x, c, s, feed=False)))),
    ("one by one", lambda b, x, c, s: attnx(b, x, c, s) + 0.1),
    ("fixed number", lambda b, x, c, s: attnx(b, x, c, 0.5)),
])
SPEED = Exercise(check_09_speed_up, [
    speed_up,
    lambda n, u, w: (u + w) / (u + w / n),
    lambda n, u, w: 1 + (n - 1) * w / (n * u + w),
    lambda n, u, w: np.sum(np.full(n, u + w)) / (np.sum(np.full(n, u)) + w),
    lambda n, u, w: torch.tensor(float(n * (u + w)), dtype=torch.float64) / (n * u + w),
], [
    ("one number", lambda n, u, w: [speed_up(n, u, w), 1]),
    ("upside down", lambda n, u, w: 1 / speed_up(n, u, w)),
    ("limit", lambda n, u, w: (u + w) / u),
    ("time saved", lambda n, u, w: n * (u + w) - n * u - w),
    ("share of 1", lambda n, u, w: speed_up(n, u, w) - 1),
    ("per cent", lambda n, u, w: 100 * (speed_up(n, u, w) - 1)),
    ("UNet at every step", lambda n, u, w: n * w / (n * u + w)),
    ("so 1.3", lambda n, u, w: speed_up(n, w, u)),
])
test_right, test_wrong, test_no_answer = exercise_tests(BLOCK, SPEED)
