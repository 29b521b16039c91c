"""Text accuracy of folders: which pictures, what is read, resuming, and the files that come out."""
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from anytext_lib.data.anyword import Annotation
from anytext_lib.data.anyword_stream import AnyWordError
from anytext_lib.data.lines import BadLineError
from anytext_lib.evaluation import cut_line, evaluate_ocr, find_pictures, open_reader
from anytext_lib.evaluation.journal import ComparedPictureError, Journal, JournalError, read_picture
from anytext_lib.evaluation.read import LineReading, _read_batch
from anytext_lib.evaluation.report import marked, worst_lines
from anytext_lib.evaluation.score import LineScore
from anytext_lib.generation.metadata import write_png
from anytext_lib.ocr.crops import crop_lines
from tests.unit.evaluation_toys import GreyReader, make_folder, polygon

TEXTS = [["Hello", "World"], ["Sale"], ["中国", "Coffee"], []]
READ = ["Hello", "world", "Sa1e", "中国", "Coffee"]  # one wrong in case, one in a character


def silent(message: str) -> None:
    pass


def run(path: Path, output: Path, reader=None, **options) -> dict:
    reader = GreyReader(READ) if reader is None else reader
    return evaluate_ocr(path, None, output, "toy", reader=reader, report=silent, **options)


# --- which pictures

def test_four_pictures_of_an_item(tmp_path):
    path = make_folder(tmp_path, TEXTS, per_item=4, suffix=".jpg")
    pictures, missing = find_pictures(path)
    assert len(pictures) == 16 and not missing
    assert [p.name for p in pictures[:5]] == ["item_00_0.jpg", "item_00_1.jpg", "item_00_2.jpg", "item_00_3.jpg",
                                              "item_01_0.jpg"]
    assert [p.item for p in pictures[3:6]] == [0, 1, 1] and [line.text for line in pictures[8].lines] == TEXTS[2]


def test_one_picture_of_an_item_in_another_folder_and_format(tmp_path):
    path = make_folder(tmp_path, TEXTS)
    pictures, _ = find_pictures(path, tmp_path / "pictures")
    assert [p.name for p in pictures] == [f"item_{i:02d}.png" for i in range(4)]
    numbered = make_folder(tmp_path / "more", TEXTS[:1], per_item=2)
    assert [p.name for p in find_pictures(numbered, per_item=1)[0]] == ["item_00_0.png"]
    assert len(find_pictures(path, per_item=1)[0]) == 4


def test_same_names_in_two_folders_stay_apart(tmp_path):
    path = make_folder(tmp_path, [["a"], ["b"]])
    content = json.loads(path.read_text(encoding="utf-8"))
    for i, (row, folder) in enumerate(zip(content["data_list"], "xy", strict=True)):
        (tmp_path / "pictures" / folder).mkdir()
        (tmp_path / "pictures" / f"item_{i:02d}.png").rename(tmp_path / "pictures" / folder / "same.png")
        row["img_name"] = f"{folder}/same.png"
    path.write_text(json.dumps(content), encoding="utf-8")
    for folder in (None, tmp_path / "pictures"):
        pictures, _ = find_pictures(path, folder)
        assert [p.name for p in pictures] == ["x/same.png", "y/same.png"]
        assert [p.path.parent.name for p in pictures] == ["x", "y"]


def test_only_the_first_valid_lines_count(tmp_path):
    path = make_folder(tmp_path, [["a", "b"]])
    content = json.loads(path.read_text(encoding="utf-8"))
    lines = content["data_list"][0]["annotations"]
    lines.insert(0, {**lines[0], "text": "unreadable", "valid": False})
    path.write_text(json.dumps(content), encoding="utf-8")
    assert [line.text for line in find_pictures(path)[0][0].lines] == ["a", "b"]
    assert [line.text for line in find_pictures(path, max_lines=1)[0][0].lines] == ["a"]


