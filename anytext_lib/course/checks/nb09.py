"""Checks of notebook 09: a transformer block with AttnX, and what fast control saves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch

from anytext_lib.course.checks import as_number, expect, expect_value, passed, result_of
from anytext_lib.models.attnx import AttnXBlock

_PARTS = ("norm1", "norm2", "norm3", "attn1", "attn1x", "attn2", "attn2x", "ff")


def _block() -> AttnXBlock:
    """A small block whose extra attentions have weights of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        block = AttnXBlock(16, 2, 8, 12).requires_grad_(False).eval()
        for extra in (block.attn1x, block.attn2x):
            for parameter in extra.parameters():
                parameter.normal_(0, 0.4)
    return block


def check_09_attnx_block(function: Callable) -> None:
    """Exercise 1: `function(block, x, caption, s)` is the output of a block with AttnX."""
    block, generator = _block(), torch.Generator().manual_seed(3)
    x, caption = torch.randn(2, 6, 16, generator=generator), torch.randn(2, 5, 12, generator=generator)
    given = SimpleNamespace(**{name: getattr(block, name) for name in _PARTS})
    kept = x.clone()
    got = result_of("attnx_block", function, given, x, caption, 0.5, hints={
        "mat1 and mat2": "attn2 and attn2x look at the caption: pass encoder_hidden_states=caption to these two."})
    expect(torch.equal(x, kept), "your function changes x: write x = x + ..., not x += ...")
    expect(isinstance(got, torch.Tensor) and got.shape == x.shape, "the output has the shape of x.")
    right = _run(block, x, caption, 0.5)
    expect_value(got, right, _wrong_blocks(block, x, caption), "the values differ from those of the block: go through "
                 "the five terms of the formula one by one.", atol=1e-5)
    silent = result_of("attnx_block", function, given, x, caption, 0.0)
    expect(torch.allclose(silent, _run(block, x, caption, 0.0), atol=1e-5), "with s = 0 the extra attentions must add "
                                                                           "nothing: use `s`, not a fixed number.")
    passed("two attentions, two extra ones, and the norms taken anew each time")


def _run(block, x, caption, s, second=None, stale=False, swapped=False, feed="added"):
    """A block with AttnX, or one of the usual wrong ones; `second` is the scale of attn2x."""
    second, context = s if second is None else second, {"encoder_hidden_states": caption}
    for norm, own, extra, scale, more in ((block.norm1, block.attn1, block.attn1x, s, {}),
                                          (block.norm2, block.attn2, block.attn2x, second, context)):
        terms = [(own, 1.0), (extra, scale)]
        normed = norm(x)
        for attention, factor in reversed(terms) if swapped else terms:
            x = x + factor * attention(normed if stale else norm(x), **more)
    fed = block.ff(block.norm3(x))
    return {"added": x + fed, "alone": fed, "left out": x}[feed]


def _wrong_blocks(block, x, caption) -> dict[str, torch.Tensor]:
    """What a typical wrong answer gives, by the hint for it."""
    return {
        "the norm is taken once for both attentions: take norm1 (norm2) anew, of the x after attn1 (attn2).":
            _run(block, x, caption, 0.5, stale=True),
        "s is missing at both extra attentions.": _run(block, x, caption, 1.0),
        "s is missing at attn2x.": _run(block, x, caption, 0.5, second=1.0),
        "s is missing at attn1x.": _run(block, x, caption, 1.0, second=0.5),
        "attn1x and attn2x are missing: this is the block of Stable Diffusion.": _run(block, x, caption, 0.0),
        "attn2x is missing.": _run(block, x, caption, 0.5, second=0.0),
        "attn1x is missing.": _run(block, x, caption, 0.0, second=0.5),
        "the extra attentions come *after* those of the block.": _run(block, x, caption, 0.5, swapped=True),
        "the feed-forward part ff(norm3(x)) is missing at the end.": _run(block, x, caption, 0.5, feed="left out"),
        "the last line must add ff(norm3(x)) to x.": _run(block, x, caption, 0.5, feed="alone"),
    }


def check_09_speed_up(function: Callable) -> None:
    """Exercise 2: `function(steps, unet, writenet)` is slow control's time over fast control's."""
    for steps, unet, writenet in ((20, 30.0, 10.0), (1, 5.0, 2.0), (50, 1.0, 0.4)):
        got = as_number(result_of("speed_up", function, steps, unet, writenet), "what speed_up returns")
        slow, fast = steps * (unet + writenet), steps * unet + writenet
        right = slow / fast
        mistakes = {
            "upside down: slow divided by fast, so that it is at least 1.": fast / slow,
            "that is the limit for very many steps: with fast control WriteNet runs once, which counts, too.":
                (unet + writenet) / unet,
            "that is the time saved: divide instead.": slow - fast,
            "that is the saving as a share of 1: asked is the ratio of the times.": right - 1,
            "that is in per cent: asked is the ratio of the times.": 100 * (right - 1),
            "slow control runs the UNet at every step as well.": steps * writenet / fast,
        }
        expect_value(got, right, mistakes, f"{steps} steps with passes of {unet} (UNet) and {writenet} (WriteNet): "
                     f"slow {slow:g}, fast {fast:g}, so {right:.4f}; yours is {got:.4f}.", 0.0, 1e-5)
    passed("one pass of WriteNet for each image, however many steps")
