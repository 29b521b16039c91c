"""Other scripts than Latin and Chinese: written with joined letters, conjuncts and marks, from the commands on."""

import json
import unicodedata

import cv2
import numpy as np
import pytest
import yaml

from anytext_lib.cli import main
from anytext_lib.data import draw_glyphs, fonts_for, load_fonts, render_glyph_line
from anytext_lib.data.fonts import LANGUAGES, choose_font
from anytext_lib.data.glyphs import glyph_box, stacked, stretch, text_width
from anytext_lib.data.shaping import shape
from anytext_lib.data.texts import clusters, cut, guess_language, normal_text
from anytext_lib.generation import AnyText2Pipeline, Defaults
from anytext_lib.generation.metadata import read_record
from tests.unit.generation_model import lively_model
from tests.unit.written_data import data_set, fit

TEXTS = {"Japanese": "こんにちは東京", "Korean": "안녕하세요 서울", "Arabic": "مرحبا 24", "Hindi": "क्षत्रिय नमस्ते",
         "Bangla": "বাংলা স্ক্রিপ্ট", "Thai": "กำลังที่น้ำ"}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def components(picture):
    """How many separate strokes there are."""
    return cv2.connectedComponents(np.ascontiguousarray(picture > 0).astype(np.uint8))[0] - 1


def ink(text, size=60):
    return shape(text, choose_font(text, guess_language(text)), size).ink > 127


@pytest.mark.parametrize("language, text", TEXTS.items())
def test_every_language_has_a_font_for_its_texts(language, text):
    assert guess_language(text) == language and language in LANGUAGES
    (name,) = fonts_for(language)
    assert choose_font(text, language) == name and set("Tea 24") <= load_fonts()[name].characters
    picture = render_glyph_line(text, name)
    assert picture.any() and not picture[[0, -1]].any() and not picture[:, [0, -1]].any()


def test_chinese_texts_keep_their_fonts():
    assert choose_font("東京", "Japanese") == "NotoSansJP"  # these two characters are in fonts of both
    assert "Chinese" in load_fonts()[choose_font("大学", "Chinese_sim")].languages
    assert fonts_for("大学")[0] == "NotoSansSC" and "NotoSansJP" not in fonts_for("大学")


def test_arabic_letters_join_and_run_from_right_to_left():
    joined, apart = ink("بيت"), ink("ب\u200cي\u200cت")
    assert components(joined) == 6 and components(apart) == 8  # one body, or three, and five dots
    tall = ink("دا").any(axis=1).sum(), ink("د").any(axis=1).sum()
    word = ink("دا")  # dal, then the tall alef: which stands on the left
    left, right = (half.any(axis=1).sum() for half in np.array_split(word, 2, axis=1))
    assert left == tall[0] > right and tall[0] > tall[1]


def test_devanagari_and_bengali_make_conjuncts():
    for text in ("क्ष", "ক্ষ"):  # with a joiner after the virama the letters stay apart
        apart = "".join(c + "\u200c" * (c in "\u094d\u09cd") for c in text)
        assert ink(text).shape[1] < ink(apart).shape[1]
    assert components(ink("नमस्ते")) == 1  # the headline goes through
    before = ink("कि"), ink("क")  # the vowel i is typed after its letter, and written before it
    assert before[0].shape[1] > before[1].shape[1]


def test_thai_marks_stand_above_their_letters():
    plain, marked = ink("ท"), ink("ที่")
    assert abs(plain.shape[1] - marked.shape[1]) <= 6 and marked.shape[0] > 1.5 * plain.shape[0]
    assert components(marked) == components(plain) + 2  # a vowel and a tone, one above the other
    letters = sum(text_width(letter, "NotoSansThai", 60) for letter in "ที่")
    assert marked.shape[1] < letters


@pytest.mark.parametrize("text", ["Café", "がぎぐ", "한국", "\u0958लम", "বা\u09dcি", "مُؤَمَّن"])
def test_composed_and_decomposed_texts_are_drawn_alike(text):
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD")} | {text}
    assert len(forms) > 1
    font = choose_font(text, guess_language(text))
    pictures = [render_glyph_line(form, font) for form in forms]
    canvases = [np.zeros((64, 192, 3), np.uint8) for _ in forms]
    for canvas, form in zip(canvases, forms, strict=True):
        draw_glyphs(canvas, form, font, np.array([[4, 4], [188, 4], [188, 60], [4, 60]]))
    assert pictures[0].any() and all((picture == pictures[0]).all() for picture in pictures)
    assert canvases[0].any() and all((canvas == canvases[0]).all() for canvas in canvases)


