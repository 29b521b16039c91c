"""Checks of notebook 12: a line's score by AnyText's rule, a bootstrap over items, FID of endlessly many pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from anytext_lib.course.checks import as_number, expect, expect_value, passed, result_of
from anytext_lib.evaluation.score import edit_distance_score


def check_12_line_score(function: Callable) -> None:
    """Exercise 1: `function(read, wanted)` is (correct, ned) of one line by AnyText's rule."""
    long = "abcdefghijklmnopqrstuvwxyz"
    cases = [("Coffee", "Coffee"), ("Cofee", "Coffee"), ("coffee", "Coffee"), ("", "Coffee"), ("Hot el", "Hotel"),
             (long[:20], long), (long, long), ("xyz", long), ("中围", "中国"), ("Coffee house", "Tea")]
    for read, wanted in cases:
        got = result_of("line_score", function, read, wanted)
        expect(isinstance(got, tuple | list) and len(got) == 2, "return two values: correct, ned.")
        correct, ned = got
        _check_correct(correct, read, wanted)
        _check_ned(ned, read, wanted)
    passed("only the wanted text is cut, case counts, and no line that is right has a NED below 1")


def _check_correct(correct: object, read: str, wanted: str) -> None:
    """Hints for the first value."""
    right, said = read == wanted[:20], bool(correct)
    for hint, wrong in {
        "AnyText counts upper and lower case.": read.lower() == wanted[:20].lower(),
        "only the *wanted* text is cut to 20 characters, so a reading that goes on is wrong.":
            read[:20] == wanted[:20],
        "cut the wanted text to its first 20 characters.": read == wanted,
    }.items():
        expect(said == right or said != wrong or wrong == right,
               f"For {read!r} read and {wanted!r} wanted you say {said}: {hint}")
    expect(said == right, f"For {read!r} read and {wanted!r} wanted you say {correct!r} in place of {right}.")


def _check_ned(ned: object, read: str, wanted: str) -> None:
    """Hints for the second value."""
    ned = as_number(ned, "the second value that line_score returns")
    cut = wanted[:20]
    right, shown = edit_distance_score(read, cut), f"For {read!r} read and {wanted!r} wanted you return {ned:.4f}"
    longest = max(len(read), len(cut))
    mistakes = {
        "case counts here, too.": edit_distance_score(read.lower(), cut.lower()),
        "that is the distance as a share; NED in these papers is a *similarity*, 1 minus it.": 1 - right,
        "that is the number of edits: divide it by the longer length, and take 1 minus that.": (1 - right) * longest,
        "divide by the *longer* of the two lengths, not by that of the wanted text.":
            1 - (1 - right) * longest / max(len(cut), 1),
        "compare with the wanted text as it was cut.": edit_distance_score(read, wanted),
    }
    expect_value(ned, right, {f"{shown}: {hint}": wrong for hint, wrong in mistakes.items()},
                 f"{shown} in place of {right:.4f}.", 0.0, 1e-3)


def check_12_bootstrap_means(function: Callable) -> None:
    """Exercise 2: `function(values, items, draws, rng)` gives the means of resamples over items."""
    values, items = _probe()
    got = np.asarray(result_of("bootstrap_means", function, values, items, 4000, np.random.default_rng(1)))
    expect(got.shape == (4000,), f"Return one mean for each of the 4000 draws, not an array of shape {got.shape}.")
    right, lines, each = (way(values, items, np.random.default_rng(2)) for way in (_over_items, _over_lines, _of_items))
    expect(abs(got.mean() - values.mean()) < 0.2 * right.std() or abs(got.mean() - each.mean()) > 0.2 * right.std(),
           "You average the means of items. The mean is over *lines*: an item with many lines counts more. Put "
           "together all lines of the items that were drawn.")
    expect(got.std() > 1e-9, "All your draws are equal: draw items with replacement, as many as there are.")
    expect(got.std() > 0.5 * (right.std() + lines.std()),
           f"Your means scatter by {got.std():.4f}, as if the lines were drawn one by one. Lines of one item are "
           "alike: draw items, and take all lines of each.")
    expect(abs(got.std() / right.std() - 1) < 0.15 and abs(got.mean() - values.mean()) < 0.2 * right.std(),
           f"Your means scatter by {got.std():.4f} around {got.mean():.4f}; they should by {right.std():.4f} around "
           f"{values.mean():.4f}. An item that is drawn twice counts twice.")
    passed("items are drawn, not lines: what is alike must be drawn together")


def _probe() -> tuple[np.ndarray, np.ndarray]:
    """Scores of 40 items with 2 or 8 lines each; those with many lines are worse, and lines of an item are alike."""
    rng = np.random.default_rng(0)
    counts = np.where(np.arange(40) % 2, 8, 2)
    items = np.repeat(np.arange(40), counts)
    level = np.where(np.arange(40) % 2, 0.45, 0.75) + 0.2 * rng.normal(size=40)
    return np.clip(level[items] + 0.05 * rng.normal(size=len(items)), 0, 1), items


def _over_items(values: np.ndarray, items: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sums, counts = np.bincount(items, values), np.bincount(items)
    drawn = rng.integers(len(sums), size=(4000, len(sums)))
    return sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)


def _over_lines(values: np.ndarray, items: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values[rng.integers(len(values), size=(4000, len(values)))].mean(axis=1)


def _of_items(values: np.ndarray, items: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    means = np.bincount(items, values) / np.bincount(items)
    return means[rng.integers(len(means), size=(4000, len(means)))].mean(axis=1)


def check_12_fid_of_many(function: Callable) -> None:
    """Exercise 3: `function(sizes, fids)` is the FID at 1/N = 0 of a straight line in 1/N."""
    sizes = np.array([50.0, 100.0, 200.0, 800.0])
    for limit, slope in ((3.0, 400.0), (0.0, 90.0), (12.0, 0.0)):
        fids = limit + slope / sizes
        got = as_number(result_of("fid_of_many", function, sizes.tolist(), fids.tolist()), "what fid_of_many returns")
        expect_value(got, limit, {
            "That is the FID of the largest set. Go on to 1/N = 0.": fids[-1],
            "That is the mean of what was measured; asked is where the line meets 1/N = 0.": fids.mean(),
            "That is the slope. Asked is the value at 1/N = 0, the intercept.": slope,
            "The line is straight in 1/N, not in N.": np.polyfit(sizes, fids, 1)[1],
        }, f"For FID = {limit:g} + {slope:g} / N you return {got:.4f}.", 0.0, 1e-6)
    noisy = 5 + 300 / sizes + np.array([0.3, -0.2, 0.1, -0.1])
    wanted = np.polyfit(1 / sizes, noisy, 1)[1]
    got = as_number(result_of("fid_of_many", function, sizes.tolist(), noisy.tolist()), "what fid_of_many returns")
    expect(abs(got - wanted) < 1e-6,
           "On noisy values use all points: the line of least squares, not a line through two of them.")
    passed("the size of the sample is taken out, as far as the straight line holds")
