"""Intervals, paired differences and stored results of the experiments."""
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytext_lib.errors import CourseError
from anytext_lib.experiments.paired import StudentInterval, paired_difference, student_interval
from anytext_lib.experiments.plan import read_table, write_table
from anytext_lib.files import write_json


def runs(**arms):
    return [{"arm": arm, "seed": seed, "ned": value} for arm, values in arms.items() for seed, value in values.items()]


def test_interval_is_students():
    found = student_interval([1, 2, 3, 4, 5])
    half = 2.7764451 * np.sqrt(2.5 / 5)  # the quantile of Student's t with 4 degrees of freedom, from a printed table
    assert found == pytest.approx((3, 3 - half, 3 + half, 5))
    assert found.excludes_zero and str(found) == "+3.000 [+1.037, +4.963]"


def test_one_value_has_no_interval():
    found = student_interval([0.5])
    assert found.mean == 0.5 and math.isnan(found.low) and not found.excludes_zero


@pytest.mark.parametrize("values", [[], [1.0, float("nan")]])
def test_interval_needs_finite_values(values):
    with pytest.raises(ValueError, match="at least one value, all finite"):
        student_interval(values)


def test_interval_refuses_an_impossible_confidence():
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        student_interval([1, 2], 95)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [low <= 0 <= high for _, low, high, _ in (student_interval(rng.normal(size=5)) for _ in range(2000))]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(-5, 5))
def test_what_is_common_to_both_arms_cancels(values, common):
    ours = {i: value + common * i for i, value in enumerate(values)}
    theirs = {i: common * i for i in range(len(values))}
    found = paired_difference(runs(ocr=ours, simple=theirs), "ned", "ocr", "simple")
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)


def test_pairs_are_matched_by_seed_and_not_by_order():
    rows = runs(ocr={0: 0.3, 1: 0.6}, simple={1: 0.5, 0: 0.2})
    assert paired_difference(rows, "ned", "ocr", "simple") == pytest.approx(StudentInterval(0.1, 0.1, 0.1, 2))


def test_pairs_must_be_complete_and_unique():
    with pytest.raises(ValueError, match="pairs need the same"):
        paired_difference(runs(ocr={0: 1, 1: 1}, simple={0: 1}), "ned", "ocr", "simple")
    with pytest.raises(ValueError, match="choose one starting point"):
        paired_difference(2 * runs(ocr={0: 1}, simple={0: 1}), "ned", "ocr", "simple")


def test_table_keeps_rows_and_provenance(tmp_path):
    rows, origin = [{"arm": "a", "seed": 0, "ned": 0.5, "curve": [1.0, 2.0]}], {"device": "cpu"}
    write_table(tmp_path / "new" / "runs.parquet", rows, origin)
    assert read_table(tmp_path / "new" / "runs.parquet") == (rows, origin)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["runs.parquet"]


def test_table_errors_name_the_file_and_the_remedy(tmp_path):
    with pytest.raises(CourseError, match="no table .*runs.parquet.*anytext course experiment"):
        read_table(tmp_path / "runs.parquet")
    write_table(tmp_path / "runs.parquet", [{"a": 1}], {})
    whole = (tmp_path / "runs.parquet").read_bytes()
    (tmp_path / "runs.parquet").write_bytes(whole[:-7])
    with pytest.raises(CourseError, match="not a complete Parquet file"):
        read_table(tmp_path / "runs.parquet")
    (tmp_path / "runs.parquet").write_bytes(whole)
    pq.write_table(pq.read_table(tmp_path / "runs.parquet").replace_schema_metadata({}), tmp_path / "other.parquet")
    with pytest.raises(CourseError, match="provenance"):
        read_table(tmp_path / "other.parquet")


def test_json_is_written_whole(tmp_path):
    write_json(tmp_path / "run.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "run.json", {"a": object()})
    assert (tmp_path / "run.json").read_text() == '{\n "a": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.slow
def test_experiment_runs_resumes_and_refuses_other_sizes(tmp_path, monkeypatch, capsys):
    """The whole command on a tiny random model: two arms, one seed, one step."""
    from anytext_lib.experiments import ocr_losses
    from anytext_lib.experiments.ocr_losses import ARMS
    from anytext_lib.experiments.plan import Sizes
    from anytext_lib.models import AnyText2Model

    AnyText2Model.from_config("tiny", tokenizer="bytes").save_pretrained(tmp_path / "tiny")
    sizes = Sizes(seeds=1, steps=1, batch=2, scenes=2, words=2, probes=1, probe_times=(500,), probe_every=1,
                    calibration=1, sampling_steps=2, starts=(("random", str(tmp_path / "tiny")),))
    monkeypatch.setitem(ocr_losses.PROFILES, "test", sizes)
    monkeypatch.setattr(ocr_losses, "ARMS", [arm for arm in ARMS if arm.name in ("simple", "ocr_no_step")])
    assert ocr_losses.main("test", tmp_path / "out", None, "cpu", 1) == 0
    rows, origin = read_table(tmp_path / "out" / "runs.parquet")
    by_arm = {row["arm"]: row for row in rows}
    assert set(by_arm) == {"simple", "ocr_no_step"} and by_arm["simple"]["loss_alpha"] == 0
    assert by_arm["ocr_no_step"]["loss_alpha"] == pytest.approx(origin["calibration"]["random"]["no_step_alpha"])
    assert not by_arm["ocr_no_step"]["with_step_weight"] and 0 <= by_arm["simple"]["ppocrv4_ned"] <= 1
    curves, _ = read_table(tmp_path / "out" / "curves.parquet")
    assert {(row["step"], row["t"]) for row in curves} == {(0, 500), (1, 500)}
    start = {row["arm"]: row["sim"] for row in curves if row["step"] == 0}
    assert start["simple"] == start["ocr_no_step"], "arms begin at the same model and the same probes"

    capsys.readouterr()
    assert ocr_losses.main("test", tmp_path / "out", None, "cpu", 1) == 0
    assert "fine_tune" not in capsys.readouterr().out, "finished runs are not repeated"
    with pytest.raises(CourseError, match="results of other sizes"):
        ocr_losses.main("quick", tmp_path / "out", None, "cpu", 1)
    with pytest.raises(CourseError, match="no profile 'huge'"):
        ocr_losses.main("huge", tmp_path / "out", None, "cpu", 1)
