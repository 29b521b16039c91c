"""Judges: independent readers behind one interface."""

from __future__ import annotations

import math
import os
import shutil
import stat

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from anytext_lib.data import to_tensor
from anytext_lib.ocr import Judge, PPOCRv3Recognizer, WeightsError
from anytext_lib.ocr import judge as judges
from anytext_lib.ocr.recogniser import Reading
from anytext_lib.scenes import render_line

WORDS = ["COFFEE", "Hello World", "SALE 50%", "Restaurant", "OPEN 24h", "PyTorch", "diffusion", "Museum"]
CHINESE = ["欢迎光临", "北京大学", "今日特价"]
has_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")


def rendered(words) -> torch.Tensor:
    """(L, 3, 48, 320) in [-1, 1]: dark words on light ground, padded with 0."""
    font, crops = ImageFont.load_default(32), []
    for word in words:
        width = min(320, math.ceil(font.getlength(word)) + 12)
        image = Image.new("RGB", (width, 48), (230, 220, 200))
        ImageDraw.Draw(image).text((6, 24), word, (20, 30, 90), font=font, anchor="lm")
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1
        crops.append(F.pad(pixels, (0, 320 - width)))
    return torch.stack(crops)


@pytest.fixture(scope="module")
def ppocrv4() -> Judge:
    return Judge.from_name("ppocrv4")


def test_names(ppocrv4):
    assert "ppocrv4" in Judge.available() and set(Judge.available()) <= {"ppocrv4", "tesseract"}
    assert ppocrv4.name == "ppocrv4" and type(Judge.from_name()) is type(ppocrv4)
    with pytest.raises(ValueError, match=r"no judge 'dguang'.*\['ppocrv4', 'tesseract'\]"):
        Judge.from_name("dguang")


def test_ppocrv4_reads_latin(ppocrv4):
    readings = ppocrv4.read_scored(rendered(WORDS))
    assert [reading.text for reading in readings] == WORDS == ppocrv4.read(rendered(WORDS))
    assert all(0.8 < reading.confidence <= 1 for reading in readings)


def test_ppocrv4_reads_chinese(ppocrv4):
    images = [render_line(text, font="NotoSansSC", size=(48, 200)) for text in CHINESE]
    crops = F.pad(to_tensor(images), (0, 120))
    assert ppocrv4.read(crops) == CHINESE == PPOCRv3Recognizer.from_pretrained().read(crops)


def test_ppocrv4_gets_bgr(ppocrv4, monkeypatch):
    seen = []

    class Session:
        def __init__(self, session):
            self.session = session

        def get_inputs(self):
            return self.session.get_inputs()

        def run(self, names, feed):
            seen.append(feed["x"])
            return self.session.run(names, feed)

    monkeypatch.setattr(ppocrv4, "_session", Session(ppocrv4._session))
    crops = rendered(WORDS[:1])
    ppocrv4.read(crops)
    np.testing.assert_array_equal(seen[0], crops.flip(1).numpy())


def test_batches_and_threads(ppocrv4):
    crops = rendered(WORDS * 3)
    assert len(crops) > judges.BATCH
    assert Judge.from_name("ppocrv4", threads=2).read(crops) == WORDS * 3
    assert ppocrv4.read(crops[:0]) == []
    assert ppocrv4.read(crops[:1].double().requires_grad_()) == WORDS[:1]


def test_an_empty_crop_reads_as_nothing(ppocrv4):
    assert ppocrv4.read_scored(torch.zeros(1, 3, 48, 320)) == [Reading("", 0.0)]


def test_bad_crops(ppocrv4):
    with pytest.raises(ValueError, match="48 pixels high"):
        ppocrv4.read(torch.zeros(1, 3, 32, 320))


def test_ppocrv4_missing(monkeypatch):
    monkeypatch.setattr(judges.PPOCRv4Judge, "file", "models/none.onnx")
    with pytest.raises(WeightsError, match=r'pip install "rapidocr>=3.8.3,<3.9"'):
        Judge.from_name("ppocrv4")
    assert "ppocrv4" not in Judge.available()


def test_tesseract_missing(monkeypatch):
    monkeypatch.setattr(judges.shutil, "which", lambda name: None)
    assert Judge.available() == ["ppocrv4"]
    with pytest.raises(WeightsError, match="conda install -c conda-forge tesseract"):
        Judge.from_name("tesseract")


@has_tesseract
def test_tesseract_reads():
    judge = Judge.from_name("tesseract", threads=2, languages=["eng"])
    readings = judge.read_scored(rendered(WORDS))
    right = sum(reading.text == word for reading, word in zip(readings, WORDS, strict=True))
    assert right >= len(WORDS) - 1, readings
    assert all(0 <= reading.confidence <= 1 for reading in readings)
    assert judge.read(rendered(WORDS)[:0]) == []


@has_tesseract
def test_tesseract_unknown_language():
    assert judges.installed_languages()[0] == "eng"
    with pytest.raises(WeightsError, match=r"lacks the languages \['tlh'\]"):
        Judge.from_name("tesseract", languages=["eng", "tlh"])


@pytest.mark.skipif(os.name != "posix", reason="the stand-in command is a shell script")
def test_tesseract_fails(monkeypatch, tmp_path):
    fake = tmp_path / "tesseract"
    fake.write_text("#!/bin/sh\n"
                    'if [ "$1" = --list-langs ]; then printf "List of languages (2):\\nosd\\neng\\n"; exit 0; fi\n'
                    "echo 'no memory' >&2; exit 3\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    judge = Judge.from_name("tesseract")
    assert judge.languages == ["eng"]
    with pytest.raises(RuntimeError, match="status 3: no memory"):
        judge.read(rendered(["a"]))


def test_words_of_a_table():
    header = "level\tconf\ttext\n"
    assert judges._parse_tsv(header + "4\t-1\t\n5\t90\tHello\n5\t70\tWorld\n") == Reading("Hello World", 0.8)
    assert judges._parse_tsv(header + '5\t80\t欢迎\n5\t80\t光临\n5\t80\t"A"\n').text == '欢迎光临"A"'
    assert judges._parse_tsv(header) == Reading("", 0.0)


@pytest.mark.parametrize("kind", ["empty", "cut off", "nan", "another network"])
def test_broken_weights_given_to_the_command(tmp_path, monkeypatch, capsys, kind):
    from anytext_lib.cli import main
    from anytext_lib.ocr.judge import PPOCRv4Judge
    from anytext_lib.ocr.onnx_weights import detector_path, recognizer_path
    from tests.unit.broken_weights import spoilt
    from tests.unit.evaluation_toys import make_folder

    path = tmp_path / "judge.onnx"
    spoilt(path, kind, recognizer_path().read_bytes())
    if kind == "another network":
        path.write_bytes(detector_path().read_bytes())
    monkeypatch.setattr(PPOCRv4Judge, "_path", classmethod(lambda cls: path))
    annotations = make_folder(tmp_path, [["Hello"]])
    assert main(["evaluate", "ocr", str(annotations), "--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "judge.onnx" in said and said.count("\n") == 1 and not (tmp_path / "out").exists(), said
