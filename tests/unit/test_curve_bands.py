"""Bands of loss curves: smoothing, calibration, departures, false alarms; on curves that are drawn here."""

import numpy as np
import pytest

from anytext_lib.course.training_log import Curve
from anytext_lib.experiments.curve_bands import WINDOW, band_of, calibrated, departures, false_alarms, gap, smoothed

TAGS = ("t/sim", "v/sim")


def drawn(seed, level=1.0, steps=20):
    """A run whose batches scatter by a factor e^0.3, and whose validation by e^0.1."""
    rng = np.random.default_rng(seed)
    return {"t/sim": Curve(np.arange(steps), level * np.exp(0.3 * rng.normal(size=steps))),
            "v/sim": Curve(np.array([10, 20]), level * np.exp(0.1 * rng.normal(size=2)))}


def test_a_training_curve_is_smoothed_and_a_validation_curve_is_not():
    values = np.arange(1.0, 21)
    assert np.exp(smoothed("t/sim", values))[[0, 1, 19]] == pytest.approx([1, 1.5, np.mean(values[-WINDOW:])])
    assert np.exp(smoothed("v/sim", values)) == pytest.approx(values)
    assert np.isfinite(smoothed("v/ctc", np.zeros(3))).all(), "a term that is off is logged as 0"


def test_every_recorded_run_lies_inside_and_a_scaled_one_outside():
    runs = [drawn(seed) for seed in range(12)]
    band = calibrated(runs, TAGS)
    assert not any(each.outside.any() for run in runs for each in departures(band, run).values())
    found = departures(band, drawn(99, level=10))
    assert found["t/sim"].first == 0 and found["v/sim"].first == 10
    assert found["v/sim"].ratio == pytest.approx([10, 10], rel=0.4)
    low, high = band.edges("v/sim")
    assert (low < 1).all() and (high > 1).all() and (low > 0.3).all() and (high < 3).all()


def test_a_run_of_fewer_steps_is_compared_as_far_as_it_goes():
    band = calibrated([drawn(seed) for seed in range(6)], TAGS)
    found = departures(band, drawn(50, steps=5))
    assert found["t/sim"].steps.tolist() == [0, 1, 2, 3, 4]


def test_a_fresh_seed_leaves_the_band_about_as_often_as_is_said():
    """Of 60 bands of 12 runs, each with a fresh run: about 1 / 13 alarms, and the count of those left out agrees."""
    fresh, counted = 0, 0
    for k in range(60):
        runs = [drawn([k, seed]) for seed in range(12)]
        fresh += any(each.outside.any() for each in departures(calibrated(runs, TAGS), drawn([k, 99])).values())
        counted += false_alarms(runs, TAGS) if k < 4 else 0
    assert 0 < fresh / 60 < 0.2
    assert 0 < counted / (4 * 12) < 0.2


def test_spread_says_what_a_fresh_run_does():
    """One part of the deviation comes from the mean of n runs: s sqrt(1 + 1/n)."""
    many = band_of([drawn(seed) for seed in range(400)], TAGS)
    assert many.spread["v/sim"] == pytest.approx([0.1, 0.1], rel=0.15)
    assert many.spread["t/sim"][0] > 2 * many.spread["t/sim"][-1], "the first means are of fewer batches"


def test_two_runs_of_one_seed_differ_by_their_rounding():
    run = drawn(0)
    other = {tag: Curve(curve.steps, curve.values * (1 + 1e-5)) for tag, curve in run.items()}
    assert [each.max() for each in gap(run, other, TAGS).values()] == pytest.approx([1e-5, 1e-5], rel=1e-2)
