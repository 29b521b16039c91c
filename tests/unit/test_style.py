"""Figures: Chinese without warnings, alternative text, sizes of files, forms of images."""

from __future__ import annotations

import base64
import io
import logging
import re
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


def shown(action, *arguments, **options) -> tuple[str, Image.Image]:
    """(HTML, picture) of what an action displays."""
    with capture_output() as captured:
        action(*arguments, **options)
    (output,) = captured.outputs
    data = re.search(r"base64,([^\"]+)", output.data["text/html"]).group(1)
    return output.data["text/html"], Image.open(io.BytesIO(base64.b64decode(data)))


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


def test_alternative_text_is_escaped_and_never_empty():
    fig, _ = plt.subplots()
    markup, picture = shown(show, fig, alt='a "quoted" <line>\nand more')
    assert 'alt="a &quot;quoted&quot; &lt;line&gt; and more"' in markup and 'width="720"' in markup
    assert picture.size == (8 * style.PIXELS_PER_INCH, int(3.6 * style.PIXELS_PER_INCH))
    assert not plt.get_fignums()
    for empty in ("", "  ", None):
        with pytest.raises(ValueError, match="needs alternative text"):
            show(plt.figure(), alt=empty)


def test_same_figure_gives_the_same_bytes():
    def png() -> bytes:
        fig, ax = plt.subplots()
        ax.plot([1, 2])
        return style.png_bytes(fig)

    assert png() == png()


def test_large_bitmaps_get_a_palette_and_small_ones_do_not():
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    fig, ax = plt.subplots(figsize=(4, 4))
    ax.imshow(noise)
    small, large = style.png_bytes(fig, max_kib=50), style.png_bytes(fig, max_kib=10_000)
    assert Image.open(io.BytesIO(small)).mode == "P" and Image.open(io.BytesIO(large)).mode != "P"
    assert len(small) < 0.6 * len(large)


def test_images_of_all_forms_are_shown_in_a_grid():
    images = [np.zeros((8, 8, 3), np.uint8), torch.zeros(3, 8, 8), torch.rand(1, 8, 8), np.ones((8, 8))]
    _, picture = shown(show_images, images, ["a", "b", "c", "d"], alt="Four squares", columns=2)
    assert picture.width == round(8.5 * style.PIXELS_PER_INCH) and picture.height > picture.width
    _, picture = shown(show_images, torch.zeros(2, 3, 8, 8), alt="Two grey squares")
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
