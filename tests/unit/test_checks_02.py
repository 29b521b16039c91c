"""The checks of notebook 02: the solutions pass, untouched and typically wrong answers get their hint."""

import pytest
import torch

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb02 import check_02_eps_from_v, check_02_last_readable


def eps_from_v(v, x_t, a):
    a = a.reshape(-1, 1, 1, 1)
    return a.sqrt() * v + (1 - a).sqrt() * x_t


def last_readable(alphas_cumprod, eps_error, x0_error):
    amplified = ((1 - alphas_cumprod) / alphas_cumprod).sqrt() * eps_error
    return int((amplified <= x0_error).nonzero().max())


def angle(function):
    """An answer to exercise 1 from a formula of v, x_t, cosine and sine."""
    def answer(v, x_t, a):
        a = a.reshape(-1, 1, 1, 1)
        return function(v, x_t, a.sqrt(), (1 - a).sqrt())
    return answer


def test_solutions_pass(capsys):
    check_02_eps_from_v(eps_from_v)
    check_02_last_readable(last_readable)
    assert capsys.readouterr().out.count("✓") == 2


@pytest.mark.parametrize("check", [check_02_eps_from_v, check_02_last_readable])
@pytest.mark.parametrize("empty", [None, ...])
def test_untouched_exercises_are_told_so(check, empty):
    with pytest.raises(NotYet, match="still missing"):
        check(lambda *arguments: empty)


@pytest.mark.parametrize(("answer", "hint"), [
    (angle(lambda v, x, c, s: c * v - s * x), "sign"),
    (angle(lambda v, x, c, s: c * x - s * v), "x0, not eps"),
    (angle(lambda v, x, c, s: s * v + c * x), "changed places"),
    (angle(lambda v, x, c, s: c**2 * v + s**2 * x), "square roots"),
    (angle(lambda v, x, c, s: (v + s * x) / c), "left over"),
    (angle(lambda v, x, c, s: x), "not eps"),
    (lambda v, x_t, a: a.sqrt() * v + (1 - a).sqrt() * x_t, "reshape a"),
    (lambda v, x_t, a: torch.zeros(3), "shape of x_t"),
])
def test_wrong_conversions_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_02_eps_from_v(answer)


def test_other_errors_of_an_answer_are_not_hidden():
    with pytest.raises(RuntimeError, match="my own"):
        check_02_eps_from_v(lambda v, x_t, a: (_ for _ in ()).throw(RuntimeError("my own")))


def last(factor):
    return lambda abar, eps_error, x0_error: int((factor(abar) * eps_error <= x0_error).nonzero().flatten().tolist()[-1]
                                                 if (factor(abar) * eps_error <= x0_error).any() else -1)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda *arguments: last_readable(*arguments) + 1, "One too far"),
    (last(lambda a: (1 - a) / a), "square root"),
    (last(lambda a: (1 - a).sqrt()), "predicts v"),
    (last(lambda a: a.rsqrt()), "limit at large t"),
    (last(lambda a: (a / (1 - a)).sqrt()), "upside down"),
    (lambda *arguments: float(last_readable(*arguments)), "as an int"),
    (lambda *arguments: 123, "all 1000 timesteps"),
])
def test_wrong_timesteps_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_02_last_readable(answer)
