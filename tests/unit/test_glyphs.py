"""Glyph images: the same sizes and pictures as the slow search finds, inside their polygons, in their colours."""

import cv2
import numpy as np
import pytest

from anytext_lib.data import UnknownFontError, draw_glyphs, font_path, render_glyph_line
from anytext_lib.data.fonts import MissingGlyphError, characters_of, choose_font
from anytext_lib.data.glyphs import fit_size, fit_spaces, glyph_box, line_font_size
from anytext_lib.data.lines import polygon_mask
from anytext_lib.scenes import load_samples
from tests.unit.plain_glyphs import base_font, plain_glyphs, plain_line

ANGLES = (0, 7, -25, 50, -72, 84, 90)


def turned_box(width, height, angle, center=(128, 128)):
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    corners = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    return np.rint(corners @ np.array([[c, s], [-s, c]]) + center)


def cases():
    rng = np.random.default_rng(4)
    lines = [(line.text, line.language) for scene in load_samples() for line in scene.lines if line.valid]
    for k, (text, language) in enumerate(lines[::3] + [("jog", "Latin"), ("Grand Opening", "Latin"), ("5", "Latin")]):
        box = turned_box(rng.uniform(30, 230), rng.uniform(12, 60), ANGLES[k % len(ANGLES)])
        yield text, choose_font(text, language, rng), box, 1 + k % 2


