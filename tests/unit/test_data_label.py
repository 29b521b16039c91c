"""`anytext data label`: drafts of photographs that check, index and fit read, and what a person has to look at."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from anytext_lib.cli import main
from anytext_lib.data.anyword import read_anyword
from anytext_lib.data.fonts import pil_font
from anytext_lib.datatools.label_photos import text_share
from anytext_lib.ocr.spotting import SpottedLine
from anytext_lib.training.module import AnyText2Training

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
LONG = "Fresh bread every morning"  # 25 characters


def photograph(path, words):
    image = Image.new("RGB", (560, 300), (70, 110, 90))
    for text, place in words.items():
        ImageDraw.Draw(image).text(place, text, (250, 240, 210), font=pil_font("OpenSans", 40), anchor="lm")
    image.save(path)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    photograph(folder / "shop.png", {"COFFEE": (40, 60), LONG: (20, 200)})
    photograph(folder / "more" / "sign.jpg", {"HelloWorld": (60, 120)})
    photograph(folder / "blank.png", {})
    return folder


def entries(folder):
    rows = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))["data_list"]
    return {row["img_name"]: row["annotations"] for row in rows}


def test_from_photographs_to_a_step_of_training(photos, tmp_path, monkeypatch, capsys):
    seen, step = [], AnyText2Training.training_step
    monkeypatch.setattr(AnyText2Training, "training_step",
                        lambda self, batch, index: seen.append(batch) or step(self, batch, index))
    assert main(["data", "label", str(photos), "--sheet", str(tmp_path / "draft.png")]) == 0
    said = capsys.readouterr().out
    assert "3 photographs, 3 lines, 1 of them to be looked at" in said and "1 photographs hold no text" in said
    found = entries(photos)
    assert found["blank.png"] == []
    coffee, long = found["shop.png"]
    assert (coffee["text"], coffee["valid"], "look" in coffee) == ("COFFEE", True, False) and coffee["score"] > 0.8
    (left, top), (right, bottom) = coffee["polygon"][0], coffee["polygon"][2]
    ink = pil_font("OpenSans", 40).getbbox("COFFEE", anchor="lm")
    assert np.abs(np.array([left, top, right, bottom]) - ink - np.array([40, 60, 40, 60])).max() < 12
    assert long["text"] == LONG and long["valid"] is False and "has 25 characters" in long["look"]
    with Image.open(tmp_path / "draft.png") as sheet:
        colours = np.array(sheet).reshape(-1, 3)
    assert (colours == (205, 20, 30)).all(1).sum() > 100 < (colours == (30, 120, 40)).all(1).sum()  # red, green
    assert main(["data", "check", str(photos)]) == 0 and "No problem found." in capsys.readouterr().out
    assert main(["data", "index", str(photos / "annotations.json")]) == 0
    index = next(photos.glob(".*.arrow"))
    assert main(["fit", "--config", "tiny.yaml", "--runs", str(tmp_path / "runs"), "--train", str(index), "--val",
                 "null", "--max_steps", "1", "--batch_size", "3",
                 "--save_steps", "0", "--trainer.logger", "false"]) == 0
    assert sorted(seen[0].lines.texts) == ["COFFEE", "HelloWorld"]  # the long line is masked, not trained on


def test_corrections_are_not_overwritten(photos, capsys):
    photo = photos / "shop.png"
    assert main(["data", "label", str(photo), "--min-score", "1", "--max-chars", "30"]) == 0
    draft = photos / "annotations.json"
    lines = entries(photos)["shop.png"]
    assert [line["look"] for line in lines] == ["score below 1"] * 2
    corrected = json.loads(draft.read_text(encoding="utf-8"))
    corrected["data_list"][0]["annotations"][0]["valid"] = True
    draft.write_text(json.dumps(corrected), encoding="utf-8")
    assert read_anyword(draft)[0].annotations[0].valid
    assert main(["data", "label", str(photo)]) == 2 and "may hold corrections" in capsys.readouterr().err
    assert json.loads(draft.read_text(encoding="utf-8")) == corrected
    assert main(["data", "label", str(photo), "--force", "--language", "Chinese"]) == 0
    assert {line["language"] for line in entries(photos)["shop.png"]} == {"Chinese"}


@pytest.mark.parametrize("text, width, share", [("禁止", 400, 0.2), ("NO litter", 200, 0.98), ("E", 30, 1.0)])
def test_a_text_too_short_for_its_box_is_told(text, width, share):
    quad = torch.tensor([[0.0, 0.0], [width, 0.0], [width, 40.0], [0.0, 40.0]])
    assert text_share(SpottedLine(quad, 1.0, text, 1.0)) == pytest.approx(share)


@pytest.mark.parametrize("arguments, message", [
    (["nowhere"], "there is no folder and no photograph nowhere"), (["."], "there is no photograph"),
    (["shop.png", "--min-score", "7"], "lies in [0, 1], got 7"),
    (["shop.png", "--language", "Elvish"], "got 'Elvish'"), (["broken.png"], "no photograph can be read: broken.png"),
    (["shop.png", "--font", "gone.ttf"], "there is no font gone.ttf"),
])
def test_wrong_requests_give_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    if arguments != ["."]:
        photograph("shop.png", {"Tea": (40, 60)})
        (tmp_path / "broken.png").write_bytes(b"no picture")
    assert main(["data", "label", *arguments]) == 2
    assert "anytext data label: " in (said := capsys.readouterr().err) and message in said
    assert not (tmp_path / "annotations.json").exists()
