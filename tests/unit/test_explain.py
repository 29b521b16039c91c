"""`anytext explain`: lines, readings and gradients of a photograph, as numbers and as a figure."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from anytext_lib.cli import main
from anytext_lib.data.fonts import pil_font
from anytext_lib.explain.pulls import explain, softened
from anytext_lib.ocr.spotting import SpottedLine

BOX = torch.tensor([[30.0, 30.0], [200.0, 30.0], [200.0, 75.0], [30.0, 75.0]])


@pytest.fixture(scope="module")
def photo():
    image = Image.new("RGB", (320, 200), (70, 110, 90))
    ImageDraw.Draw(image).text((40, 52), "COFFEE", (250, 240, 210), font=pil_font("OpenSans", 40), anchor="lm")
    return np.array(image)


def spotted(text="COFFEE"):
    return [SpottedLine(BOX, 0.9, text, 0.9)]


def test_the_command_writes_a_figure(photo, tmp_path, monkeypatch, capsys):
    Image.fromarray(photo).save(tmp_path / "shop.png")
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "shop.png", "--text", "COFFEE"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[2].split()[:3] == ["1", "COFFEE", "COFFEE"] and "wrote shop_explained.png" in said
    with Image.open("shop_explained.png") as figure:
        pixels = np.array(figure.convert("RGB")).astype(int)
    assert pixels.shape[1] == 1638
    pull = (pixels[..., 0] > 150) & (pixels[..., 1] < 60) & (pixels[..., 2] < 90)  # the red of a gradient
    assert pull.sum() > 200


def test_gradients_fall_on_the_line_and_a_wrong_text_costs_more(photo, recognizer):
    found = explain(photo, spotted(), recognizer, blur=3.0)
    line, = found.lines
    assert line.reading.text == "COFFEE" and line.fits and line.unknown == []
    inside = np.zeros(photo.shape[:2], bool)
    inside[28:78, 28:203] = True
    for pull, of_crop in ((found.ocr_pull, line.ocr_pull), (found.ctc_pull, line.ctc_pull)):
        assert pull[inside].sum() > 0 and pull[~inside].max() == 0
        assert of_crop.shape == line.crop.shape[1:] and of_crop.max() > 0
    wrong = explain(photo, spotted(), recognizer, ["TOFFEE"], blur=3.0).lines[0]
    assert wrong.wanted == "TOFFEE" and wrong.ctc > line.ctc + 0.01 and wrong.ocr == pytest.approx(line.ocr)


def test_without_blur_the_ocr_loss_has_nothing_to_pull_at(photo, recognizer):
    found = explain(photo, spotted(), recognizer, blur=0.0)
    assert np.array_equal(found.soft, photo) and found.lines[0].ocr == 0 and found.ocr_pull.max() == 0
    assert found.ctc_pull.max() > 0
    values = [explain(photo, spotted(), recognizer, blur=blur).lines[0].ocr for blur in (1.0, 3.0, 6.0)]
    assert 0 < values[0] < values[1] < values[2]


def test_texts_that_the_loss_cannot_ask_for(photo, recognizer):
    long, = explain(photo, spotted("a" * 30), recognizer).lines
    assert not long.fits and long.ctc == 0  # 30 letters with blanks between them need 59 of 40 frames
    unknown, = explain(photo, spotted("COFFEEⴰ"), recognizer).lines
    assert unknown.unknown == ["ⴰ"]


def test_softening_is_in_proportion_to_the_height(photo):
    soft = softened(photo, spotted(), 4.0)
    assert np.array_equal(soft[100:], photo[100:])
    assert soft[52, 40:200].std() < 0.7 * photo[52, 40:200].std()


@pytest.mark.parametrize("arguments, message, status", [
    (["gone.png"], "gone.png: there is no such file", 2), (["blank.png"], "no text was found on blank.png", 1),
    (["shop.png", "--text", "a", "--text", "b"], "2 texts were given, and 1 lines were found", 2),
    (["shop.png", "--blur", "-1"], "the blur is at least 0 pixels, got -1", 2),
    (["shop.png", "--output", "figure.xyz"], "name it something.png", 2),
])
def test_wrong_requests(photo, tmp_path, monkeypatch, capsys, arguments, message, status):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("shop.png")
    Image.new("RGB", (64, 64)).save("blank.png")
    assert main(["explain", *arguments]) == status
    assert "anytext explain: " in (said := capsys.readouterr().err) and message in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blank.png", "shop.png"]
