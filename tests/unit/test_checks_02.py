"""The exercises of notebook 02: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import torch

from anytext_lib.course.checks.nb02 import check_02_eps_from_v, check_02_last_readable
from tests.unit.exercise_tables import Exercise, exercise_tests


def angle(function):
    """An answer to exercise 1 from a formula of v, x_t, cosine and sine."""
    def answer(v, x_t, a):
        a = a.reshape(-1, 1, 1, 1)
        return function(v, x_t, a.sqrt(), (1 - a).sqrt())
    return answer


def eps_by_way_of_x0(v, x_t, a):
    c, s = a[:, None, None, None] ** 0.5, (1 - a)[:, None, None, None] ** 0.5
    return (x_t - c * (c * x_t - s * v)) / s


def eps_by_einsum(v, x_t, a):
    return torch.einsum("b,bchw->bchw", a.sqrt(), v) + torch.einsum("b,bchw->bchw", (1 - a).sqrt(), x_t)


def eps_by_the_angle(v, x_t, a):
    phi = torch.acos(a.sqrt()).view(-1, 1, 1, 1)
    return torch.cos(phi) * v + torch.sin(phi) * x_t


def last(factor, within=torch.le):
    """An answer to exercise 2 from a factor of abar."""
    def answer(abar, eps_error, x0_error):
        good = within(factor(abar) * eps_error, torch.as_tensor(x0_error)).nonzero()
        return int(good.max()) if len(good) else -1
    return answer


def eps_factor(abar):
    return ((1 - abar) / abar).sqrt()


def last_by_threshold(abar, eps_error, x0_error):
    return int((abar >= 1 / (1 + (x0_error / eps_error) ** 2)).sum()) - 1


def last_by_loop(abar, eps_error, x0_error):
    t = 0
    while t + 1 < len(abar) and (1 / float(abar[t + 1]) - 1) ** 0.5 * eps_error <= x0_error:
        t += 1
    return t


def last_of_another_schedule(abar, eps_error, x0_error):
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return last(eps_factor)((1 - betas).cumprod(0), eps_error, x0_error)


test_right, test_wrong, test_no_answer = exercise_tests(
    Exercise(check_02_eps_from_v, [eps_by_way_of_x0, eps_by_einsum, eps_by_the_angle,
                                   angle(lambda v, x, c, s: c * v + s * x)], [
        ("sign", angle(lambda v, x, c, s: c * v - s * x)),
        ("x0, not eps", angle(lambda v, x, c, s: c * x - s * v)),
        ("changed places", angle(lambda v, x, c, s: s * v + c * x)),
        ("square roots", angle(lambda v, x, c, s: c**2 * v + s**2 * x)),
        ("left over", angle(lambda v, x, c, s: (v + s * x) / c)),
        ("not eps", angle(lambda v, x, c, s: x)),
        ("reshape a", lambda v, x_t, a: a.sqrt() * v + (1 - a).sqrt() * x_t),
        ("shape of x_t", lambda v, x_t, a: torch.zeros(3)),
        ("a tensor is wanted", lambda v, x_t, a: 0.5),
        ("eps_from_v raises AttributeError", lambda v, x_t, a: a.root() * v),
    ]),
    Exercise(check_02_last_readable, [last(eps_factor), last_by_threshold, last_by_loop], [
        ("One too far", lambda *arguments: last(eps_factor)(*arguments) + 1),
        ("square root", last(lambda a: (1 - a) / a)),
        ("predicts v", last(lambda a: (1 - a).sqrt())),
        ("limit at large t", last(lambda a: a.rsqrt())),
        ("upside down", last(lambda a: (a / (1 - a)).sqrt())),
        ("as an int", lambda *arguments: torch.tensor(last(eps_factor)(*arguments))),
        ("all 1000 timesteps", lambda *arguments: 123),
        ("use the argument `alphas_cumprod`", last_of_another_schedule),
        ("last_readable raises IndexError", lambda a, e, x: int((a < 0).nonzero()[-1])),
    ]),
)
