"""What writing costs: passes are counted as they are made, shares have Wilson's interval."""

import pytest
import torch
from torch import nn

from anytext_lib.experiments import noise_search
from anytext_lib.experiments.plan import read_table
from anytext_lib.ocr.judge import Judge
from anytext_lib.recipes.sampling_cost import (
    Passes,
    chosen,
    count_passes,
    measure,
    share_interval,
    summary,
    try_candidates,
    ways,
)
from anytext_lib.recipes.udifftext_grid import draw_words
from anytext_lib.udifftext.euler import Sampling
from anytext_lib.udifftext.model import UDiffTextModel


class Parrot:
    def read(self, crops):
        return ["HAT"] * len(crops)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return UDiffTextModel("tiny").eval()


def test_rows_with_and_without_gradient():
    layer = nn.Linear(2, 2)
    with count_passes(layer) as passes:
        layer(torch.zeros(3, 2))
        with torch.no_grad():
            layer(torch.zeros(4, 2))
    layer(torch.zeros(5, 2))
    assert passes == Passes(7, 3) and passes.units == 13


@pytest.mark.parametrize(("options", "units"), [
    ({}, 2 * 3), ({"guidance": 1.0}, 3), ({"candidates": 2}, 2 * 3 + 2 * 2 * 2), ({"refine": True}, 2 * 3 + 3 * 3),
])
def test_cost_of_a_word(model, options, units):
    sampling = Sampling(**{"steps": 3, "guidance": 3.0, "candidates": 1, "min_size": 4, "thresholds": {}} | options)
    words = draw_words(3, "test", 0, invented=1.0)
    rows = measure(model, words, sampling, Parrot(), part=2)
    assert [row["wanted"] for row in rows] == [word.text for word in words]
    assert {row["units"] for row in rows} == {units}
    assert all(row["right"] == (row["wanted"] == "HAT") and row["seconds"] > 0 for row in rows)


def test_intervals():
    low, high = share_interval(8, 10)
    assert abs(low - 0.490) < 1e-3 and abs(high - 0.943) < 1e-3
    assert share_interval(0, 20)[0] == pytest.approx(0, abs=1e-12) and share_interval(20, 20)[1] == pytest.approx(1)


def test_summary_of_one_way():
    rows = [{"way": way, "right": right, "units": 4, "seconds": 0.5, "focus": -0.5}
            for way, right in (("a", True), ("a", False), ("b", True))]
    assert summary(rows, "a") == {"seq_acc": 0.5, "low": share_interval(1, 2)[0], "high": share_interval(1, 2)[1],
                                  "words": 2, "units": 4.0, "seconds": 0.5, "focus": -0.5}


def test_goals_stand_at_the_same_parts_of_the_way():
    assert list(ways(50)["refined"].thresholds) == [5, 9, 13, 17, 21, 25]
    assert list(ways(20)["refined"].thresholds) == [2, 4, 5, 7, 8, 10]
    assert not ways()["refined, no c_in"].scale_input and ways()["best of 10"].candidates == 10


def test_every_candidate_is_written(model, monkeypatch):
    monkeypatch.setattr("anytext_lib.recipes.sampling_cost.MIN_SIZE", 4)
    words = draw_words(2, "test", 0, invented=1.0)
    rows = try_candidates(model, words, 3, Parrot(), steps=2)
    assert [(row["candidate"], row["wanted"]) for row in rows] == [(k, word.text) for k in range(3) for word in words]
    best, worst = chosen(rows, min), chosen(rows, max)
    assert [row["word"] for row in best] == [0, 1]
    assert all(-1 <= a["focus"] < b["focus"] <= 0 for a, b in zip(best, worst, strict=True))


def test_the_experiment_stores_both_tables(model, monkeypatch, tmp_path, capsys):
    few = {name: way for name, way in ways(3, most=1).items() if name in ("plain", "refined")}
    monkeypatch.setattr(noise_search, "ways", lambda steps, most: few)
    monkeypatch.setattr(Judge, "from_name", staticmethod(lambda name: Parrot()))
    monkeypatch.setattr(UDiffTextModel, "load", classmethod(lambda cls, source: model))
    assert noise_search.main([str(tmp_path), "--model", "a", "--half-trained", "b", "--words", "2", "--steps", "3",
                              "--most", "1", "--candidates", "2"]) == 0
    effort, about = read_table(tmp_path / "effort.parquet")
    tried, _ = read_table(tmp_path / "candidates.parquet")
    assert len(effort) == 2 * 2 * len(few) and len(tried) == 2 * 2 * 2 and about["steps"] == 3
    assert {row["stage"] for row in effort} == {row["stage"] for row in tried} == {"trained", "half-trained"}
