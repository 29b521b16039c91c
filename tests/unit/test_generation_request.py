"""Requests: words in quotes, regions, colours, fonts, the layout, and errors that name the line and the remedy."""
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anytext_lib.data import TextLines
from anytext_lib.data.anyword import NO_COLOUR
from anytext_lib.data.batch import to_tensor
from anytext_lib.data.fonts import font_path, load_fonts, typeface
from anytext_lib.data.glyphs import draw_glyphs
from anytext_lib.data.texts import guess_language
from anytext_lib.generation.input_images import is_mask, read_mask, read_picture
from anytext_lib.generation.place import (
    SMALLEST_LETTERS,
    free_rectangle,
    lay_out,
    letter_size,
    parse_color,
    place_lines,
    region_problems,
    size_problem,
)
from anytext_lib.generation.regions import mask_polygon, painted_regions, region_polygon
from anytext_lib.generation.request import (
    Defaults,
    Line,
    Request,
    RequestError,
    Settings,
    image_caption,
    join_lines,
    quoted_words,
    text_caption,
)
from anytext_lib.ocr.crops import crop_lines

SIZE = (128, 192)


def box(x, y, width=80, height=30):
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def placed(*lines, prompt="", size=SIZE, **more):
    return place_lines(Request(prompt, lines, **more), size)


# words in quotes


@pytest.mark.parametrize("prompt, words", [
    ('a sign that says "Tea"', ["Tea"]), ('"A" and "B C"', ["A", "B C"]), ("\u201cTea\u201d", ["Tea"]),
    ("\u300c\u8336\u300d", ["\u8336"]), ('a 6" nail', []), ('an empty ""', []), ("it's Tom's", [])])
def test_quoted_words(prompt, words):
    assert quoted_words(prompt) == words


def test_captions_hold_a_placeholder_for_each_quoted_word():
    prompt = 'A sign "Tea","Coffee" on a * wall.'
    assert image_caption(prompt, "sharp") == "A sign * , * on a wall., sharp"
    assert image_caption('a "" sign') == "a sign" and image_caption("", "x") == "x"
    assert image_caption('says "Tea".', literal=True) == 'says "Tea".'
    assert text_caption(2) == "Texts are * , * . " and text_caption(0) == ""


def test_a_quoted_word_stands_for_the_line_of_that_text():
    lines = [Line("Open"), Line("Tea", color="red"), Line("Tea", color="blue")]
    joined = join_lines('"Tea" "Milk" "Tea"', lines)
    assert [line.text for line in joined] == ["Tea", "Milk", "Tea", "Open"]
    assert [line.color for line in joined] == ["red", None, "blue", None]


# regions


def test_quads_and_polygons_stay_as_they_are():
    assert region_polygon(box(1, 2), SIZE, "line 1").tolist() == box(1, 2)
    assert region_polygon(np.array([[0, 0], [50, 0], [20, 40]]), SIZE, "line 1").shape == (3, 2)


def test_a_painted_mask_becomes_its_outline(tmp_path):
    mask = np.zeros(SIZE, np.uint8)
    mask[20:50, 30:120] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    rgba = np.zeros((*SIZE, 4), np.uint8)
    rgba[..., 3] = mask
    for given_mask in (mask, mask > 0, mask / 255, Image.fromarray(mask), tmp_path / "mask.png", Image.fromarray(rgba)):
        polygon = region_polygon(given_mask, SIZE, "line 1")
        assert polygon.min(axis=0).tolist() == [30, 20] and polygon.max(axis=0).tolist() == [119, 49]
    assert is_mask(mask) and not is_mask(box(0, 0))


def test_painted_regions_come_in_reading_order():
    mask = np.zeros((100, 200), bool)
    for x, y in ((120, 10), (10, 14), (10, 70)):
        mask[y : y + 20, x : x + 60] = True
    mask[50:52, 50:52] = True  # a blot
    corners = [polygon.min(axis=0).tolist() for polygon in painted_regions(mask, (100, 200))]
    assert corners == [[10, 14], [120, 10], [10, 70]]
    columns = [polygon.min(axis=0).tolist() for polygon in painted_regions(mask, (100, 200), "columns")]
    assert columns == [[10, 14], [10, 70], [120, 10]]


