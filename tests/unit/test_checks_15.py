"""The checks of notebook 15: the solutions pass, untouched and typically wrong answers get their hint."""

import pytest

from anytext_lib.course.checks import NotYet
from anytext_lib.course.checks.nb15 import check_15_attention_gap, check_15_front


def peak(maps):
    return maps.flatten(1).max(dim=1).values


def attention_gap(attention, region):
    return (peak(attention * (1 - region)) - peak(attention * region)).mean()


def front(points):
    def dominates(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    return {name for name, here in points.items() if not any(dominates(other, here) for other in points.values())}


def test_solutions_pass(capsys):
    check_15_attention_gap(attention_gap)
    check_15_front(front)
    check_15_front(lambda points: sorted(front(points)))
    assert capsys.readouterr().out.count("✓") == 3


@pytest.mark.parametrize("check", [check_15_attention_gap, check_15_front])
@pytest.mark.parametrize("empty", [None, ...])
def test_untouched_exercises_are_told_so(check, empty):
    with pytest.raises(NotYet, match="still missing"):
        check(lambda *arguments: empty)


@pytest.mark.parametrize(("answer", "hint"), [
    (lambda a, r: -attention_gap(a, r), "sign is swapped"),
    (lambda a, r: (a * (1 - r)).max() - (a * r).max(), "for each token"),
    (lambda a, r: (a * (1 - r) - a * r).mean(), "means over positions"),
    (lambda a, r: (a * (1 - r) - a * r).flatten(1).sum(1).mean(), "sums over positions"),
    (lambda a, r: -peak(a * r).mean(), "outside is missing"),
    (lambda a, r: peak(a * (1 - r)).mean(), "inside is missing"),
    (lambda a, r: (peak(a) - peak(a * r)).mean(), "leave the region out"),
    (lambda a, r: (peak(a * (1 - r)) - peak(a * r)).sum(), "sum over the tokens"),
    (lambda a, r: peak(a * (1 - r)) - peak(a * r), "one number"),
    (lambda a, r: attention_gap(a.detach(), r), "No gradient"),
    (lambda a, r: attention_gap(a, r) + 0.3, "Expected"),
    (lambda a, r: attention_gap(a, r) + 0 * a.sum() + (a - a.detach()).sum(), "other positions"),
])
def test_wrong_gaps_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_15_attention_gap(answer)


def by(dominates):
    return lambda points: {n for n, p in points.items()
                           if not any(dominates(q, p) for m, q in points.items() if m != n)}


@pytest.mark.parametrize(("answer", "hint"), [
    (by(lambda a, b: a[0] >= b[0] and a[1] >= b[1] and a != b), "high cost is bad"),
    (by(lambda a, b: a[0] <= b[0] and a[1] <= b[1] and a != b), "high score is good"),
    (by(lambda a, b: a[0] <= b[0] and a[1] >= b[1]), "equal points"),
    (by(lambda a, b: a[0] < b[0] and a[1] > b[1]), "Equal in one"),
    (lambda points: {max(points, key=lambda n: points[n][1])}, "best score alone"),
    (lambda points: set(points), "should not be there"),
    (lambda points: set(), "is missing"),
    (lambda points: set(points.values()), "Return names"),
    (lambda points: "a", "set of names"),
])
def test_wrong_fronts_get_their_hint(answer, hint):
    with pytest.raises(NotYet, match=hint):
        check_15_front(answer)
