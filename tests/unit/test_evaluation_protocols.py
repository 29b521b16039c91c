"""Rules of counting, intervals and the checks of result files."""
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytext_lib.evaluation import PROTOCOLS, ResultError, bootstrap_interval, protocol, write_result
from anytext_lib.evaluation.report import (
    check_result,
    checkpoint_identity,
    common_value,
    generation,
    plain_table,
    sha256,
    shown,
    write_table,
)

COMPLETE = {"recogniser": None, "crops": None, "lines": None, "sampler": None, "checkpoint": None, "seed": None}


def test_protocols_differ_in_case_length_and_unknown_characters():
    def count(read, wanted):
        return {name: protocol(name).score(read, wanted).correct for name in PROTOCOLS}

    assert count("hello", "Hello") == {"anytext": 0, "anytext-english": 0, "strict": 0, "udifftext": 1}
    assert count("a" * 20, "a" * 25) == {"anytext": 1, "anytext-english": 1, "strict": 0, "udifftext": 0}
    assert count("a" * 25, "a" * 25) == {"anytext": 0, "anytext-english": 0, "strict": 1, "udifftext": 1}
    # two Korean characters that PP-OCR does not know are one class, and so is the space
    assert protocol("anytext").score("한", "국") == (False, 1.0) == protocol("anytext").score(" ", "국")
    assert protocol("strict").score("한", "국").ned < 1e-4
    assert protocol("anytext").score("工", "作").ned < 1e-4 and protocol("anytext-english").score("工", "作").ned == 1


def test_unknown_protocol_is_named():
    with pytest.raises(ValueError, match="no protocol 'anytxt': choose one of .*'anytext'.*'udifftext'"):
        protocol("anytxt")


@given(st.sampled_from(sorted(PROTOCOLS)), st.text("aAbBé 한中ßİ", max_size=24), st.text("aAbBé 한中ßİ", max_size=24))
def test_a_right_line_has_ned_one(name, read, wanted):
    score = protocol(name).score(read, wanted)
    assert 0 <= score.ned <= 1 and score.correct <= score.ned
    assert protocol(name).score(wanted[: PROTOCOLS[name].most], wanted) == (True, 1.0)


def test_interval_covers_the_mean_and_shrinks_with_items():
    rng = np.random.default_rng(0)
    values = rng.random(800)
    few, many = bootstrap_interval(values[:40], range(40)), bootstrap_interval(values, range(800))
    assert few.low < 0.5 < few.high and many.low < 0.5 < many.high
    expected = 2 * 1.96 * values.std() / math.sqrt(800)
    assert many.high - many.low == pytest.approx(expected, rel=0.1) and few.high - few.low > 3 * expected
    assert bootstrap_interval(values, range(800)) == many  # the draws depend on the seed only


def test_lines_of_an_item_are_not_counted_as_independent():
    rng = np.random.default_rng(1)
    item = np.repeat(np.arange(50), 8)
    right = np.repeat(rng.random(50) < 0.5, 8).astype(float)  # all lines of an item are right, or none
    by_items, by_lines = bootstrap_interval(right, item), bootstrap_interval(right, range(400))
    assert by_items.high - by_items.low > 2 * (by_lines.high - by_lines.low)


@pytest.mark.parametrize("values, items", [([], []), ([1.0, 0.0], [3, 3]), ([1.0, 1.0, 1.0], [0, 1, 2])])
def test_no_interval_where_the_data_cannot_tell(values, items):
    assert bootstrap_interval(values, items) == (None, None)


def test_interval_wants_an_item_for_each_value():
    with pytest.raises(ValueError, match="one item for each value"):
        bootstrap_interval([1.0, 0.0], [0])


def test_result_must_carry_what_its_numbers_depend_on(tmp_path):
    with pytest.raises(ResultError, match="does not carry sampler, seed"):
        write_result(tmp_path / "r.json", {k: v for k, v in COMPLETE.items() if k not in ("sampler", "seed")})
    assert not list(tmp_path.iterdir())
    write_result(tmp_path / "r.json", COMPLETE)
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == COMPLETE
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_sentence_accuracy_above_ned_is_refused():
    def result(accuracy, ned):
        return {**COMPLETE, "protocols": {"strict": {"all": {"sentence_accuracy": accuracy, "ned": ned}}}}

    check_result(result(0.5, 0.5))
    check_result(result(None, None))  # no line at all
    with pytest.raises(ResultError, match=r"protocol strict, all: Sen.Acc 0.6000 is above NED 0.5900, which cannot be"):
        check_result(result(0.6, 0.59))


def test_tables(tmp_path):
    write_table(tmp_path / "t.csv", [{"text": 'a "b", c', "n": 1}, {"text": "中", "n": None}])
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").split() == ["text,n", '"a', '""b"",', 'c",1', "中,"]
    assert plain_table([("a", "bb"), ("ccc", "d")]) == "a    bb\n-------\nccc  d"
    assert shown(0.5, [0.25, 0.75]) == "0.5000 [0.2500, 0.7500]" and shown(0.5, [None, None]) == "0.5000"
    assert shown(None) == "none"


def test_checkpoint_is_known_by_its_hash(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.bin").write_bytes(b"a")
    first = checkpoint_identity(tmp_path / "model")
    (tmp_path / "model" / "a.bin").write_bytes(b"b")
    second = checkpoint_identity(tmp_path / "model")
    assert first["name"] == second["name"] == "model" and first["sha256"] != second["sha256"]
    assert checkpoint_identity("sha256:AB12") == {"name": None, "sha256": "ab12"} and checkpoint_identity(None) is None
    assert sha256(tmp_path / "model" / "a.bin") == checkpoint_identity(tmp_path / "model" / "a.bin")["sha256"]
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        checkpoint_identity(tmp_path / "nowhere")


def test_what_the_pictures_say_fills_what_is_not_given():
    rows = [{"sampler": "DDIM 20", "seed": 1}, {"sampler": "DDIM 20", "seed": 2}, None]
    found = generation({"checkpoint": {"name": "m", "sha256": "1"}, "sampler": None}, rows)
    assert found == {"sampler": "DDIM 20", "checkpoint": {"name": "m", "sha256": "1"},
                     "seed": {"different": 2, "values": [1, 2]}, "unknown": []}
    assert generation({"seed": 0}, [None])["unknown"] == ["sampler", "checkpoint"]  # 0 is a seed
    assert common_value([]) is None and common_value([{"a": 1}, {"a": 1}]) == {"a": 1}
