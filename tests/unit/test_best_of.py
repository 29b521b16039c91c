"""`--best-of` and `--report`: candidates read by an independent reader, and what an edit did to its picture."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from anytext_lib.cli import main
from anytext_lib.generation import AnyText2Pipeline, Defaults
from anytext_lib.generation.edit_report import outside_change
from anytext_lib.generation.legibility import LineCheck, PictureCheck, best
from anytext_lib.generation.metadata import read_record
from anytext_lib.ocr.judge import PPOCRv4Judge
from anytext_lib.ocr.recogniser import Reading
from tests.unit.generation_model import lively_model

BOX = "{text: Milk, box: [10, 6, 70, 34]}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    AnyText2Pipeline(lively_model(), defaults=Defaults(96, 48, 2)).save_pretrained(folder)
    return folder


@pytest.fixture
def told(monkeypatch):
    """The judge's readings, given out one crop after the other; the crops that it was shown."""
    seen: list[torch.Tensor] = []
    queue: list[Reading] = []

    def read(self, crops):
        seen.extend(crops)
        return [queue.pop(0) for _ in crops]

    monkeypatch.setattr(PPOCRv4Judge, "read_scored", read)
    return queue, seen


def run(command, model, out, *arguments):
    return main([command, "--model", str(model), "--out", str(out), "--device", "cpu", *map(str, arguments)])


def pixels(path):
    with Image.open(path) as picture:
        return np.array(picture)


def test_the_best_of_four_is_written_and_every_reading_told(model, tmp_path, told, capsys):
    queue, seen = told
    queue += [Reading("Ta", 0.9), Reading("Tee", 0.5), Reading("Tea", 0.7), Reading("Tea", 0.8)]
    assert run("generate", model, tmp_path, "--prompt", 'a sign "Tea"', "--best-of", 4, "--seed", 5) == 0
    said = capsys.readouterr().out
    assert "picture: 4 candidates, read by ppocrv4" in said and "* seed 8: 1 of 1 as asked, NED 1.000" in said
    assert "  seed 5: 0 of 1 as asked, NED 0.667, confidence 0.90: 'Ta' for 'Tea'" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture_8.png", "picture_candidates.json"]
    report = json.loads((tmp_path / "picture_candidates.json").read_text(encoding="utf-8"))
    assert report["judge"] == "ppocrv4" and report["kept"] == [8]
    assert [row["lines"][0]["read"] for row in report["candidates"]] == ["Ta", "Tee", "Tea", "Tea"]
    assert len(seen) == 4 and not torch.equal(seen[0], seen[3])  # four pictures, each read
    record = read_record(tmp_path / "picture_8.png")
    assert record["seeds"][record["place"]] == 8
    assert main(["generate", "--from", str(tmp_path / "picture_8.png"), "--out", str(tmp_path / "again")]) == 0
    assert np.array_equal(pixels(tmp_path / "again" / "picture_8_again.png"), pixels(tmp_path / "picture_8.png"))
    assert run("generate", model, tmp_path, "--prompt", 'a sign "Tea"', "--best-of", 4, "--seed", 5) == 2
    assert "exists already" in capsys.readouterr().err


def test_with_images_so_many_are_kept(model, tmp_path, told):
    queue, _ = told
    queue += [Reading(text, 0.9) for text in ("Tea", "x", "Te")]
    assert run("generate", model, tmp_path, "--line", "Tea", "--best-of", 3, "--images", 2, "--seed", 1) == 0
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["picture_1.png", "picture_3.png"]


def test_lines_that_are_right_count_before_likeness():
    def check(*rows):
        return PictureCheck(tuple(LineCheck("Tea", read, confidence, ned) for read, confidence, ned in rows))

    one_right = check(("Tea", 0.3, 1.0), ("x", 0.3, 0.0))
    close = check(("Tee", 0.9, 0.67), ("Te", 0.9, 0.67))
    assert best([close, one_right, close], 2) == [1, 0]


@pytest.mark.parametrize("arguments, message", [
    (["--prompt", "no words", "--best-of", "2"], "--best-of has nothing to read"),
    (["--line", "Tea", "--best-of", "2", "--images", "3"], "got 2 for 3"),
    (["--line", "Tea", "--best-of", "2", "--judge", "ppocrv3"], "judge is ppocrv3, but takes"),
])
def test_wrong_requests_give_2(model, tmp_path, capsys, arguments, message):
    assert run("generate", model, tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 121, 3)).astype(np.uint8)).save(path)
    return path


def test_a_report_of_an_edit(model, photo, tmp_path, told, capsys):
    queue, seen = told
    queue += [Reading("Bread", 0.95), Reading("Milk", 0.8)]
    assert run("edit", model, tmp_path / "out", photo, "--line", BOX, "--seed", 1, "--report") == 0
    said = capsys.readouterr().out
    assert "'Milk': 'Bread' before (0.95), 'Milk' after (0.80, NED 1.000), as asked" in said
    report = json.loads((tmp_path / "out" / "photo_1_report.json").read_text(encoding="utf-8"))
    before, after = pixels(photo).astype(int), pixels(tmp_path / "out" / "photo_1.png").astype(int)
    inside = np.zeros((70, 121), bool)
    inside[6:41, 10:81] = True  # the box with its last row and column
    difference = np.abs(before - after)[~inside]
    outside = report["outside"]
    assert outside["pixels"] == (~inside).sum() and outside["largest"] == difference.max()
    assert outside["mean"] == pytest.approx(difference.mean()) and outside["touched"] == difference.any(axis=1).sum()
    assert len(seen) == 2 and report["judge"] == "ppocrv4"
    drawn = pixels(tmp_path / "out" / "photo_1_report.png")
    assert drawn.shape == (70, 3 * 121 + 16, 3) and np.array_equal(drawn[:, :121], before)


def test_composite_touches_nothing_outside(model, photo, tmp_path, told, capsys):
    queue, _ = told
    queue += [Reading("", 0.0)] * 6
    assert run("edit", model, tmp_path, photo, "--line", BOX, "--report", "--composite", "--seed", 3) == 0
    assert "outside of the regions: 0 of " in capsys.readouterr().out
    assert json.loads((tmp_path / "photo_3_report.json").read_text(encoding="utf-8"))["outside"]["largest"] == 0


def test_change_outside_of_the_regions():
    before = np.full((4, 5, 3), 100, np.uint8)
    after, inside = before.copy(), np.zeros((4, 5), bool)
    inside[:2] = True
    after[0, 0], after[3, 0], after[3, 1, 1] = 255, 103, 130
    found = outside_change(before, after, inside)
    assert (found.largest, found.touched, found.visible, found.pixels) == (30, 2, 1, 10)
    assert found.mean == pytest.approx((3 * 3 + 30) / 30)


def test_the_mini_model_and_the_real_reader(tmp_path, capsys):
    """The command as a user types it, without anything replaced."""
    assert main(["generate", "--prompt", 'A plain poster that says "Tea".', "--best-of", "2", "--seed", "1",
                 "--ddim-steps", "6", "--device", "cpu", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "picture_candidates.json").read_text(encoding="utf-8"))
    ranks = {row["seed"]: (row["correct"], row["ned"], row["confidence"]) for row in report["candidates"]}
    assert set(ranks) == {1, 2} and ranks[report["kept"][0]] == max(ranks.values())
    assert (tmp_path / f"picture_{report['kept'][0]}.png").is_file()
