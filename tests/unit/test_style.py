"""Figures: Chinese without warnings, alternative text, sizes of files, forms of images."""

from __future__ import annotations

import base64
import io
import logging
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image

from anytext_lib.course import show, show_images, style


@pytest.fixture(autouse=True)
def styled():
    """The course's style for one test."""
    InteractiveShell.instance()
    with matplotlib.rc_context():
        style.use()
        yield
    plt.close("all")


def shown(action, *arguments, **options):
    """(picture, its metadata, its words, the outputs) of what an action displays."""
    with capture_output() as captured:
        action(*arguments, **options)
    first = captured.outputs[0]
    picture = Image.open(io.BytesIO(base64.b64decode(first.data["image/png"])))
    return picture, first.metadata, first.data["text/plain"], captured.outputs


def test_chinese_is_drawn_without_complaint(caplog):
    fig, ax = plt.subplots()
    ax.set_title("文字 and text, bold too", fontweight="bold")
    ax.set_xlabel("你好 − 中国")
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, logger="matplotlib"):
        warnings.simplefilter("error")
        shown(show, fig, alt="A plot with Chinese labels")
    assert [record.message for record in caplog.records if "normal" in record.message] == []


def test_chinese_characters_differ_from_each_other():
    pictures = []
    for character in "文字":
        fig = plt.figure(figsize=(1, 1))
        fig.text(0.2, 0.2, character, fontsize=30)
        pictures.append(style.png_bytes(fig))
    assert pictures[0] != pictures[1], "both would be the same box if no font had them"


def test_figure_is_a_picture_with_words_for_every_viewer():
    fig, _ = plt.subplots()
    picture, metadata, plain, (_, caption) = shown(show, fig, alt='A "quoted" <line>\nfor $6 and $7. And more.')
    alt = 'A "quoted" <line> for $6 and $7. And more.'
    assert metadata == {"image/png": {"alt": alt, "width": 720}, "vscode_altText": alt} and plain == f"[figure] {alt}"
    assert picture.size == (8 * style.PIXELS_PER_INCH, int(3.6 * style.PIXELS_PER_INCH))
    assert caption.data == {"text/markdown": '*A "quoted" \\<line\\> for `$6` and `$7.`*',
                            "text/plain": 'A "quoted" <line> for $6 and $7.'}
    assert not plt.get_fignums()


def test_caption_can_be_given():
    *_, (_, caption) = shown(show, plt.figure(), alt="Long. Words.", caption="What to see")
    assert caption.data["text/plain"] == "What to see"
    *_, (_, caption) = shown(show_images, [np.zeros((8, 8))], alt="Long. Words.", caption="A square")
    assert caption.data["text/plain"] == "A square"


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_figure_without_alternative_text_is_refused(empty):
    with pytest.raises(ValueError, match="needs alternative text"):
        show(plt.figure(), alt=empty)


@pytest.mark.parametrize(("text", "first"), [
    ("One. Two.", "One."), ("No end", "No end"), ("A = -0.16; x is 1.5 here. Then", "A = -0.16; x is 1.5 here."),
    ("He said \u201cyes.\u201d Then", "He said \u201cyes.\u201d"), ("Why? Because", "Why?"), ("vs. it", "vs. it"),
])
def test_first_sentence(text, first):
    assert style.first_sentence(text) == first


def test_same_figure_gives_the_same_bytes():
    def png() -> bytes:
        fig, ax = plt.subplots()
        ax.plot([1, 2])
        return style.png_bytes(fig)

    assert png() == png()


