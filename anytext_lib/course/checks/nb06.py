"""Checks of notebook 06: the CTC loss."""

from __future__ import annotations

import itertools
import math

import torch

from anytext_lib.course.checks import as_number, expect, expect_value, passed, result_of
from anytext_lib.losses import ctc_loss, frames_needed

PROBES = ((5, [1, 1, 2]), (4, [1, 2]), (6, [2, 1, 1]), (3, [1, 1]), (4, []))  # frames and target of three classes


def check_06_best_alignment(best_alignment) -> None:
    """`best_alignment(log_probs (T, K), target)` is the log-probability of the best path that spells the target."""
    for number, (frames, target) in enumerate(PROBES):
        generator = torch.Generator().manual_seed(600 + number)
        log_probs = (2 * torch.randn(frames, 3, generator=generator, dtype=torch.float64)).log_softmax(-1)
        value = as_number(result_of("best_alignment", best_alignment, log_probs, target), "what best_alignment returns")
        free, total = float(log_probs.amax(-1).sum()), -frames * float(ctc_loss(log_probs[None], [target])[0])
        right = _best_by_hand(log_probs, target)
        where = f"for the target {target} in {frames} frames"
        _best_hints(value, right, free, total, where)
    passed("the best alignment, as found by trying all of them")


def _best_hints(value: float, right: float, free: float, total: float, where: str) -> None:
    if math.isclose(value, right, abs_tol=1e-6):
        return
    expect(not math.isclose(value, -right, abs_tol=1e-6),
           f"{where} the sign is the other way round: a log-probability is negative, a loss would be positive.")
    expect(not math.isclose(value, total, abs_tol=1e-6),
           f"{where} this is the sum over all alignments, which is CTC itself. Which operation adds the three ways "
           "into a state, and what picks the best of them? Mind the last line as well.")
    expect(not math.isclose(value, free, abs_tol=1e-6),
           f"{where} this is the best path of all, whatever it spells. Only paths through the lattice of the target "
           "count.")
    expect(value <= total + 1e-6,
           f"{where} your path has log-probability {value:.4f}, more than all alignments together ({total:.4f}). Is "
           "the skip forbidden between two equal letters?")
    expect(value >= right,
           f"{where} your path has log-probability {value:.4f}, but there is a better one with {right:.4f}. Does it "
           "begin and end in either of two states, and does every step choose the largest of the three ways?")
    expect(False, f"{where} the best alignment has log-probability {right:.4f}, not {value:.4f}. Are three ways "
                  "allowed into a state: stay, step, and skip over a blank between two different letters?")


def _best_by_hand(log_probs: torch.Tensor, target: list[int]) -> float:
    frames, classes = log_probs.shape
    return max(
        float(log_probs[range(frames), path].sum())
        for path in itertools.product(range(classes), repeat=frames)
        if [c for c, _ in itertools.groupby(path) if c] == target
    )


def check_06_longest_prefix(longest_prefix) -> None:
    """`longest_prefix(text, frames)` is the longest beginning of a text that fits."""
    probes = [("HELLO", 40), ("a" * 30, 40), ("abcdefghij" * 5, 40), ("banana", 6), ("balloon", 7), ("", 4), ("aab", 2)]
    for text, frames in probes:
        got = result_of("longest_prefix", longest_prefix, text, frames)
        where = f"longest_prefix({text!r}, {frames})"
        expect(isinstance(got, str),
               f"{where} gives a {type(got).__name__}; the beginning of the text is wanted, a str.")
        expect(text.startswith(got), f"{where} gives {got!r}, which is not a beginning of the text.")
        need = frames_needed([ord(c) for c in got])
        expect(need <= frames, f"{where} gives {got!r}, which needs {need} frames: equal neighbours need a blank "
                               "between them, which takes a frame.")
        more = text[: len(got) + 1]
        fits = len(more) > len(got) and frames_needed([ord(c) for c in more]) <= frames
        expect(not fits, f"{where} gives {got!r}, but {more!r} fits as well. Only letters equal to the one directly "
                         "before them cost an extra frame.")
    passed("every text is cut where its alignments end, and not before")


def check_06_per_character(per_character) -> None:
    """`per_character(value, length, frames)` turns nats / frames into nats / length."""
    for value, length, frames in ((0.25, 5, 40), (0.1, 20, 40), (0.5, 4, 80)):
        got = as_number(result_of("per_character", per_character, value, length, frames), "what per_character returns")
        right = value * frames / length
        where = f"per_character({value}, {length}, {frames})"
        expect_value(got, right, {
            f"{where}: the other way round. The library has divided by the frames; undo that first.":
                value * length / frames,
            f"{where}: the library's value is divided already, by the frames. Undo that before you divide again.":
                value / length,
            f"{where}: these are the nats of the whole line; the colleague's number is for one character.":
                value * frames,
            f"{where}: this takes 40 frames for granted; use the argument.": value * 40 / length,
        }, f"{where} gives {got:.4f}, expected {right:.4f}: nats of the line, divided by its characters.", rtol=1e-6)
    passed("the same nats, on the colleague's scale")