def test_letters_that_touch_are_neither_spaced_out_nor_stacked():
    assert stretch("مرحبا", 3) == "مرحبا" and stretch("नमस्ते जी", 2) == "नमस्ते     जी"
    assert stretch("น้ำ ชา", 1) == "น้ำ   ช า" and stretch("Tea", 1) == "T e a"
    column = np.array([[90.0, 10], [150, 10], [150, 250], [90, 250]])
    assert not any(stacked(text, glyph_box(column)) for text in ("بيت", "नमस्ते"))
    assert all(stacked(text, glyph_box(column)) for text in ("ที่นี่", "東京", "Tea"))
    canvas = np.zeros((260, 240, 3), np.uint8)
    draw_glyphs(canvas, "नमस्ते", "NotoSansDevanagari", column)
    rows, columns = np.flatnonzero(canvas.any(axis=(1, 2))), np.flatnonzero(canvas.any(axis=(0, 2)))
    assert np.ptp(rows) > 2 * np.ptp(columns) and 88 <= columns[0] and columns[-1] <= 152
    assert components(canvas[..., 0]) == 1


def test_texts_are_cut_between_letters_and_not_before_their_marks():
    assert clusters("นี้") == ["นี้"] and clusters("क्षत्रिय") == ["क्ष", "त्रि", "य"]
    assert clusters("e\u0301a") == ["e\u0301", "a"]
    assert cut("क्षत्रिय", 5) == "क्ष" and cut("क्षत्रिय", 20) == "क्षत्रिय" and cut("Teapot", 3) == "Tea"
    assert cut("ที่", 1) == "ที่"  # one letter stays, whatever marks it has
    assert cut(normal_text("Cafe\u0301"), 4) == "Café"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    AnyText2Pipeline(lively_model(), defaults=Defaults(192, 64, 1)).save_pretrained(folder)
    return str(folder)


def test_generate_and_edit_write_all_languages(model, tmp_path, capsys):
    jobs = [{"name": language, "lines": [unicodedata.normalize("NFD", text)]} for language, text in TEXTS.items()]
    (tmp_path / "jobs.yaml").write_text(yaml.safe_dump({"jobs": jobs}), "utf-8")
    common = ["--model", model, "--out", str(tmp_path), "--device", "cpu", "--seed", "3"]
    assert main(["generate", *common, "--jobs", str(tmp_path / "jobs.yaml")]) == 0, capsys.readouterr().err
    for language, text in TEXTS.items():
        (line,) = read_record(tmp_path / f"{language}_3.png")["request"]["lines"]
        assert line["text"] == normal_text(text), language
    assert main(["edit", str(tmp_path / "Arabic_3.png"), *common, "--line",
                 "{text: 'شاي', box: [20, 10, 140, 40]}"]) == 0, capsys.readouterr().err


def test_data_of_all_languages_is_checked_shown_and_trained_on(tmp_path, capsys):
    texts = list(TEXTS.values())
    path = data_set(tmp_path, texts[:3])
    rows = json.loads(path.read_text("utf-8"))
    (tmp_path / "1").mkdir()
    more = json.loads(data_set(tmp_path / "1", texts[3:]).read_text("utf-8"))["data_list"]
    rows["data_list"].append(more[0] | {"img_name": "1/0.png"})
    path.write_text(json.dumps(rows), "utf-8")
    report = tmp_path / "report.json"
    assert main(["data", "check", str(path), "--sheet", str(tmp_path / "sheet.png"), "--json", str(report)]) == 0
    said = capsys.readouterr().out
    assert "Thai 1" in said and (tmp_path / "sheet.png").is_file()
    assert "6 lines: the recogniser of the losses (PP-OCRv3) cannot read" in said and " more, which its" in said
    missing = json.loads(report.read_text("utf-8"))["unreadable"]
    assert {"م", "क", "স", "ก", "ち", "안"} <= set(missing) and not set("東京2 ") & set(missing)
    with pytest.warns(UserWarning, match=r"PP-OCRv3\) cannot read .*CTC term they become spaces \(ctc_unknown"):
        assert fit(tmp_path, path, "--loss_beta", "0.001") == 0
    assert "left out" not in capsys.readouterr().err
