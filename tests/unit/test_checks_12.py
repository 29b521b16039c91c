"""The checks of notebook 12: the solutions pass, untouched and typically wrong answers get their hint."""
import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb12 import check_12_bootstrap_means, check_12_fid_of_many, check_12_line_score


def line_score(read, wanted):
    wanted = wanted[:20]
    return read == wanted, 1 - Levenshtein.distance(read, wanted) / (max(len(read), len(wanted)) + 1e-5)


def bootstrap_means(values, items, draws, rng):
    _, rows = np.unique(items, return_inverse=True)
    sums, counts = np.bincount(rows, values), np.bincount(rows)
    drawn = rng.integers(len(sums), size=(draws, len(sums)))
    return sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)


def fid_of_many(sizes, fids):
    return np.polyfit(1 / np.asarray(sizes), fids, 1)[1]


def test_solutions_pass(capsys):
    check_12_line_score(line_score)
    check_12_bootstrap_means(bootstrap_means)
    check_12_fid_of_many(fid_of_many)
    assert capsys.readouterr().out.count("✓") == 3


@pytest.mark.parametrize("check", [check_12_line_score, check_12_bootstrap_means, check_12_fid_of_many])
@pytest.mark.parametrize("empty", [None, ...])
def test_untouched_exercises_are_told_so(check, empty):
    with pytest.raises(NotYet, match="still missing"):
        check(lambda *arguments: empty)


def with_correct(rule):
    return lambda read, wanted: (rule(read, wanted), line_score(read, wanted)[1])


def with_ned(rule):
    return lambda read, wanted: (line_score(read, wanted)[0], rule(read, wanted[:20]))


def distance(read, wanted):
    return Levenshtein.distance(read, wanted)


@pytest.mark.parametrize(("answer", "hint"), [
    (with_correct(lambda r, w: r == w), "first 20 characters"),
    (with_correct(lambda r, w: r[:20] == w[:20]), r"only the \*wanted\* text"),
    (with_correct(lambda r, w: r.lower() == w[:20].lower()), "upper and lower case"),
    (with_correct(lambda r, w: True), "in place of False"),
    (lambda r, w: r == w, "two values"),
    (with_ned(lambda r, w: distance(r, w) / max(len(r), len(w))), "similarity"),
    (with_ned(lambda r, w: distance(r, w)), "number of edits|similarity"),
    (with_ned(lambda r, w: 1 - distance(r, w) / len(w)), "longer"),
    (with_ned(lambda r, w: 1 - distance(r.lower(), w.lower()) / max(len(r), len(w))), "case counts"),
    (lambda r, w: (r == w[:20], 1 - distance(r, w) / max(len(r), len(w))), "as it was cut"),
    (with_ned(lambda r, w: 0.5), "in place of"),
    (with_ned(lambda r, w: "0.5"), "one number"),
])
def test_wrong_scores_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_12_line_score(answer)


def lines_alone(values, items, draws, rng):
    return values[rng.integers(len(values), size=(draws, len(values)))].mean(axis=1)


def means_of_items(values, items, draws, rng):
    means = np.bincount(items, values) / np.bincount(items)
    return means[rng.integers(len(means), size=(draws, len(means)))].mean(axis=1)


def each_once(values, items, draws, rng):
    return np.array([np.mean(np.concatenate([values[items == i] for i in set(rng.integers(40, size=40))]))
                     for _ in range(draws)])


@pytest.mark.parametrize(("answer", "hint"), [
    (lines_alone, "draw items"),
    (means_of_items, r"The mean is over \*lines\*"),
    (each_once, "counts twice"),
    (lambda v, i, draws, rng: np.full(draws, v.mean()), "with replacement"),
    (lambda v, i, draws, rng: v.mean(), "one mean for each"),
])
def test_wrong_bootstraps_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_12_bootstrap_means(answer)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda n, f: f[-1], "largest set"),
    (lambda n, f: float(np.mean(f)), "the mean of what was measured"),
    (lambda n, f: np.polyfit(1 / np.asarray(n), f, 1)[0], "slope"),
    (lambda n, f: np.polyfit(n, f, 1)[1], "not in N"),
    (lambda n, f: (f[-1] * n[-1] - f[0] * n[0]) / (n[-1] - n[0]), "least squares"),
    (lambda n, f: 1.5, "you return"),
    (lambda n, f: f, "one number"),
])
def test_wrong_limits_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_12_fid_of_many(answer)
