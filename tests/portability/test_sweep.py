"""The sweep itself: what a variant changes, when a kept result counts, and what the table says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.portability import __main__ as main
from tests.portability import sweep, table
from tests.portability.variants import FAST, FAST_NOTEBOOKS, PLAIN, VARIANTS

LOSS = {"value": 2.0, "rtol": 0.1, "atol": 0.0}


def result(failure=None, **records):
    """A kept result."""
    return {"records": records, "failure": failure, "seconds": 1.0, "key": {}}


@pytest.mark.parametrize("name, capability", [("sse41-1", "DEFAULT"), ("avx2-2", "AVX2")])
def test_variant_lowers_what_torch_uses(name, capability, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    source = ("import json, os, torch; print(json.dumps([torch.backends.cpu.get_cpu_capability(), "
              "torch.get_num_threads(), os.environ['OPENBLAS_CORETYPE']]))")
    environment = VARIANTS[name].environment(dict(sweep.os.environ))
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=True)
    found, threads, core = json.loads(done.stdout)
    assert found in (capability, "DEFAULT") and threads == VARIANTS[name].threads and core != "Zen"
    assert "OPENBLAS_CORETYPE" not in VARIANTS["own-1"].environment({"OPENBLAS_CORETYPE": "Zen"})


def test_variants_are_those_asked_for():
    assert {each.name for each in PLAIN} == {f"{kernels}-{n}" for kernels in ("sse41", "avx2", "own") for n in (1, 2)}
    assert set(FAST) <= set(VARIANTS) and FAST_NOTEBOOKS == ("03", "05", "06", "08", "14")


def test_other_seed_only_where_there_is_one():
    found = sweep.cases([], list(VARIANTS.values()), "quick")
    assert {case.variant.name for case in found if case.book is None} == {each.name for each in PLAIN}
    of_08 = {case.variant.name: case for case in found if case.book and case.book.number == "08"}
    assert set(of_08) == set(VARIANTS) and of_08["own-1-seed"].parameters() == {"seed": 1008}
    seeded = {case.book.number for case in found if case.variant.other_seed}
    assert "seed" in sweep.notebooks.parameters_of(sweep.notebooks.read(of_08["own-1"].book.path), "08") and seeded


def test_result_counts_until_what_it_depends_on_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "FOLDER", tmp_path)
    (case,) = sweep.cases(["08"], [VARIANTS["own-1"]], "quick")
    assert case.result() is None
    monkeypatch.setattr(sweep.Case, "_notebook", lambda self: ({"loss": 2.0}, None))
    case.run()
    assert case.result()["records"] == {"loss": 2.0}
    monkeypatch.setattr(sweep, "library_hash", lambda: "another")
    assert case.result() is None and case.result(any_library=True)["records"] == {"loss": 2.0}
    monkeypatch.setattr(sweep.notebooks, "code_cells", lambda notebook: notebook.cells[:1])
    assert case.result(any_library=True) is None


def test_row_holds_the_spread_and_its_share_of_the_tolerance():
    plain = {"own-1": result(loss=2.0), "avx2-1": result(loss=2.05), "sse41-2": result(loss=1.99)}
    line = table.row("08", "loss", LOSS, plain, result(loss=2.5))
    assert float(line["spread"]) == pytest.approx(0.06) and float(line["share"]) == pytest.approx(0.3)
    assert float(line["seed_spread"]) == 0.5 and line["variants"] == "3" and line["failed"] == ""
    assert table.complaints([line], 3) == []
    assert table.complaints([line], 6) == ["08 loss: measured under 3 of 6 variants"]


def test_what_is_unstable_or_fails_is_named():
    plain = {"own-1": result(loss=2.0), "avx2-1": result(loss=2.15)}
    wide = table.row("08", "loss", LOSS, plain, None)
    assert table.complaints([wide], 2) == ["08 loss: spread 0.15 is 75% of its tolerance 0.2 (at most 50%)"]
    exact = table.row("08", "count", {"value": 3}, {"own-1": result(count=4)}, None)
    assert exact["share"] == "inf" and table.complaints([exact], 1)
    broken = table.row("08", "loss", LOSS, {"own-1": result(failure="AssertionError")}, None)
    assert "08 fails under own-1" in table.complaints([broken], 1)


def test_fast_part_says_what_drifted_and_fails(monkeypatch, capsys):
    case = sweep.cases(["08"], [VARIANTS["own-1"]], "quick")[0]
    monkeypatch.setattr(main, "cases", lambda *_: [case])
    monkeypatch.setattr(sweep.Case, "result", lambda self, any_library: result(**{"inside.simple.t200": 9.0}))
    assert main.main(["--fast"]) == 1
    said = capsys.readouterr().out
    assert "inside.simple.t200 drifted: recorded 9.0" in said and "portable: 0 of 1 well" in said


def test_request_that_is_wrong(capsys):
    assert main.main(["77"]) == 2 and "no notebook '77'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main.main(["--variants", "mmx"])


def test_table_of_what_is_kept_runs_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "FOLDER", tmp_path)
    monkeypatch.setattr(table, "HERE", tmp_path)
    monkeypatch.setattr(sweep.Case, "run", lambda self: pytest.fail("runs"))
    assert main.main(["08", "--table"]) == 1
    assert "not measured" in capsys.readouterr().out
    assert {line["variants"] for line in table.read(tmp_path / "spread.quick.csv")} == {"0"}


def test_golden_comparison_is_written_down_and_held(tmp_path, monkeypatch):
    from tests.golden.closeness import assert_close

    monkeypatch.setenv("ANYTEXT_GOLDEN_REPORT", str(tmp_path / "report"))
    assert_close([1.0, 2.002, float("nan")], [1.0, 2.0, float("nan")], rtol=1e-3, atol=2e-3, what="pair")
    with pytest.raises(AssertionError, match="pair: off by 0.1 at .0,., where 0.01 are allowed"):
        assert_close([1.1], [1.0], rtol=0.01, what="pair")
    with pytest.raises(AssertionError):
        assert_close([float("nan")], [1.0], atol=9)
    first = json.loads((tmp_path / "report").read_text().splitlines()[0])
    assert first["what"] == "pair" and first["share"] == pytest.approx(0.5) and "written_down" in first["test"]
