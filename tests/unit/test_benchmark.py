"""`anytext benchmark`: from benchmark files to pictures, scores and published figures; killed, resumed, shared out."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anytext_lib.benchmark import scoring
from anytext_lib.cli import main
from anytext_lib.evaluation.image_metrics import evaluate_fid, fid_interval, frechet_distance
from anytext_lib.generation import AnyText2Pipeline, Defaults
from anytext_lib.generation.metadata import read_record
from tests.unit.generation_model import lively_model

BOX = [[6, 6], [80, 6], [80, 26], [6, 26]]
LOW = [[6, 28], [80, 28], [80, 44], [6, 44]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    AnyText2Pipeline(lively_model(), defaults=Defaults(96, 48, 2)).save_pretrained(folder)
    return folder


def line(text, polygon=BOX, **more):
    return {"polygon": polygon, "text": text, "language": "Latin", "valid": True} | more


def benchmark_file(folder, rows, name="test1k.json"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps({"data_root": "imgs", "data_list": [
        {"img_name": f"{i:03d}.v1.jpg", "caption": caption, "annotations": lines}
        for i, (caption, lines) in enumerate(rows)]}), encoding="utf-8")
    return path


@pytest.fixture
def english(tmp_path):
    return benchmark_file(tmp_path / "laion_word", [
        ('a sign * with the word "sale"', [line("Tea"), line("", valid=False)]),
        ("two lines, one upon the other", [line("Milk"), line("Bread", [[10, 8], [84, 8], [84, 28], [10, 28]])]),
        ("a long line, and one that no font can write", [line("Fresh bread every morning"), line("ⴰⵎⴰⵣⵉⵖ", LOW)]),
    ])


def benchmark(model, out, *arguments):
    return main(["benchmark", *map(str, arguments), "--model", str(model), "--out", str(out), "--device", "cpu"])


def pixels(folder):
    found = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            found[path.name] = np.array(picture)
    return found


def test_from_benchmark_files_to_a_report(model, english, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("ANYTEXT_WEIGHTS", raising=False)
    chinese = benchmark_file(tmp_path / "wukong_word", [("a board", [line("茶", language="Chinese")]),
                                                        ("a door", [line("门", language="Chinese")])])
    out = tmp_path / "out"
    assert benchmark(model, out, english, chinese, "--settings", "own") == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert re.search(r"AnyText2 +0\.8175 ", said) and re.search(r"AnyText2 +0\.7250 ", said)  # of both languages
    assert "fid: FID compares with real pictures" in said and "clip: CLIPScore needs a folder with CLIP" in said
    pictures = pixels(out / "laion_word" / "pictures")
    assert sorted(pictures) == [f"00{i}_{k}.png" for i in range(3) for k in range(4)]
    assert {picture.shape for picture in pictures.values()} == {(48, 96, 3)}
    first, last = (read_record(out / "laion_word" / "pictures" / f"00{i}_2.png") for i in (0, 2))
    assert first["seeds"] == [100, 101, 102, 103] and first["place"] == 2
    assert [row["text"] for row in first["request"]["lines"]] == ["Tea"]  # quote marks in a caption make no lines
    assert [row["text"] for row in last["request"]["lines"]] == ["Fresh bread every mo"]
    assert "ⴰⵎⴰⵣⵉⵖ" in last["left_out"][0]
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "# Benchmark of " in report and "20 lines were judged, theirs are 16724" in report
    assert "the judge is ppocrv4, theirs DuGuang" in report and "ddim_steps 2 (theirs 20)" in report
    assert "1 lines could not be drawn" in report
    with open(out / "benchmark.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["set"], row["language"], row["lines"]) for row in rows] == [
        ("laion_word", "English", "20"), ("wukong_word", "Chinese", "8")]
    assert 0 <= float(rows[0]["sentence_accuracy"]) <= float(rows[0]["ned"]) < 1 and rows[0]["fid"] == ""
    result = json.loads((out / "laion_word" / "ocr" / "result.json").read_text(encoding="utf-8"))
    assert set(result["protocols"]) == {"anytext-english", "strict"} and result["unknown"] == []
    assert (out / "wukong_word" / "look.png").is_file()


def test_published_settings_are_upstreams(model, english, tmp_path):
    assert benchmark(model, tmp_path / "out", english, "--settings", "anytext", "--limit", 1, "--shard", "1/1",
                     "--glyph-font", "OpenSans", "--font-hint", "outline") == 0
    record = read_record(tmp_path / "out" / "laion_word" / "pictures" / "000_3.png")
    settings = record["settings"]
    assert (settings["ddim_steps"], settings["cfg_scale"], settings["eta"]) == (20, 9.0, 0)
    assert record["scheduler"]["class"] == "UpstreamDDIMScheduler"
    asked = record["request"]
    assert asked["added_prompt"] == "best quality, extremely detailed"
    assert asked["negative_prompt"].startswith("longbody, lowres") and asked["glyph_font"] == "OpenSans"
    assert asked["lines"][0]["font"] == "OpenSans" and asked["font_hint"] == "outline"


def test_two_processes_killed_then_one_goes_on_and_shards_make_the_same(model, english, tmp_path, capsys):
    out, folder = tmp_path / "out", tmp_path / "out" / "laion_word" / "pictures"
    process = subprocess.Popen([sys.executable, "-m", "anytext_lib.cli", "benchmark", str(english), "--model",
                                str(model), "--out", str(out), "--settings", "own", "--devices", "cpu", "cpu"],
                               env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE,
                               start_new_session=True)
    deadline = time.monotonic() + 240
    while not (folder / "000_3.png").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    there = {f"000_{i}.png": (folder / f"000_{i}.png").stat().st_mtime_ns for i in range(4)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert benchmark(model, out, english, "--settings", "own") == 0
        for number in (2, 1):
            assert benchmark(model, tmp_path / "shared", english, "--settings", "own", "--shard", f"{number}/2") == 0
            assert "the command without --shard scores" in capsys.readouterr().out
    finally:
        torch.set_num_threads(threads)
    assert {name: (folder / name).stat().st_mtime_ns for name in there} == there  # what was finished was not made again
    once, shared = pixels(folder), pixels(tmp_path / "shared" / "laion_word" / "pictures")
    assert len(once) == 12 and once.keys() == shared.keys()
    assert all(np.array_equal(once[name], shared[name]) for name in once)


def test_fid_with_an_interval_over_items(model, english, tmp_path, monkeypatch, capsys):
    """The weights of Inception are not here: a small network takes its place, everything else is the command's."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    monkeypatch.setattr(scoring, "evaluate_fid", partial(evaluate_fid, network=network))
    (real := tmp_path / "real").mkdir()
    for i in range(5):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (48, 96, 3)).astype(np.uint8)).save(real / f"{i}.jpg")
    assert benchmark(model, tmp_path / "out", english, "--settings", "own", "--real", real) == 0
    result = json.loads((tmp_path / "out" / "laion_word" / "fid" / "result.json").read_text(encoding="utf-8"))
    low, high = result["fid_interval"]
    assert low <= result["fid"] <= high and result["bootstrap"]["over"] == "items"
    assert f"{result['fid']:.2f} [{low:.2f}, {high:.2f}]" in capsys.readouterr().out


