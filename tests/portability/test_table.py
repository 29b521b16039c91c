"""The committed table: every recorded number has been measured elsewhere, and none spreads too far."""

from __future__ import annotations

import pytest

from anytext_lib.course.paths import notebooks_folder
from anytext_lib.publishing.numbers import Baselines
from tests.portability import table
from tests.portability.variants import PLAIN

ROWS = table.read(table.path_of("quick"))
RECORDED = Baselines(notebooks_folder(), "quick", "cpu").entries
SEED_MATTERS = frozenset({"12"})  # of the few words of profile quick all may be read right: then nothing correlates
"""Notebooks whose assertions are about their own seed: under the other one they may fail. Each needs a reason."""


def lines(number: str) -> dict[str, dict[str, str]]:
    return {line["name"]: line for line in ROWS if line["notebook"] == number}


@pytest.mark.parametrize("number", RECORDED)
def test_every_recorded_number_has_been_measured(number):
    missing = [name for name in RECORDED[number] if name not in lines(number)]
    assert not missing, f"run `python -m tests.portability {number}`: the table lacks {', '.join(missing)}"
    few = [name for name, line in lines(number).items() if int(line["variants"]) < len(PLAIN)]
    assert not few, f"run `python -m tests.portability {number}`: not all variants measured {', '.join(few)}"


@pytest.mark.parametrize("number", RECORDED)
def test_no_number_spreads_over_more_than_half_of_its_tolerance(number):
    """Against today's value and tolerance, which may have changed since the table was written."""
    found = lines(number)
    for name, expected in RECORDED[number].items():
        if name in found and found[name]["min"]:  # else the test above says that it has not been measured
            low, high = (float(found[name][end]) for end in ("min", "max"))
            spread = max(high, expected["value"]) - min(low, expected["value"])
            allowed = table.tolerance(expected)
            rounding = 1e-5 * abs(expected["value"])  # the table holds six digits
            assert spread <= table.LIMIT * allowed + rounding, f"{name}: {low} to {high}, tolerance {allowed:.3g}"


@pytest.mark.parametrize("number", RECORDED)
def test_every_variant_runs_to_its_end(number):
    failed = {variant for line in lines(number).values() for variant in line["failed"].split()}
    assert failed <= ({"seed"} if number in SEED_MATTERS else set())


def test_golden_tests_use_at_most_half_of_their_tolerances():
    golden = lines("golden")
    assert len(golden) > 25
    assert not [f"{name}: {line['share']}" for name, line in golden.items() if not float(line["share"]) <= table.LIMIT]
    assert not [name for name, line in golden.items() if line["failed"] or int(line["variants"]) < len(PLAIN)]