def overlap(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


@pytest.mark.parametrize("text, font, polygon, scale", list(cases()))
def test_size_spacing_and_picture_equal_those_of_the_slow_search(text, font, polygon, scale):
    polygon = polygon * scale
    color = (10, 200, 90)
    wanted, size, spaces = plain_glyphs(base_font(font), text, polygon, color, scale, (256, 256))
    box = glyph_box(polygon)
    assert fit_size(text, font, box) == size
    assert (0 if box.vertical else fit_spaces(text, font, size, box)) == spaces
    canvas = np.zeros((256 * scale, 256 * scale, 3), np.uint8)
    draw_glyphs(canvas, text, font, polygon, color)
    assert canvas.any() and overlap(canvas.any(axis=2), wanted.any(axis=2)) >= 0.95


@pytest.mark.parametrize("text, font", sorted({(text, font) for text, font, _, _ in cases()}))
def test_a_line_alone_equals_the_slow_one(text, font):
    picture = render_glyph_line(text, font)
    wanted, size = plain_line(base_font(font), text)
    assert picture.shape == (80, 512) and picture.dtype == np.uint8 and set(np.unique(picture)) == {0, 1}
    assert line_font_size(text, font) == size and (picture == wanted[..., 0]).all()
    rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert max(height / 80, width / 512) > 0.8 and height <= 80 * 0.97 and width <= 512 * 0.97
    assert abs(rows[0] + rows[-1] - 79) <= 6 and abs(columns[0] + columns[-1] - 511) <= 24


@pytest.mark.parametrize("text", ["i", "WWWWWWWWWWWWWWWWWWWW", "llllllllllllllllllll", "-", "国" * 20])
def test_a_line_alone_is_never_cut(text):
    picture = render_glyph_line(text, choose_font(text, "Latin"))
    assert picture.any() and not picture[[0, -1]].any() and not picture[:, [0, -1]].any()


@pytest.mark.parametrize("angle", [*ANGLES, 180, 30, 95])
@pytest.mark.parametrize("text", ["jog", "Happy", "illicit", "WAMgjp", "欢迎光临"])
def test_ink_stays_inside_the_polygon(text, angle):
    polygon = turned_box(200, 42, angle)
    canvas = np.zeros((256, 256, 3), np.uint8)
    draw_glyphs(canvas, text, choose_font(text, "Latin"), polygon)
    region = cv2.dilate(polygon_mask(polygon, (256, 256)), np.ones((9, 9), np.uint8)) > 0  # upright in a tilted one
    assert canvas.any() and not (canvas.any(axis=2) & ~region).any()


@pytest.mark.parametrize("width, height, angle, vertical", [
    (200, 40, 0, False), (200, 40, 90, True), (200, 40, 82, True), (200, 40, -82, True), (200, 40, 75, False),
    (200, 40, 10, False), (40, 200, 0, True)])
def test_lines_within_ten_degrees_of_vertical_are_stacked(width, height, angle, vertical):
    box = glyph_box(turned_box(width, height, angle))
    assert box.vertical == vertical
    assert (box.width, box.height) == pytest.approx((200, 40), abs=1.5)
    assert box.angle == pytest.approx(90 if width < height else angle % 180 if vertical else angle, abs=1)


def test_a_line_in_a_box_that_is_square_when_rounded_is_drawn():
    for width in np.linspace(40.0, 41.0, 11):  # its extent in whole pixels is as high as wide
        quad = np.array([[10.0, 10.0], [10 + width, 10.0], [10 + width, 50.5], [10.0, 50.5]])
        canvas = np.zeros((64, 64, 3), np.uint8)
        draw_glyphs(canvas, "Lie", "OpenSans", quad)
        assert canvas.any()


def test_stacked_characters_fill_the_box_from_top_to_bottom():
    canvas = np.zeros((256, 256, 3), np.uint8)
    draw_glyphs(canvas, "新年快乐", "NotoSansSC", np.array([[20, 10], [70, 10], [70, 240], [20, 240]]))
    rows, columns = np.flatnonzero(canvas.any(axis=(1, 2))), np.flatnonzero(canvas.any(axis=(0, 2)))
    assert rows[0] <= 13 and rows[-1] >= 237 and 20 <= columns[0] and columns[-1] <= 70
    filled = canvas.any(axis=(1, 2))[10:240]
    assert (np.diff(filled.astype(int)) == 1).sum() >= 3  # gaps between the characters


def test_letter_spacing_fills_a_wide_box_unless_told_not_to():
    polygon = np.array([[5, 100], [250, 100], [250, 130], [5, 130]])
    widths = []
    for spread in (True, False):
        canvas = np.zeros((256, 256, 3), np.uint8)
        draw_glyphs(canvas, "Tea", "OpenSans", polygon, spread=spread)
        widths.append(np.ptp(np.flatnonzero(canvas.any(axis=(0, 2)))))
    assert widths[0] > 220 and widths[1] < 80


@pytest.mark.parametrize("color, drawn", [((0, 0, 0), (10, 10, 10)), ((500, 500, 500), (255, 255, 255)),
                                          (None, (255, 255, 255)), ((200, 30, 4), (200, 30, 10))])
def test_colours(color, drawn):
    canvas = np.zeros((64, 192, 3), np.uint8)
    draw_glyphs(canvas, "Tea", "OpenSans", np.array([[10, 10], [180, 10], [180, 54], [10, 54]]), color)
    assert tuple(int(v) for v in canvas.reshape(-1, 3).max(axis=0)) == drawn


@pytest.mark.parametrize("polygon, most", [
    ([[-300, -300], [-200, -300], [-200, -260], [-300, -260]], 0), ([[10, 10], [200, 10], [100, 10]], 20),
    ([[100, 40], [101, 40], [101, 41], [100, 41]], 20), ([[-50, 20], [400, 20], [400, 60], [-50, 60]], 64 * 192)])
def test_polygons_outside_too_small_or_without_area_do_no_harm(polygon, most):
    canvas = np.zeros((64, 192, 3), np.uint8)
    draw_glyphs(canvas, "Happy Hour", "OpenSans", np.array(polygon))
    ink = int(canvas.any(axis=2).sum())
    assert ink <= most and (ink > 500) == (most > 500), "a speck at most, but a line that runs over the edge is drawn"


def test_fonts_by_file_and_by_language(tmp_path):
    path = str(tmp_path / "mine.ttf")
    (tmp_path / "mine.ttf").write_bytes(font_path("Oswald").read_bytes())
    assert "A" in characters_of(path) and "国" not in characters_of(path)
    assert (render_glyph_line("Tea", path) == render_glyph_line("Tea", "Oswald")).all()
    fonts = {"Latin": [path], "Chinese": ["CourseKai"]}
    assert choose_font("Tea", "Latin", fonts=fonts) == path
    assert choose_font("国", "Chinese_sim", fonts=fonts) == "CourseKai"
    assert choose_font("国", "Latin", fonts=fonts) == "NotoSansSC"  # the file lacks it: a font of the course has it
    assert choose_font("Tea", "Latin", preferred="Caveat") == "Caveat"
    assert choose_font("国", "Chinese", preferred="Caveat") == "NotoSansSC"
    assert choose_font("Chinese", "Latin") == choose_font("Latin", "Latin") == "OpenSans"


def test_random_fonts_can_write_the_text():
    rng = np.random.default_rng(0)
    assert len({choose_font("Tea", "Latin", rng) for _ in range(200)}) == 12
    assert len({choose_font("国家", "Chinese_sim", rng) for _ in range(100)}) == 4


def test_errors_of_fonts():
    with pytest.raises(MissingGlyphError, match="U\\+10D0.*font files"):
        choose_font("ა", "Latin")
    with pytest.raises(UnknownFontError, match="neither a font of the course"):
        render_glyph_line("Tea", "no such font")
