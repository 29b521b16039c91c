"""One form of a text wherever it comes in: however it was typed, the same glyphs, captions, classes and scores."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anytext_lib.benchmark.items import prepare_item
from anytext_lib.benchmark.published import SETTINGS
from anytext_lib.cli import main
from anytext_lib.data import fonts_for, normal_text
from anytext_lib.data.anyword import AnnotatedImage, Annotation
from anytext_lib.evaluation import score_texts
from anytext_lib.evaluation.score import PROTOCOLS
from anytext_lib.generation import AnyText2Pipeline, Defaults
from anytext_lib.generation.metadata import read_record
from anytext_lib.generation.request import image_caption
from anytext_lib.ocr.recogniser import pretrained_charset
from anytext_lib.scenes import render_line, render_scene
from anytext_lib.training.module import AnyText2Training
from anytext_lib.udifftext.word_picture import word_batch
from tests.unit.generation_model import lively_model
from tests.unit.written_data import data_set, fit

TEXTS = {"Caf\u00e9 bl\u00e9": "Cafe\u0301\u00a0ble\u200b\u0301", "\uac00\ub2e4": "\u1100\u1161\u1103\u1161",
         "\u304c\u304d": "\u304b\u3099\u304d\ufeff", "\u0915\u093c\u0932": "\u0958\u0932"}  # normal form: another way
CAFE = "cafe\u0301", "caf\u00e9"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    AnyText2Pipeline(lively_model(), defaults=Defaults(192, 64, 1)).save_pretrained(folder)
    return str(folder)


def test_a_picture_does_not_depend_on_the_form(model, tmp_path):
    made = []
    for form in (0, 1):
        texts = [(typed, normal)[form] for normal, typed in TEXTS.items()]
        out = tmp_path / str(form)
        assert main(["generate", "--model", model, "--out", str(out), "--device", "cpu", "--seed", "3", "--prompt",
                     f'A {CAFE[form]} with "{texts[0]}"', "--line", texts[1], "--line",
                     texts[3]]) == 0
        picture = out / "picture_3.png"
        made.append((read_record(picture)["request"]["lines"], picture))
    assert made[0][0] == made[1][0] and [line["text"] for line in made[0][0]] == [
        text for text in TEXTS if text != "\u304c\u304d"]
    with Image.open(made[0][1]) as first, Image.open(made[1][1]) as second:
        assert first.tobytes() == second.tobytes()


def test_a_step_of_training_does_not_depend_on_the_form(tmp_path, monkeypatch):
    batches, losses, step = [], [], AnyText2Training.training_step

    def spy(self, batch, index):
        batches.append(batch)
        losses.append(float(step(self, batch, index).detach()))
        return step(self, batch, index)

    monkeypatch.setattr(AnyText2Training, "training_step", spy)
    for form in (0, 1):
        folder = tmp_path / str(form)
        folder.mkdir()
        path = data_set(folder, list(TEXTS)[:3])
        rows = json.loads(path.read_text("utf-8"))
        entry = rows["data_list"][0]
        entry["caption"] = f"A {CAFE[form]}."
        for line in entry["annotations"]:
            line["text"] = line["text"] if form else TEXTS[line["text"]]
        path.write_text(json.dumps(rows), "utf-8")
        assert fit(folder, path, "--loss_beta", "0.001", "--loss_alpha", "0.003") == 0
    first, second = batches
    assert first.lines.texts == second.lines.texts == list(TEXTS)[:3] and first.captions == second.captions
    assert (first.glyph_lines == second.glyph_lines).all() and (first.glyphs == second.glyphs).all()
    assert first.glyphs.any() and losses[0] == losses[1]


@pytest.mark.parametrize("normal, typed", TEXTS.items())
def test_classes_captions_fonts_and_scores_of_both_forms(normal, typed):
    charset = pretrained_charset()
    assert normal_text(typed) == normal == normal_text(unicodedata.normalize("NFD", typed))
    assert charset.encode(typed) == charset.encode(normal) and charset.unknown(typed) == charset.unknown(normal)
    assert image_caption(f'on "a" {typed}', typed) == image_caption(f'on "a" {normal}', normal)
    assert fonts_for(typed) == fonts_for(normal)
    parts = unicodedata.normalize("NFD", normal)  # annotations come in their normal form, readings in any
    assert score_texts([parts], [normal]) == score_texts([normal], [parts]) == (1.0, 1.0, 1)
    for protocol in PROTOCOLS.values():
        assert protocol.score(parts, normal) == (True, 1.0) == protocol.score(normal, parts)


def test_a_benchmark_and_a_word_alone_take_both_forms():
    corners = [[8.0, 4], [180, 4], [180, 60], [8, 60]]
    lines = [Annotation(np.array(corners), "\u0915\u094d\u0937" * 7, "Hindi")]  # 21 code points: seven conjuncts
    item, _ = prepare_item(AnnotatedImage(Path("0.png"), "0.png", "A sign.", lines), lively_model(),
                           Defaults(192, 64, 1), SETTINGS["anytext2"])
    assert item.sample.texts == ["\u0915\u094d\u0937" * 6], "cut between letters"
    mask = np.zeros((64, 64), bool)
    mask[10:40, 10:50] = True
    assert word_batch(np.zeros((64, 64, 3), np.uint8), mask, "Cafe\u0301").lines.texts == ["Caf\u00e9"]


def test_scenes_take_both_forms():
    one, other = (render_line(text, size=(48, 160)) for text in ("Caf\u00e9", "Cafe\u0301"))
    assert (one == other).all()
    scenes = [render_scene(seed=3, texts=[text]) for text in ("Caf\u00e9", "Cafe\u0301")]
    assert scenes[0].lines[0].text == scenes[1].lines[0].text == "Caf\u00e9"
    assert (scenes[0].image == scenes[1].image).all() and scenes[0].caption == scenes[1].caption
    with pytest.raises(ValueError, match="lettered without shaping"):
        render_line("\u0645\u0631", "NotoNaskhArabic")
