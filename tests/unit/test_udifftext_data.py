"""Upstream's data sets of UDiffText, small ones made in their layouts: words, windows, regions of characters."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from scipy.io import savemat

from anytext_lib.cli import main
from anytext_lib.data.batch import collate
from anytext_lib.data.dataset import BadImageWarning
from anytext_lib.data.fonts import pil_font
from anytext_lib.data.sample import SampleConfig
from anytext_lib.errors import MissingFileError, OptionError
from anytext_lib.udifftext.label_encoder import PRINTABLE
from anytext_lib.udifftext.model import UDiffTextModel
from anytext_lib.udifftext.original_words import (
    LAYOUTS,
    OriginalWords,
    WordDataError,
    cut_word,
    polygon_area,
    read_words,
    word_window,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CONFIG = SampleConfig(image_size=(64, 192), max_lines=1, max_chars=12, mask_ratio=1.0, font_hint_prob=0.0,
                      position_jitter=False)
TEXT, CORNER, SIZE = "Tee", (60, 100), (300, 400)  # text, left and top, height and width of the picture


def draw_word(text: str, corner: tuple[int, int], size: tuple[int, int]):
    """A picture of a word, a mask of each of its letters, and the word's and the letters' boxes."""
    font, (left, top) = pil_font("OpenSans", 90), corner
    picture = Image.new("RGB", size[::-1], (230, 220, 200))
    masks, boxes = [], []
    for letter in text:
        mask = Image.new("L", size[::-1])
        for canvas, ink in ((mask, 255), (picture, (20, 30, 80))):
            ImageDraw.Draw(canvas).text((left, top), letter, fill=ink, font=font)
        masks.append(np.asarray(mask) > 127)
        x0, y0, x1, y1 = mask.getbbox()
        boxes.append(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float))
        left += int(font.getlength(letter)) + 6
    points = np.concatenate(boxes)
    (x0, y0), (x1, y1) = points.min(axis=0) - 4, points.max(axis=0) + 4
    return picture, np.stack(masks), np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), boxes


def make_icdar13(root):
    picture, _, box, boxes = draw_word(TEXT, CORNER, SIZE)
    (root / "images").mkdir()
    (root / "annos").mkdir()
    picture.save(root / "images" / "img_1.jpg")
    left, top, right, bottom = (int(v) for v in (*box[0], *box[2]))
    rows = [f'{left}, {top}, {right}, {bottom}, "{TEXT}"', '0, 0, 9, 9, "tiny"', f'{left} {top} {right} {bottom} "a b"']
    (root / "annos" / "gt_img_1.txt").write_text("\n".join(rows), encoding="utf-8-sig")
    return boxes


def make_textseg(root):
    picture, masks, box, boxes = draw_word(TEXT, CORNER, SIZE)
    (root / "image").mkdir()
    (root / "annotation").mkdir()
    picture.save(root / "image" / "a1.jpg")
    shown = np.zeros(SIZE, np.uint8)
    for i, mask in enumerate(masks):
        shown[mask] = 50 + i
    Image.fromarray(shown).save(root / "annotation" / "a1_mask.png")
    Image.fromarray(shown * 0).save(root / "annotation" / "a1_maskeff.png")
    word = {"text": TEXT, "bbox": box.flatten().tolist(),
            "char": {str(i): {"text": c, "bbox": boxes[i].flatten().tolist(), "mask_value": 50 + i}
                     for i, c in enumerate(TEXT)}}
    notes = {"0": word, "1": {**word, "text": "T#e"}, "2": {**word, "text": "Tea"}}
    (root / "annotation" / "a1_anno.json").write_text(json.dumps(notes))
    return boxes


def make_synthtext(root):
    picture, _, box, boxes = draw_word(TEXT, CORNER, SIZE)
    (root / "8").mkdir()
    picture.save(root / "8" / "a.jpg")
    words = np.stack([box, box + 5]).transpose(2, 1, 0)  # (2, 4, N)
    names, texts, of_words, of_letters = (np.empty((1, 1), object) for _ in range(4))
    names[0, 0], of_words[0, 0] = np.array(["8/a.jpg"]), words
    texts[0, 0] = np.array([f" {TEXT} \n", "ab"])
    of_letters[0, 0] = np.stack([*boxes, *boxes[:2]]).transpose(2, 1, 0)
    savemat(root / "gt.mat", {"imnames": names, "txt": texts, "wordBB": of_words, "charBB": of_letters})
    return boxes


def make_laion(root, missing: bool = False):
    picture, masks, box, boxes = draw_word(TEXT, CORNER, (512, 512))
    (root / "00001_1").mkdir()
    picture.resize((700, 350)).save(root / "00001_1" / "image.jpg")
    classes = np.zeros((512, 512), np.uint8)
    for character, mask in zip(TEXT, masks[: 2 if missing else 3], strict=False):
        classes[mask] = PRINTABLE.index(character.lower()) + 1
    classes[400, 100:300] = PRINTABLE.index("e") + 1  # a line of noise, and it lies outside of the word
    np.save(root / "00001_1" / "charseg.npy", classes)
    corners = ",".join(str(int(v)) for v in box.flatten())
    (root / "00001_1" / "ocr.txt").write_text(f"{TEXT} {corners} 0.98\nverylongwords {corners} 0.9\n")
    return boxes


MAKERS = {"icdar13": make_icdar13, "textseg": make_textseg, "synthtext": make_synthtext, "laion-ocr": make_laion}


class TestLayouts:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_a_word_comes_with_its_window_and_its_characters(self, tmp_path, layout):
        boxes = MAKERS[layout](tmp_path)
        words = read_words(layout, tmp_path)
        assert [word.text for word in words] == ([TEXT, "ab"] if layout == "synthtext" else [TEXT])
        image, polygon, regions = cut_word(words[0], CONFIG.image_size)
        assert image.shape == (64, 192, 3) and (polygon >= -1).all() and (polygon <= (192, 64)).all()
        assert polygon_area(polygon) / (64 * 192) > 0.0399
        dark = (image.max(axis=2) < 120).astype(float)  # ink: all of it lies in the word's box
        (x0, y0), (x1, y1) = np.floor(polygon.min(axis=0)).astype(int), np.ceil(polygon.max(axis=0)).astype(int)
        assert dark.sum() > 50 and dark[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1].sum() == dark.sum()
        if layout == "icdar13":
            assert regions is None
            return
        assert regions.shape == (3, 64, 192) and set(np.unique(regions)) == {0, 1}
        scale = np.ptp(polygon[:, 0]) / np.ptp(words[0].polygon[:, 0])
        for region, box in zip(regions, boxes, strict=True):
            centre = np.argwhere(region).mean(axis=0)[::-1]
            wanted = (box.mean(axis=0) - words[0].polygon[0]) * scale + polygon[0]
            assert np.abs(centre - wanted).max() < 3
        assert dark[regions.any(axis=0)].sum() > 0.9 * dark.sum()

    def test_a_word_whose_characters_are_not_found_is_passed_over(self, tmp_path):
        make_laion(tmp_path, missing=True)
        words = read_words("laion-ocr", tmp_path)
        with pytest.raises(WordDataError, match="'e' are 2, but 1 are found in charseg.npy"):
            cut_word(words[0], CONFIG.image_size)
        (tmp_path / "other").mkdir()
        make_icdar13(tmp_path / "other")
        both = OriginalWords([*words, *read_words("icdar13", tmp_path / "other")], CONFIG)
        with pytest.warns(BadImageWarning, match="the next one is taken"):
            sample = both[0]
        assert sample.name == "img_1.jpg" and len(sample.skipped) == 1 and sample.regions is None
        with pytest.raises(WordDataError, match="1 words one after the other"):
            OriginalWords(words, CONFIG)[0]

    @pytest.mark.parametrize("layout, file, content, message", [
        ("icdar13", "annos/gt_a.txt", "1, 2, 3, Tea", "line 1: a row is left, top, right, bottom"),
        ("laion-ocr", "a/ocr.txt", "Tea 1,2,3 0.9", "line 1: a row is text x1,y1"),
        ("synthtext", "gt.mat", "no table", "not SynthText's gt.mat")])
    def test_what_is_not_in_the_layout_is_named(self, tmp_path, layout, file, content, message):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(content)
        with pytest.raises(WordDataError, match=message):
            read_words(layout, tmp_path)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_an_empty_folder_and_none(self, tmp_path, layout):
        for folder in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(MissingFileError, match=re.escape(str(tmp_path))):
                read_words(layout, folder)

    def test_textseg_with_a_foreign_json(self, tmp_path):
        make_textseg(tmp_path)
        (tmp_path / "annotation" / "a1_anno.json").write_text('{"0": {"text": "Tea"}}')
        with pytest.raises(WordDataError, match="not of TextSeg's form"):
            read_words("textseg", tmp_path)


class TestWindow:
    def test_a_small_word_fills_a_25th_and_lies_in_the_picture(self):
        word = np.array([[5.0, 5], [65, 5], [65, 25], [5, 25]])
        left, top, width = word_window(word, (1000, 1000), (512, 512))
        assert (left, top) == (0, 0) and width == pytest.approx((60 * 20 / 0.04) ** 0.5)
        left, top, width = word_window(word + 500, (1000, 1000), (512, 512))
        assert left + width / 2 == pytest.approx(535) and top + width / 2 == pytest.approx(515)

    def test_a_large_word_takes_the_picture_in_a_frame(self):
        word = np.array([[0.0, 0], [400, 0], [400, 100], [0, 100]])
        assert word_window(word, (100, 400), (512, 512)) == pytest.approx((0, -150, 400))

    def test_a_long_word_is_never_cut(self):
        word = np.array([[100.0, 500], [900, 500], [900, 504], [100, 504]])
        left, _, width = word_window(word, (1000, 1000), (512, 512))
        assert left <= 100 and left + width >= 900


class TestTraining:
    def test_the_regions_of_the_data_set_are_what_attention_is_compared_with(self, tmp_path):
        make_laion(tmp_path)
        sample = OriginalWords(read_words("laion-ocr", tmp_path), CONFIG)[0]
        batch = collate([sample, sample])
        assert batch.regions.shape == (2, 3, 64, 192)
        told = UDiffTextModel("tiny").conditions(batch)
        assert torch.equal(told.segments[:, :3], batch.regions) and not told.segments[:, 3:].any()
        assert told.valid.sum(dim=1).tolist() == [3, 3]
        other = UDiffTextModel("tiny").conditions(batch, labels=["ab", "abcd"])
        assert other.valid.sum(dim=1).tolist() == [2, 4] and not torch.equal(other.segments[:, :3], batch.regions)

    def test_a_batch_knows_regions_only_if_all_do(self, tmp_path):
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        make_laion(tmp_path / "one")
        make_icdar13(tmp_path / "two")
        words = read_words("laion-ocr", tmp_path / "one") + read_words("icdar13", tmp_path / "two")
        data = OriginalWords(words, CONFIG)
        assert collate([data[0], data[1]]).regions is None and collate([data[0]]).regions is not None

    def test_the_configuration_of_the_official_size(self, tmp_path):
        """Upstream's settings, on a model that fits here."""
        (tmp_path / "data").mkdir()
        make_laion(tmp_path / "data")
        options = {"model": "tiny", "runs": tmp_path, "trainer.max_steps": 1,
                   "data.train": f"laion-ocr:{tmp_path}/data", "data.batch_size": 1, "grad_accum": 1,
                   "trainer.accelerator": "cpu", "data.num_workers": 0, "data.image_size": "[128,128]",
                   "model.min_size": 8, "sequence_weight": 0.001}
        assert main(["fit", "--config", "udifftext_sd2.yaml", *(f"--{k}={v}" for k, v in options.items())]) == 0
        kept = json.loads((tmp_path / "udifftext" / "model" / "udifftext.json").read_text(encoding="utf-8"))
        assert kept["masked_fill"] == "grey"

    @pytest.mark.parametrize("layout", ["textseg", "laion-ocr"])
    def test_fit_from_the_command_line(self, tmp_path, layout):
        (tmp_path / "data").mkdir()
        MAKERS[layout](tmp_path / "data")
        source = f"{layout}:{tmp_path / 'data'}"
        options = {"model": "tiny", "runs": tmp_path, "trainer.max_steps": 1, "trainer.val_check_interval": 1,
                   "data.train": source, "data.val": source, "data.batch_size": 1, "trainer.accelerator": "cpu",
                   "model.warmup_steps": 0, "model.lr_schedule": "constant", "words.every": 0}
        assert main(["fit", "--config", "udifftext_mini.yaml", *(f"--{k}={v}" for k, v in options.items()),
                     "--data.scenes=null", "--data.val_scenes=null", "--val_limit=1"]) == 0
        assert (tmp_path / "udifftext_mini" / "model" / "udifftext.json").is_file()

    def test_words_written_into_icdar13_are_read(self, tmp_path, capsys):
        (tmp_path / "data").mkdir()
        make_icdar13(tmp_path / "data")
        options = {"model": "tiny", "runs": tmp_path, "data.val": f"icdar13:{tmp_path / 'data'}", "data.val_limit": 1,
                   "data.batch_size": 1, "trainer.accelerator": "cpu", "words.steps": 2, "words.images": 1,
                   "data.val_scenes": "null"}
        assert main(["validate", "--config", "udifftext_mini.yaml", *(f"--{k}={v}" for k, v in options.items())]) == 0
        assert "v/seq_acc" in capsys.readouterr().out
        rows = json.loads((tmp_path / "udifftext_mini" / "images" / "step=0000000.json").read_text(encoding="utf-8"))
        assert rows[0]["wanted"] == TEXT and isinstance(rows[0]["written"], str)

    def test_what_cannot_be_done_is_said(self, tmp_path, capsys):
        source = ["--data.train", f"textseg:{tmp_path / 'nowhere'}"]
        options = ["--config", "udifftext_mini.yaml", "--model", "tiny", "--runs", str(tmp_path), *source]
        assert main(["fit", *options, "--trainer.accelerator", "cpu"]) == 2
        assert "there is no folder" in capsys.readouterr().err
        with pytest.raises(OptionError, match="no layout 'funsd'"):
            read_words("funsd", tmp_path)
        with pytest.raises(OptionError, match="no word is left"):
            OriginalWords([], CONFIG)
