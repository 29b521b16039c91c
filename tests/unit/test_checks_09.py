"""The checks of notebook 09 accept solutions and give a fitting hint for typical wrong answers."""

import pytest

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb09 import check_09_attnx_block, check_09_speed_up


def attnx(b, x, c, s, second=None, stale=False, feed=True):
    second = s if second is None else second
    n = b.norm1(x)
    x = x + b.attn1(n)
    x = x + s * b.attn1x(n if stale else b.norm1(x))
    n = b.norm2(x)
    x = x + b.attn2(n, encoder_hidden_states=c)
    x = x + second * b.attn2x(n if stale else b.norm2(x), encoder_hidden_states=c)
    return x + b.ff(b.norm3(x)) if feed else x


def swapped(b, x, c, s):
    x = x + s * b.attn1x(b.norm1(x))
    x = x + b.attn1(b.norm1(x))
    x = x + s * b.attn2x(b.norm2(x), encoder_hidden_states=c)
    x = x + b.attn2(b.norm2(x), encoder_hidden_states=c)
    return x + b.ff(b.norm3(x))


def without_residual(b, x, c, s):
    return b.ff(b.norm3(attnx(b, x, c, s, feed=False)))


def in_place(b, x, c, s):
    x += 1
    return attnx(b, x, c, s)


def speed_up(steps, unet, writenet):
    return steps * (unet + writenet) / (steps * unet + writenet)


def test_solutions_pass(capsys):
    check_09_attnx_block(attnx)
    check_09_speed_up(speed_up)
    assert capsys.readouterr().out.count("✓") == 2


@pytest.mark.parametrize("check", [check_09_attnx_block, check_09_speed_up])
def test_an_unsolved_copy_is_told_so(check):
    with pytest.raises(NotYet, match="still missing"):
        check(lambda *arguments: ...)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda b, x, c, s: x + b.attn2(b.norm2(x)), "encoder_hidden_states"),
        (in_place, "changes x"),
        (lambda b, x, c, s: attnx(b, x, c, s)[0], "shape of x"),
        (lambda b, x, c, s: attnx(b, x, c, s, stale=True), "taken once"),
        (lambda b, x, c, s: attnx(b, x, c, 1.0), "both extra"),
        (lambda b, x, c, s: attnx(b, x, c, s, second=1.0), "missing at attn2x"),
        (lambda b, x, c, s: attnx(b, x, c, 1.0, second=s), "missing at attn1x"),
        (lambda b, x, c, s: attnx(b, x, c, 0.0), "Stable Diffusion"),
        (lambda b, x, c, s: attnx(b, x, c, s, second=0.0), "attn2x is missing"),
        (lambda b, x, c, s: attnx(b, x, c, 0.0, second=s), "attn1x is missing"),
        (swapped, "after"),
        (lambda b, x, c, s: attnx(b, x, c, s, feed=False), "feed-forward"),
        (without_residual, "last line"),
        (lambda b, x, c, s: attnx(b, x, c, s) + 0.1, "one by one"),
        (lambda b, x, c, s: attnx(b, x, c, 0.5), "fixed number"),
    ],
)
def test_attnx_hints(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check_09_attnx_block(wrong)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda n, u, w: [speed_up(n, u, w)], "one number"),
        (lambda n, u, w: 1 / speed_up(n, u, w), "upside down"),
        (lambda n, u, w: (u + w) / u, "limit"),
        (lambda n, u, w: n * (u + w) - n * u - w, "time saved"),
        (lambda n, u, w: speed_up(n, u, w) - 1, "share of 1"),
        (lambda n, u, w: 100 * (speed_up(n, u, w) - 1), "per cent"),
        (lambda n, u, w: n * w / (n * u + w), "UNet at every step"),
        (lambda n, u, w: speed_up(n, w, u), "so 1.3"),
    ],
)
def test_speed_up_hints(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check_09_speed_up(wrong)