def test_missing_pictures_are_refused_or_counted(tmp_path):
    path = make_folder(tmp_path, TEXTS, per_item=2)
    (tmp_path / "pictures" / "item_02_1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 8 pictures .* item_02_1\. .*--skip-missing"):
        find_pictures(path)
    pictures, missing = find_pictures(path, skip_missing=True)
    assert len(pictures) == 7 and missing == ["item_02_1"]
    with pytest.raises(FileNotFoundError, match="4 of 4 pictures"):
        find_pictures(path, tmp_path, skip_missing=True)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_pictures(path, tmp_path / "nowhere")
    for wrong in ({"per_item": 0}, {"max_lines": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            find_pictures(path, **wrong)
    path.write_text('{"data_root": ".", "data_list": []}', encoding="utf-8")
    with pytest.raises(AnyWordError, match="describes no picture"):
        find_pictures(path)


# --- crops

def test_upright_crop_is_that_of_the_losses():
    from anytext_lib.data.lines import TextLines

    picture = torch.rand(3, 64, 192, generator=torch.Generator().manual_seed(0)) * 2 - 1
    line = Annotation(np.array([[20, 10], [120, 20], [118, 44], [18, 34]], float), "a", "Latin")
    lines = TextLines.from_polygons([line.polygon], [0], ["a"], ["Latin"], (64, 192))
    assert torch.equal(cut_line(picture, line), crop_lines(picture[None], lines)[0])


def test_box_crop_takes_rows_and_columns():
    picture = torch.rand(3, 64, 192, generator=torch.Generator().manual_seed(0)) * 2 - 1
    line = Annotation(np.array(polygon((10, 8, 74, 56)), float), "a", "Latin")
    crop = cut_line(picture, line, "box")
    torch.testing.assert_close(crop[:, :, :64], picture[:, 8:56, 10:74])  # 48 pixels high as it is
    assert crop.shape == (3, 48, 320) and not crop[:, :, 64:].any()
    outside = Annotation(line.polygon + 300, "a", "Latin")
    for name in ("box", "upright"):
        with pytest.raises(BadLineError):
            cut_line(picture, outside, name)
    with pytest.raises(ValueError, match="no crop 'tight': choose one of"):
        cut_line(picture, line, "tight")


# --- numbers and files

def test_numbers_and_files(tmp_path):
    path = make_folder(tmp_path, TEXTS, languages=("Latin", "Chinese"))
    result = run(path, tmp_path / "out", protocols=("anytext", "strict", "udifftext"),
                 given={"sampler": "DDIM 20", "seed": 100, "checkpoint": "sha256:12ab"})
    scores = result["protocols"]
    assert scores["anytext"]["all"]["sentence_accuracy"] == pytest.approx(3 / 5)
    assert scores["anytext"]["all"]["ned"] == pytest.approx((3 + 0.8 + 0.75) / 5, abs=1e-5)
    assert scores["udifftext"]["all"]["sentence_accuracy"] == pytest.approx(4 / 5)
    assert scores["anytext"]["Latin"]["lines"] == 3 and scores["anytext"]["Chinese"]["lines"] == 2
    low, high = scores["strict"]["all"]["ned_interval"]
    assert low < scores["strict"]["all"]["ned"] < high
    assert result["recogniser"]["name"] == "toy" and result["seed"] == 100 and result["unknown"] == []
    assert result["checkpoint"]["sha256"] == "12ab" and result["crops"]["box"]["protocols"] == ["udifftext"]
    assert result["lines"]["read"] == {"upright": 5, "box": 5} and result["pictures"]["items"] == 4
    assert json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8")) == result
    with open(tmp_path / "out" / "lines.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15 and rows[3]["wanted"] == "中国" and rows[1] == {
        "protocol": "anytext", "picture": "item_00.png", "item": "0", "line": "1", "language": "Chinese",
        "wanted": "World", "read": "world", "confidence": "0.52", "correct": "0", "ned": "0.8"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "result.json", "table.csv", "lines.csv", "worst.html", "readings-toy-upright.jsonl", "readings-toy-box.jsonl"}


def test_crop_can_be_the_same_for_all(tmp_path):
    result = run(make_folder(tmp_path, TEXTS), tmp_path / "out", protocols=("strict", "udifftext"), crop="box")
    assert list(result["crops"]) == ["box"] and result["crops"]["box"]["protocols"] == ["strict", "udifftext"]
    with pytest.raises(ValueError, match="no protocol 'x'"):
        run(tmp_path / "test1k.json", tmp_path / "out", protocols=("x",))
    with pytest.raises(ValueError, match="a crop of"):
        run(tmp_path / "test1k.json", tmp_path / "out", crop="x")


def test_a_line_outside_is_told_not_counted(tmp_path):
    path = make_folder(tmp_path, [["Hello", "far"], ["Sale"]])
    content = json.loads(path.read_text(encoding="utf-8"))
    content["data_list"][0]["annotations"][1]["polygon"] = polygon((300, 300, 400, 340))
    path.write_text(json.dumps(content), encoding="utf-8")
    result = run(path, tmp_path / "out")
    assert result["lines"]["read"]["upright"] == 2
    [reason] = result["lines"]["skipped"]["upright"]
    assert reason.startswith("item_00.png: line 1: ") and "empty" in reason


def test_no_line_at_all_has_no_number(tmp_path):
    result = run(make_folder(tmp_path, [[], []]), tmp_path / "out")
    assert result["protocols"]["strict"]["all"] == {
        "lines": 0, "items": 0, "sentence_accuracy": None, "ned": None, "sentence_accuracy_interval": [None, None],
        "ned_interval": [None, None]}


def test_settings_come_from_the_pictures(tmp_path):
    path = make_folder(tmp_path, [["Hello"], ["Sale"]])
    for i, file in enumerate(sorted((tmp_path / "pictures").iterdir())):
        record = {"scheduler": {"class": "DDIMScheduler", "config": {}}, "settings": {"ddim_steps": 20},
                  "seeds": [4, 5], "place": i, "model": {"folder": "/somewhere/mini", "sha256": "7"}}
        write_png(np.array(Image.open(file)), record, file)
    result = run(path, tmp_path / "out")
    assert result["sampler"] == {"scheduler": "DDIMScheduler", "ddim_steps": 20} and result["unknown"] == []
    assert result["seed"] == {"different": 2, "values": [4, 5]}
    assert result["checkpoint"] == {"name": "mini", "sha256": "7"}
    page = (tmp_path / "out" / "worst.html").read_text(encoding="utf-8")
    assert "scheduler DDIMScheduler, ddim_steps 20" in page and "somewhere" not in page


def test_notes_of_other_programs_are_ignored(tmp_path):
    path = make_folder(tmp_path, [["Hello"]])
    [file] = (tmp_path / "pictures").iterdir()
    for text in ("no JSON", "[]", '{"seeds": []}'):
        note = PngInfo()
        note.add_text("anytext", text)
        Image.open(file).save(file, pnginfo=note)
        assert run(path, tmp_path / "out")["unknown"] == ["sampler", "checkpoint", "seed"]


def test_broken_picture_is_named_and_nothing_half_written(tmp_path):
    path = make_folder(tmp_path, TEXTS)
    (tmp_path / "pictures" / "item_01.png").write_bytes(b"no picture")
    with pytest.raises(ComparedPictureError, match=r"item_01\.png cannot be read as a picture"):
        run(path, tmp_path / "out")
    assert [p.suffix for p in (tmp_path / "out").iterdir()] == [".jsonl"]


def test_two_pictures_of_one_name_are_refused(tmp_path):
    path = make_folder(tmp_path, [["Hello"]])
    content = json.loads(path.read_text(encoding="utf-8"))
    content["data_list"] *= 2
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="2 pictures have only 1 different names"):
        run(path, tmp_path / "out")


# --- going on

def test_second_run_reads_nothing_and_a_changed_picture_alone(tmp_path):
    path = make_folder(tmp_path, TEXTS)
    first = run(path, tmp_path / "out", batch=1)
    reader = GreyReader(READ)
    assert run(path, tmp_path / "out", reader, batch=1) == first and reader.seen == 0
    os.utime(tmp_path / "pictures" / "item_01.png", ns=(1, 1))
    assert run(path, tmp_path / "out", reader, batch=1) == first and reader.seen == 1
    assert run(path, tmp_path / "out", reader, batch=1, restart=True) == first and reader.seen == 6


def test_other_settings_do_not_mix(tmp_path):
    path = make_folder(tmp_path, TEXTS)
    run(path, tmp_path / "out")
    with pytest.raises(JournalError, match=r"max_lines: 20 there, 1 now\): choose another output .*--restart"):
        run(path, tmp_path / "out", max_lines=1)
    (tmp_path / "out" / "readings-toy-upright.jsonl").write_text("[]\n", encoding="utf-8")
    with pytest.raises(JournalError, match="not a journal"):
        run(path, tmp_path / "out")


def test_torn_last_line_is_measured_again(tmp_path):
    path = make_folder(tmp_path, TEXTS)
    first = run(path, tmp_path / "out", batch=1)
    journal = tmp_path / "out" / "readings-toy-upright.jsonl"
    journal.write_bytes(journal.read_bytes()[:-200])
    reader = GreyReader(READ)
    assert run(path, tmp_path / "out", reader, batch=1) == first and 0 < reader.seen < 5
    assert len(Journal(journal, json.loads(journal.read_text("utf-8").splitlines()[0])["settings"]).rows) == 4


SLOW = """
import sys
from anytext_lib.evaluation import evaluate_ocr
from tests.unit.evaluation_toys import GreyReader
texts = [f"word{i}" for i in range(20)]
evaluate_ocr(sys.argv[1], None, sys.argv[2], "toy", reader=GreyReader(texts, pause=0.5), batch=2)
"""


def test_killed_in_the_middle_it_goes_on(tmp_path):
    texts = [[f"word{i}"] for i in range(20)]
    path = make_folder(tmp_path, texts)
    whole = run(path, tmp_path / "whole", GreyReader([t for [t] in texts]), batch=2)
    root = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen([sys.executable, "-c", SLOW, path, tmp_path / "out"], stderr=subprocess.DEVNULL,
                               cwd=root, env={**os.environ, "PYTHONPATH": root})
    journal, end = tmp_path / "out" / "readings-toy-upright.jsonl", time.monotonic() + 60
    while not journal.is_file() or len(journal.read_bytes().splitlines()) < 4:
        assert process.poll() is None and time.monotonic() < end, "it ended or hangs before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    assert not (tmp_path / "out" / "result.json").exists()
    reader = GreyReader([t for [t] in texts])
    assert run(path, tmp_path / "out", reader, batch=2) == whole
    assert 0 < reader.seen <= 18


def test_progress_is_told(tmp_path):
    path, told = make_folder(tmp_path, TEXTS), []
    for _ in range(2):
        evaluate_ocr(path, None, tmp_path / "out", "toy", reader=GreyReader(READ), batch=3, report=told.append)
    assert [line.split(" in ")[0] for line in told] == ["4 of 4 pictures read", "4 of 4 pictures read before; going on "
                                                        "from there"]


# --- the page of worst cases

def test_worst_lines_come_first_and_right_ones_not_at_all():
    def line(confidence):
        return LineReading("p.png", 0, 0, "a", "b", "Latin", confidence)

    scores = [LineScore(True, 1.0), LineScore(False, 0.5), LineScore(False, 0.0), LineScore(False, 0.0)]
    assert worst_lines([line(c) for c in (0.9, 0.9, 0.2, 0.8)], scores, 2) == [3, 2]


def test_differences_are_marked_and_escaped():
    assert marked("Sa1e", "Sale") == ("Sa<ins>1</ins>e", "Sa<del>l</del>e")
    assert marked("<b>", "<b>!") == ("&lt;b&gt;", "&lt;b&gt;<del>!</del>")
    assert marked("", "ab") == ("", "<del>ab</del>")


def test_page_shows_crop_truth_and_reading(tmp_path):
    path = make_folder(tmp_path, TEXTS)
    run(path, tmp_path / "out", worst=1)
    page = (tmp_path / "out" / "worst.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 1 and "data:image/png;base64," in page and 'alt="crop of the line Sale"' in page
    assert "@font-face" not in page  # nothing Chinese among the worst
    assert "Sa<ins>1</ins>e" in page and "1 of 2 wrong lines among 5" in page and "<th>sampler</th><td>unknown" in page


@pytest.mark.parametrize("wanted, read, kind, shown", [
    ("中国", "中园", "otf", "中<del>国</del>"), ("नमन", "नमम", "ttf", "नम<del>न</del>"),
    ("“cafe”…", "cafe", None, "<del>“</del>cafe")])
def test_page_brings_the_fonts_of_other_scripts(tmp_path, wanted, read, kind, shown):
    run(make_folder(tmp_path, [[wanted]]), tmp_path / "out", GreyReader([read]))
    page = (tmp_path / "out" / "worst.html").read_text(encoding="utf-8")
    assert ("@font-face" in page) == (kind is not None) and shown in page
    assert kind is None or f"@font-face {{ font-family: Embedded; src: url(data:font/{kind};base64," in page


# --- real recognisers

def test_real_reader_reads_a_sample():
    """One picture of the sample set, by the judge."""
    pictures, _ = find_pictures(Path(__file__).parents[2] / "data_samples" / "annotations.json")
    reader = open_reader("ppocrv4")
    [row] = _read_batch(pictures[:1], [read_picture(pictures[0].path)], reader, "upright")
    assert [line[1] for line in row["lines"]] == [line[2] for line in row["lines"]] and len(row["lines"]) == 4


def test_unknown_recogniser_is_named():
    with pytest.raises(ValueError, match="no recogniser 'dguang': choose one of"):
        open_reader("dguang")
