"""The checks of notebook 11: the solutions pass, untouched and typically wrong answers get their hint."""

from math import ceil

import pytest

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb11 import check_11_ddim_step, check_11_keep_outside, check_11_passes
from anytext_lib.generation import ddim_timesteps


def ddim_step(x, eps, a, a_next):
    x0 = (x - (1 - a) ** 0.5 * eps) / a**0.5
    return a_next**0.5 * x0 + (1 - a_next) ** 0.5 * eps


def keep_outside(x, clean, noise, inside, a):
    return inside * x + (1 - inside) * (a**0.5 * clean + (1 - a) ** 0.5 * noise)


def passes(images, steps, batch, guided):
    conditions = 2 if guided else 1
    return conditions, conditions * len(ddim_timesteps(steps)) * ceil(images / batch)


def test_solutions_pass(capsys):
    check_11_ddim_step(ddim_step)
    check_11_keep_outside(keep_outside)
    check_11_passes(passes)
    assert capsys.readouterr().out.count("✓") == 3


@pytest.mark.parametrize("check", [check_11_ddim_step, check_11_keep_outside, check_11_passes])
@pytest.mark.parametrize("empty", [None, ...])
def test_untouched_exercises_are_told_so(check, empty):
    with pytest.raises(NotYet, match="still missing"):
        check(lambda *arguments: empty)


def in_place(x, eps, a, a_next):
    x -= (1 - a) ** 0.5 * eps
    return x


def x0_of(x, eps, a):
    return (x - (1 - a) ** 0.5 * eps) / a**0.5


@pytest.mark.parametrize(("answer", "hint"), [
    (in_place, "changes x"),
    (lambda x, e, a, n: ddim_step(x, e, a, n).mean(), "shape of x"),
    (lambda x, e, a, n: x0_of(x, e, a), "that is x0"),
    (lambda x, e, a, n: ddim_step(x, e, a, a), "gives x again"),
    (lambda x, e, a, n: n**0.5 * x0_of(x, e, a) + (1 - a) ** 0.5 * e, "that of a"),
    (lambda x, e, a, n: x0_of(x, e, a) + (1 - n) ** 0.5 * e, "not scaled"),
    (lambda x, e, a, n: n * (x - (1 - a) * e) / a + (1 - n) * e, "square roots"),
    (lambda x, e, a, n: ddim_step(x, e, n, a), "exchanged"),
    (lambda x, e, a, n: ddim_step(x, -e, a, n), "values differ"),
    (lambda x, e, a, n: n**0.5 * (x - (1 - a) ** 0.5 * e) + (1 - n) ** 0.5 * e, "divided by"),
])
def test_ddim_hints(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_11_ddim_step(answer)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda *given: keep_outside(*given)[0], "shape of x"),
    (lambda x, c, n, m, a: keep_outside(x, c, n, 1 - m, a), "exchanged"),
    (lambda x, c, n, m, a: m * x + (1 - m) * c, "without noise"),
    (lambda x, c, n, m, a: keep_outside(x, n, c, m, a), "wrong proportions"),
    (lambda x, c, n, m, a: m * x + (1 - m) * (a * c + (1 - a) * n), "square roots"),
    (lambda x, c, n, m, a: x + (1 - m) * (a**0.5 * c + (1 - a) ** 0.5 * n), "on top"),
    (lambda x, c, n, m, a: x, "nothing"),
    (lambda x, c, n, m, a: keep_outside(x, c, -n, m, a), "values differ"),
])
def test_keeping_hints(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_11_keep_outside(answer)


def taken(steps):
    return len(ddim_timesteps(steps))


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda i, s, b, g: 3, "two numbers"),
    (lambda i, s, b, g: (passes(i, s, b, g)[1], passes(i, s, b, g)[1]), "need not run at every step"),
    (lambda i, s, b, g: ((1 + g) * ceil(i / b), passes(i, s, b, g)[1]), "also those of other batches"),
    (lambda i, s, b, g: ((1 + g) * i, passes(i, s, b, g)[1]), "share what WriteNet says"),
    (lambda i, s, b, g: (1, passes(i, s, b, g)[1]), "another text caption"),
    (lambda i, s, b, g: (0, passes(i, s, b, g)[1]), "2 passes, not 0"),
    (lambda i, s, b, g: (1 + g, (1 + g) * s * ceil(i / b)), "one step more"),
    (lambda i, s, b, g: (1 + g, taken(s) * ceil(i / b)), "guidance needs"),
    (lambda i, s, b, g: (1 + g, (1 + g) * taken(s) * i), "together"),
    (lambda i, s, b, g: (1 + g, (1 + g) * taken(s)), "several batches"),
    (lambda i, s, b, g: (1 + g, (1 + g) * taken(s) * max(1, i // b)), "round up"),
    (lambda i, s, b, g: (1 + g, 0), "passes, not 0|round up"),
])
def test_counting_hints(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_11_passes(answer)