def test_a_stroke_of_paint_is_a_box():
    mask = np.zeros((40, 60), bool)
    mask[20, 5:50] = True
    assert mask_polygon(mask).shape == (4, 2)


def test_regions_that_touch_do_not_overlap():
    side = [np.array(box(10, 10), float), np.array(box(90, 10), float)]
    assert region_problems(side, ["a", "b"], SIZE) == []


# errors: each names the line and says what to do


@pytest.mark.parametrize("lines, more, pattern", [
    ([Line("Tea"), Line("  ")], {}, r"line 2 \(''\): the text is blank.*leave the line out"),
    ([Line("a" * 21)], {}, r"line 1 .*21 characters.*at most 20.*split it"),
    ([Line("Hello world and everybody")], {}, r"25 characters.*'Hello world and' and 'everybody'"),
    ([Line("a\nb")], {}, r"line 1 .*line break.*two lines"),
    ([Line("Tea"), Line("\u10d0")], {}, r"line 2 .*U\+10D0.*Choose another font"),
    ([Line("\u56fd\u5bb6", font="OpenSans")], {}, r"line 1 .*the font OpenSans has no glyph for '\u56fd\u5bb6'"),
    ([Line("Tea", font="Nonesuch")], {}, r"line 1 .*neither a font of the course \(.*OpenSans.*nor a font file"),
    ([Line("Tea", font="OpenSans", style_image="x.png")], {}, r"line 1 .*both a font and a style image"),
    ([Line("Tea", color="reddish")], {}, r"line 1 .*'reddish' is no colour.*#rrggbb"),
    ([Line("Tea", color=(1, 2, 300))], {}, r"no colour"),
    ([Line("Tea", box(10, 10)), Line("Milk", box(60, 20))], {},
     r"line 1 \('Tea'\) and line 2 \('Milk'\): their regions overlap by 600 square pixels: move them apart"),
    ([Line("Tea", box(150, 10))], {}, r"line 1 .*x 150 to 230.*leaves the picture of 192 x 128.*move it inside"),
    ([Line("Tea", box(10, 10, 30, 5))], {}, r"line 1 .*region of 30 x 5 pixels has room for letters of \d.*below "
     + str(SMALLEST_LETTERS) + ".*at least"),
    ([Line("Tea", [[0, 0], [50, 50], [50, 0], [0, 50]])], {}, r"line 1 .*sides of its region cross.*in order"),
    ([Line("Tea", [[0, 0], [50, 0]])], {}, r"line 1 .*at least three corners"),
    ([Line("Tea", [[0, 0], [50, 0], [3]])], {}, r"line 1 .*at least three corners"),
    ([Line(2024)], {}, r"line 1 \(2024\): the text is int, not a string: write it in quotes"),
    ([Line("Tea", np.zeros(SIZE))], {}, r"line 1 .*its mask is empty: paint"),
    ([Line("Tea", np.ones((5, 5)))], {}, r"mask of line 1 .*5 x 5 pixels, the picture 192 x 128"),
    ([Line("Tea"), Line("Milk")], {"mask": np.pad(np.ones((40, 90)), ((10, 78), (10, 92)))},
     r"2 lines for the 1 regions of the mask; none is left for line 2 \('Milk'\): paint more regions"),
    ([Line("Tea", style_image="/no/such.png")], {}, r"line 1 .*style image: cannot read /no/such.png"),
])
def test_errors_name_the_line_and_the_remedy(lines, more, pattern):
    with pytest.raises(RequestError, match=pattern):
        placed(*lines, **more)