def test_the_interval_of_fid_is_as_wide_as_fid_varies():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(2000, 4))
    def draw():  # 50 items of 4 pictures that are alike
        return np.repeat(rng.normal(0.3, 1, size=(50, 4)), 4, axis=0) + rng.normal(0, 0.1, size=(200, 4))
    items = np.repeat(np.arange(50), 4)
    values = [frechet_distance(real, draw()) for _ in range(300)]
    intervals = np.array([fid_interval(real, draw(), items, 60, seed=i) for i in range(20)])
    halves = (intervals[:, 1] - intervals[:, 0]) / 2
    assert np.std(values) * 1.96 == pytest.approx(halves.mean(), rel=0.35)
    alone = np.diff(fid_interval(real, draw(), np.arange(200), 60))[0] / 2
    assert alone < 0.75 * halves.mean()  # pictures of one item are no independent ones


@pytest.mark.parametrize("arguments, message", [
    (["gone.json"], "no annotation file gone.json"), (["{set}", "--shard", "3/2"], "a shard is written as 2/8"),
    (["{set}", "--limit", "0"], "limit is at least 1"), (["{set}", "{set}"], "rename a file"),
    (["{set}", "--real", "a", "--real", "b"], "--real is given once for each set: 2 folders, 1 sets"),
    (["{set}", "--shard", "1/2", "--devices", "cpu"], "give one of them"),
    (["{set}", "--font-hint", "filled"], "name one"),
])
def test_wrong_requests_give_2(model, english, tmp_path, capsys, arguments, message):
    assert benchmark(model, tmp_path / "out", *(argument.format(set=english) for argument in arguments)) == 2
    assert "anytext benchmark: " in (said := capsys.readouterr().err) and message in said


def test_another_plan_in_the_same_folder_is_refused(model, english, tmp_path, capsys):
    made = ["--limit", 1, "--shard", "1/1"]
    assert benchmark(model, tmp_path / "out", english, "--settings", "own", *made) == 0
    before = pixels(tmp_path / "out" / "laion_word" / "pictures")
    assert benchmark(model, tmp_path / "out", english, "--settings", "anytext2", *made) == 2
    assert "was begun with other settings (settings: " in capsys.readouterr().err
    assert pixels(tmp_path / "out" / "laion_word" / "pictures").keys() == before.keys()
    assert Path(tmp_path / "out" / "laion_word" / "plan.json").is_file()