def drawn(fig) -> np.ndarray:
    """The pixels (H, W, 3) that matplotlib draws at the resolution of stored bitmaps."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=style.PIXELS_PER_INCH)
    return np.asarray(Image.open(buffer).convert("RGB"))


def picture_of(array: np.ndarray):
    """A figure that holds a picture and nothing else."""
    fig, ax = plt.subplots(figsize=(2, 2))
    ax.imshow(array)
    ax.set_axis_off()
    return fig


NOISE = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)


def test_colours_are_true_with_and_without_a_palette():
    blocks = np.uint8([[(197, 136, 0), (61, 151, 210)], [(18, 52, 86), (255, 255, 255)]]).repeat(100, 0).repeat(100, 1)
    for array, mode in ((blocks, "P"), (NOISE[:40, :40], "RGB")):
        fig = picture_of(array)
        picture = Image.open(io.BytesIO(style.png_bytes(fig)))
        assert picture.mode == mode and np.array_equal(np.asarray(picture.convert("RGB")), drawn(fig))


def test_noise_is_stored_as_fine_as_the_page_and_no_finer(monkeypatch):
    fig = picture_of(NOISE)
    fine = Image.open(io.BytesIO(style.png_bytes(fig)))
    monkeypatch.setattr(style, "LARGEST", 50_000)
    coarse = Image.open(io.BytesIO(style.png_bytes(fig)))
    assert fine.width == 2 * style.PIXELS_PER_INCH and coarse.width == 2 * style.SHOWN_PER_INCH
    assert fine.mode == coarse.mode == "RGB", "true colours, both"


@pytest.mark.parametrize(("shape", "titles", "columns"), [
    ((256, 256), ["one", "two\nlines", "x"], 3), ((64, 96), ["g"] * 3, 3), ((48, 320), ["\u4f60\n\u4f60\u597dg"], 1),
    ((100, 300), ["a\nb\nc"] * 6, 3), ((48, 320), ["a"] * 8, 4), ((200, 50), ["a\nb"] * 4, 4),
])
def test_titles_are_not_cut(shape, titles, columns):
    images = [np.full((*shape, 3), 200, np.uint8)] * len(titles)
    picture, *_ = shown(show_images, images, titles, alt="Grey squares", columns=columns, width=8.2)
    grey = np.asarray(picture.convert("L"))
    edges = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    assert edges.min() > 250 and grey.min() < 100, "the outermost pixels are paper, and there is ink"


def test_lines_can_be_seen_on_white_paper():
    def contrast(color: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(color)]
        return 1.05 / (np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05)

    assert all(contrast(style.PALETTE[name]) >= 3 for name in (*style.CYCLE, "grey"))
    assert all(contrast(color) >= 3 for color in style.COLORS.values())


def test_images_of_all_forms_are_shown_in_a_grid():
    images = [np.zeros((8, 8, 3), np.uint8), torch.zeros(3, 8, 8), torch.rand(1, 8, 8), np.ones((8, 8))]
    picture, *_ = shown(show_images, images, ["a", "b", "c", "d"], alt="Four squares", columns=2)
    assert picture.width == round(8.5 * style.PIXELS_PER_INCH) and picture.height > picture.width
    picture, *_ = shown(show_images, torch.zeros(2, 3, 8, 8), alt="Two grey squares")
    grey = np.asarray(picture.convert("RGB"))[picture.height // 2, picture.width // 4]
    assert tuple(grey) == (127, 127, 127) or tuple(grey) == (128, 128, 128), "0 of [-1, 1] is grey"


def test_wrong_images_are_explained():
    with pytest.raises(ValueError, match=r"Cannot show an image of shape \(5, 4, 4\)"):
        show_images([torch.zeros(5, 4, 4)], alt="x")
    with pytest.raises(ValueError, match="got 1 images and 2 titles"):
        show_images([np.zeros((4, 4))], ["a", "b"], alt="x")
    with pytest.raises(ValueError, match="no image"):
        show_images([], alt="x")


def test_colours_of_the_terms_can_be_told_apart():
    terms = [style.COLORS[name] for name in ("simple", "ocr", "ctc", "total")]
    light = [np.dot(matplotlib.colors.to_rgb(colour), (0.299, 0.587, 0.114)) for colour in terms]
    assert len(set(terms)) == 4 and min(np.diff(sorted(light))) > 0.02, "in grey, too"
