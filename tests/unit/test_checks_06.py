"""The exercises of notebook 06: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F

from anytext_lib.course.checks.nb06 import check_06_best_alignment, check_06_longest_prefix, check_06_per_character
from anytext_lib.losses import ctc_loss, frames_needed
from tests.unit.exercise_tables import Exercise, exercise_tests


def _viterbi(log_probs, target, forbid_skip_of_equals=True, ends=2, skip=True):
    z = torch.zeros(2 * len(target) + 1, dtype=torch.long)
    z[1::2] = torch.tensor(target, dtype=torch.long)
    may_skip = (z != 0) & ((z != z.roll(2)) | (not forbid_skip_of_equals)) & skip
    best = torch.where(torch.arange(len(z)) < 2, log_probs[0, z], -math.inf)
    for frame in log_probs[1:]:
        ways = [F.pad(best, (k, 0), value=-math.inf)[: len(z)] for k in range(3)]
        best = frame[z] + torch.stack([*ways[:2], ways[2].where(may_skip, -math.inf)]).amax(0)
    return best[-ends:].amax()


def _prefix(text, frames=40, cost=lambda text, i: 1 + (i > 0 and text[i] == text[i - 1])):
    used = itertools.accumulate(cost(text, i) for i in range(len(text)))
    return text[: sum(u <= frames for u in used)]


def _best_of_all_paths(log_probs, target):
    paths = itertools.product(range(log_probs.shape[1]), repeat=len(log_probs))
    spelt = [p for p in paths if [c for c, _ in itertools.groupby(p) if c] == list(target)]
    return max(sum(row[c] for row, c in zip(log_probs.tolist(), p, strict=True)) for p in spelt)


def _best_by_recursion(log_probs, target):
    z = [0] + [c for k in target for c in (k, 0)]

    def best(t, s):
        """The best path that ends in state s of frame t."""
        if s < 0 or t < 0:
            return -math.inf
        if t == 0:
            return log_probs[0, z[s]].item() if s < 2 else -math.inf
        skip = best(t - 1, s - 2) if s > 1 and z[s] and z[s] != z[s - 2] else -math.inf
        return log_probs[t, z[s]].item() + max(best(t - 1, s), best(t - 1, s - 1), skip)

    return max(best(len(log_probs) - 1, s) for s in range(max(0, len(z) - 2), len(z)))


def _prefix_from_the_end(text, frames=40):
    while frames_needed([ord(c) for c in text]) > frames:
        text = text[:-1]
    return text


def _prefix_by_recursion(text, frames=40):
    repeats = sum(a == b for a, b in itertools.pairwise(text))
    return text if len(text) + repeats <= frames else _prefix_by_recursion(text[:-1], frames)


test_right, test_wrong, test_no_answer = exercise_tests(
    Exercise(check_06_best_alignment, [_viterbi, _best_of_all_paths, _best_by_recursion], [
        ("sign", lambda p, t: -_viterbi(p, t)),
        ("sum over all alignments", lambda p, t: -len(p) * ctc_loss(p[None], [t])[0]),
        ("whatever it spells", lambda p, t: p.amax(-1).sum()),
        ("two equal letters|stay, step, and skip", lambda p, t: _viterbi(p, t, forbid_skip_of_equals=False)),
        ("better one", lambda p, t: _viterbi(p, t, ends=1)),
        ("better one", lambda p, t: _viterbi(p, t, skip=False)),
        ("one number, not a Tensor", lambda p, t: p.amax(-1)),
    ]),
    Exercise(check_06_longest_prefix, [_prefix, _prefix_from_the_end, _prefix_by_recursion], [
        ("equal neighbours need a blank", lambda text, frames=40: text[:frames]),
        ("fits as well", lambda text, frames=40: text[: frames // 2]),
        ("directly", lambda text, frames=40: _prefix(text, frames, lambda t, i: 1 + (t[i] in t[:i]))),
        ("a str", lambda text, frames=40: len(_prefix(text, frames))),
        ("a str", lambda text, frames=40: list(_prefix(text, frames))),
        ("not a beginning", lambda text, frames=40: text[::-1][:frames]),
        ("longest_prefix raises IndexError", lambda text, frames=40: _prefix(text, frames) + text[0][:0]),
    ]),
    Exercise(check_06_per_character, [lambda v, n, frames=40: v * frames / n, lambda v, n, frames=40: v / (n / frames),
                                      lambda v, n, frames=40: torch.tensor(v).double() * frames / n], [
        ("other way round", lambda v, n, f=40: v * n / f),
        ("divided already", lambda v, n, f=40: v / n),
        ("whole line", lambda v, n, f=40: v * f),
        ("use the argument", lambda v, n, f=40: v * 40 / n),
        ("expected", lambda v, n, f=40: v + f / n),
        ("one number, not a str", lambda v, n, f=40: f"{v * f / n:.2f} nats"),
    ]),
)
