"""The exercises of notebook 12: right answers pass, wrong ones get a fitting hint."""

from __future__ import annotations

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy import stats

from anytext_lib.course.checks.nb12 import check_12_bootstrap_means, check_12_fid_of_many, check_12_line_score
from anytext_lib.evaluation import edit_distance_score
from tests.unit.exercise_tables import Exercise, exercise_tests


def distance(read, wanted):
    return Levenshtein.distance(read, wanted)


def line_score(read, wanted):
    wanted = wanted[:20]
    return read == wanted, 1 - distance(read, wanted) / (max(len(read), len(wanted)) + 1e-5)


def by_a_table(read, wanted):
    wanted = wanted[:20]
    row = list(range(len(wanted) + 1))
    for i, a in enumerate(read, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(wanted, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return [row[-1] == 0, 1 - row[-1] / max(len(read), len(wanted))]


def with_correct(rule):
    return lambda read, wanted: (rule(read, wanted), line_score(read, wanted)[1])


def with_ned(rule):
    return lambda read, wanted: (line_score(read, wanted)[0], rule(read, wanted[:20]))


LINE = Exercise(check_12_line_score, [
    line_score, by_a_table,
    lambda r, w: (np.bool_(r == w[:20]), np.float32(edit_distance_score(r, w[:20]))),
    lambda r, w: (int(r == w[:20]), Levenshtein.normalized_similarity(r, w[:20])),
], [
    ("first 20 characters", with_correct(lambda r, w: r == w)),
    (r"only the \*wanted\* text", with_correct(lambda r, w: r[:20] == w[:20])),
    ("upper and lower case", with_correct(lambda r, w: r.lower() == w[:20].lower())),
    ("in place of False", with_correct(lambda r, w: True)),
    ("two values", lambda r, w: r == w),
    ("similarity", with_ned(lambda r, w: distance(r, w) / max(len(r), len(w)))),
    ("number of edits|similarity", with_ned(distance)),
    ("longer", with_ned(lambda r, w: 1 - distance(r, w) / len(w))),
    ("case counts", with_ned(lambda r, w: 1 - distance(r.lower(), w.lower()) / max(len(r), len(w)))),
    ("as it was cut", lambda r, w: (r == w[:20], 1 - distance(r, w) / max(len(r), len(w)))),
    ("in place of", with_ned(lambda r, w: 0.5)),
    ("one number", with_ned(lambda r, w: "half")),
])


def bootstrap_means(values, items, draws, rng):
    _, rows = np.unique(items, return_inverse=True)
    sums, counts = np.bincount(rows, values), np.bincount(rows)
    drawn = rng.integers(len(sums), size=(draws, len(sums)))
    return sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)


def line_by_line(values, items, draws, rng):
    groups = [values[items == item] for item in np.unique(items)]
    return [float(np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))]).mean())
            for _ in range(draws)]


def by_multiplicity(values, items, draws, rng):
    names = np.unique(items)
    means = []
    for _ in range(draws):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        means.append(np.average(values, weights=times[np.searchsorted(names, items)]))
    return np.array(means)


def each_once(values, items, draws, rng):
    return np.array([np.mean(np.concatenate([values[items == i] for i in set(rng.integers(40, size=40))]))
                     for _ in range(draws)])


def means_of_items(values, items, draws, rng):
    means = np.bincount(items, values) / np.bincount(items)
    return means[rng.integers(len(means), size=(draws, len(means)))].mean(axis=1)


BOOTSTRAP = Exercise(check_12_bootstrap_means, [bootstrap_means, line_by_line, by_multiplicity], [
    ("draw items", lambda v, i, draws, rng: v[rng.integers(len(v), size=(draws, len(v)))].mean(axis=1)),
    (r"The mean is over \*lines\*", means_of_items),
    ("counts twice", each_once),
    ("with replacement", lambda v, i, draws, rng: np.full(draws, v.mean())),
    ("one mean for each", lambda v, i, draws, rng: v.mean()),
])


def fid_of_many(sizes, fids):
    return np.polyfit(1 / np.asarray(sizes), fids, 1)[1]


def by_least_squares(sizes, fids):
    design = np.stack([np.ones(len(sizes)), 1 / np.array(sizes)], axis=1)
    return np.linalg.lstsq(design, np.array(fids), rcond=None)[0][0]


def by_covariance(sizes, fids):
    x, y = [1 / n for n in sizes], list(fids)
    mx, my = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
    return my - slope * mx


FID = Exercise(check_12_fid_of_many, [
    fid_of_many, by_least_squares, by_covariance, lambda n, f: stats.linregress(1 / np.array(n), f).intercept,
], [
    ("largest set", lambda n, f: f[-1]),
    ("the mean of what was measured", lambda n, f: float(np.mean(f))),
    ("slope", lambda n, f: np.polyfit(1 / np.asarray(n), f, 1)[0]),
    ("not in N", lambda n, f: np.polyfit(n, f, 1)[1]),
    ("least squares", lambda n, f: (f[-1] * n[-1] - f[0] * n[0]) / (n[-1] - n[0])),
    ("you return", lambda n, f: 1.5),
    ("one number", lambda n, f: f),
])
test_right, test_wrong, test_no_answer = exercise_tests(LINE, BOOTSTRAP, FID)