def test_a_file_that_is_no_font(tmp_path):
    wrong = tmp_path / "letters.ttf"
    wrong.write_text("not a font")
    with pytest.raises(RequestError, match=r"line 1 .*letters.ttf is no font file.*\.otf"):
        placed(Line("Tea", font=str(wrong)))
    with pytest.raises(RequestError, match="no font file"):
        placed(Line("Tea"), glyph_font=str(wrong))


def test_several_problems_are_told_at_once():
    with pytest.raises(RequestError, match="line 1(.|\n)*line 3"):
        placed(Line(" "), Line("Tea"), Line("b" * 30))


def test_an_image_that_cannot_be_read(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(RequestError, match="cannot read .*x.png: it is not a picture of a known format"):
        read_picture(tmp_path / "x.png", "the picture to edit")
    with pytest.raises(RequestError, match="uint8.*float32"):
        read_picture(np.zeros((4, 4, 3), np.float32), "the picture to edit")
    with pytest.raises(RequestError, match="a painted mask is"):
        read_mask(np.zeros(5), "mask")


def test_more_regions_than_lines_is_a_warning():
    mask = np.zeros(SIZE, bool)
    mask[10:50, 10:150] = mask[70:110, 10:150] = True
    with pytest.warns(UserWarning, match="2 regions for 1 lines: the last 1"):
        (line,) = placed(Line("Tea"), mask=mask)
    assert line.polygon[:, 1].max() < 60


def test_lines_are_texts_or_lines():
    assert Request(lines="Tea").lines == (Line("Tea"),) and Request(lines=["A", Line("B")]).lines[0] == Line("A")
    with pytest.raises(RequestError, match="a line is a text or a Line"):
        Request(lines=[("Tea", box(1, 1))])
    with pytest.raises(RequestError, match="order is 'rows' or 'columns'"):
        Request(order="down")
    with pytest.raises(RequestError, match="quoted_words is"):
        Request(quoted_words="no")


@pytest.mark.parametrize("name, values", [
    ("ddim_steps", (0, 1001, 2.5)), ("cfg_scale", (-1, "x")), ("eta", (1.5,)), ("strength", (float("nan"),))])
def test_settings_are_checked(name, values):
    for value in values:
        with pytest.raises(RequestError, match=name):
            Settings(**{name: value})


# fonts, colours, languages


def test_what_a_line_is_drawn_with():
    face = str(font_path("EBGaramond"))
    tea, state, plain = placed(Line("Tea", box(5, 5), font=face, color="#0a1422"), Line("\u56fd\u5bb6", box(5, 40)),
                               Line("Milk", box(5, 80)), glyph_font=None)
    assert tea.font == face and tea.color == (10, 20, 34) and plain.color == NO_COLOUR and plain.font is None
    assert set(state.text) <= load_fonts()[state.glyph_font].characters and state.language == "Chinese_sim"
    assert placed(Line("Tea"), glyph_font="Merienda")[0].glyph_font == "Merienda"


def test_colours_and_languages():
    assert parse_color("darkred", "") == (139, 0, 0) and parse_color("1, 2,3", "") == (1, 2, 3)
    assert parse_color(np.array([1, 2, 3]), "") == (1, 2, 3) and parse_color(None, "") == NO_COLOUR
    assert parse_color("rgb(4, 5, 6)", "") == (4, 5, 6) and parse_color(NO_COLOUR, "") == NO_COLOUR
    assert [guess_language(text) for text in ("Tea", "\u3053\u3093", "\uad6d", "\u8336")] == [
        "Latin", "Japanese", "Korean", "Chinese_sim"]


# layout


@given(st.lists(st.text("abcdefghijklmnop", min_size=1, max_size=12), min_size=1, max_size=6),
       st.sampled_from([(64, 192), (512, 512), (256, 128)]), st.booleans())
def test_laid_out_lines_are_inside_apart_and_in_reading_order(texts, size, crowded):
    taken = [np.array(box(4, 4, size[1] * 0.4, size[0] * 0.3), float)] if crowded else []
    boxes = lay_out(texts, ["OpenSans"] * len(texts), size, taken)
    names = [str(i) for i in range(len(boxes) + len(taken))]
    assert region_problems([*boxes, *taken], names, size) == []
    for before, after in zip(boxes, boxes[1:], strict=False):
        below = after[:, 1].min() >= before[:, 1].max()
        assert below or after[:, 0].min() >= before[:, 0].max() and after[0, 1] == before[0, 1]


def test_the_layout_keeps_letters_large():
    one, two = lay_out(["Tea", "Coffee"], ["OpenSans"] * 2, (64, 192))
    assert one[0, 1] == two[0, 1]  # side by side: two rows would halve the letters
    assert letter_size("Tea", "OpenSans", one) > 20
    assert lay_out([], [], (64, 64)) == []
    with pytest.raises(RequestError, match="no free place"):
        lay_out(["Tea"], ["OpenSans"], (64, 64), [np.array(box(0, 0, 63, 63), float)])


def test_free_rectangle_is_the_larger_side():
    taken = np.array(box(0, 0, 60, 99), float)
    left, top, right, bottom = free_rectangle((100, 200), [taken])
    assert left == 65 and right == 194 and top == 5 and bottom == 94


def test_too_many_words_for_the_picture_are_too_small():
    with pytest.raises(RequestError, match=r"letters of \d"):
        placed(*[Line("abcdefghijklmnopqrst") for _ in range(9)], size=(64, 64))


# legibility


def readable_share(recogniser, size, words, fonts):
    """Share of words that are read exactly when drawn in white on black at ``size`` pixels per em, in [0, 1]."""
    right = 0
    for font in fonts:
        for word in words:
            left, top, right_end, bottom = typeface(font, size).getbbox(word)
            width, height = right_end - left + 3, max(bottom - top + 3, size + 2)
            canvas = np.zeros((height + 8, width + 8, 3), np.uint8)
            quad = np.array(box(4, 4, width, height), np.float32)
            draw_glyphs(canvas, word, font, quad, spread=False)
            lines = TextLines([0], torch.from_numpy(quad)[None], [word], ["Latin"])
            right += recogniser.read(crop_lines(to_tensor(canvas), lines)) == [word]
    return right / (len(words) * len(fonts))


def test_smallest_letters_are_where_the_recogniser_begins_to_fail(recognizer):
    words, fonts = ("Garden", "Station", "Market", "light"), ("OpenSans", "Montserrat")
    assert readable_share(recognizer, SMALLEST_LETTERS - 1, words, fonts) <= 0.5
    assert readable_share(recognizer, SMALLEST_LETTERS + 1, words, fonts) > 0.8


@pytest.mark.parametrize("vertical", [False, True])
def test_the_size_that_an_error_asks_for_is_enough(vertical):
    import re

    small = np.array(box(20, 20, 5, 30) if vertical else box(20, 20, 30, 5), float)
    problem = size_problem("Tea", "OpenSans", small, "line 1")
    width, height = map(int, re.search(r"at least (\d+) x (\d+) pixels", problem).groups())
    assert size_problem("Tea", "OpenSans", np.array(box(20, 20, width + 1, height + 1), float), "line 1") is None


def test_letters_are_measured_at_the_size_at_which_the_model_works():
    region = np.array(box(20, 20, 100, 30), float)
    assert size_problem("Tea", "OpenSans", region, "line 1") is None
    problem = size_problem("Tea", "OpenSans", region, "line 1", shrink=0.2)
    assert "at the size at which the model works" in problem and "100 x 30" in problem


# defaults


def test_defaults_travel_with_a_folder(tmp_path):
    assert Defaults.read(tmp_path) == Defaults()
    kept = Defaults(width=192, height=64, cfg_scale=1.0, quoted_words="literal")
    kept.write(tmp_path)
    assert Defaults.read(tmp_path) == kept
    (tmp_path / "generation.json").write_text('{"widht": 3}')
    with pytest.raises(RequestError, match="unknown entries \\['widht'\\]"):
        Defaults.read(tmp_path)
