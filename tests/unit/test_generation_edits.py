"""Erasing, letters imitated from a picture, font hints, positions that fit the letters, turned regions, reading order:
what upstream's application offers beside the words, as numbers and through the commands."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from anytext_lib.cli import main
from anytext_lib.data.glyphs import draw_glyphs, glyph_box
from anytext_lib.data.hints import font_hint
from anytext_lib.data.lines import TextLines
from anytext_lib.generation import AnyText2Pipeline, Defaults, Line, Request, RequestError
from anytext_lib.generation.metadata import read_record, restore_request
from anytext_lib.generation.prepare import prepare
from anytext_lib.generation.regions import turned_box
from anytext_lib.generation.request import image_caption, quoted_words
from anytext_lib.generation.styles import StylePicture, style_ink
from anytext_lib.models import AnyText2Model
from anytext_lib.models.text_embedding import line_crop, style_crops
from anytext_lib.scenes import render_line
from tests.unit.generation_model import lively_model

LOAD = AnyText2Model.from_pretrained
BOX = [[6, 6], [80, 6], [80, 40], [6, 40]]


@pytest.fixture(scope="module")
def pipe():
    return AnyText2Pipeline(lively_model(), defaults=Defaults(96, 48, 2, 1.0))


@pytest.fixture(scope="module")
def folder(pipe, tmp_path_factory):
    place = tmp_path_factory.mktemp("model")
    pipe.save_pretrained(place)
    return place


@functools.cache
def load_once(folder, *rest):
    return LOAD(folder, *rest)


@pytest.fixture(autouse=True)
def load_models_once(monkeypatch):
    """Most of a run would go into reading the same weights again."""
    monkeypatch.setattr(AnyText2Model, "from_pretrained", load_once)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 96, 3)).astype(np.uint8)).save(path)
    return path


def run(command, folder, out, *arguments) -> int:
    return main([command, *map(str, arguments), "--model", str(folder), "--out", str(out), "--device", "cpu",
                 "--seed", "1"])


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


def photograph() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (96, 128, 3)).astype(np.uint8)


# erasing


def test_a_blank_line_hides_its_region_and_shows_no_letters(pipe):
    item = prepare(Request("", [Line("", BOX), Line("Tea", turned_box(6, 50, 80, 34))], image=photograph()),
                   pipe.model)
    sample = item.sample
    assert sample.texts == ["", "Tea"] and sample.text_caption == "Texts are * , * . "
    assert not sample.glyph_lines[0].any() and sample.glyph_lines[1].any() and not sample.glyphs[:45].any()
    inside = cv2.fillPoly(np.zeros((96, 128), np.uint8), [np.array(BOX)], 1) > 0
    assert (sample.positions[0] > 0).tolist() == inside.tolist() and not sample.masked_image[inside].any()
    assert item.inside[inside].all() and item.request.lines[0].text == ""


def test_blanks_in_quotes_erase_and_empty_quotes_do_not():
    assert quoted_words('" " and "Tea" and ""') == ["", "Tea"]
    assert image_caption('a wall with " " and ""') == "a wall with * and"
    assert image_caption('a wall with " " and "Tea"', literal=True) == 'a wall with   and "Tea"'


def test_erasing_takes_a_picture_and_a_place(pipe):
    with pytest.raises(RequestError, match=r"line 1 \(''\): the text is blank.*a picture to edit"):
        prepare(Request("", [Line(" ", BOX)], width=96, height=48), pipe.model)
    with pytest.raises(RequestError, match=r"line 1 \(''\): a blank line erases .* give it a region, or a mask"):
        prepare(Request('" "', image=photograph()), pipe.model)


def test_all_areas_of_a_mask_are_erased(folder, photo, tmp_path, capsys):
    mask = Image.new("L", (96, 48))
    ImageDraw.Draw(mask).rectangle((6, 6, 30, 20), fill=255)
    ImageDraw.Draw(mask).polygon([(50, 20), (80, 24), (76, 40), (48, 36)], fill=255)
    mask.save(tmp_path / "mask.png")
    assert run("edit", folder, tmp_path / "out", photo, "--erase", tmp_path / "mask.png", "--composite") == 0, \
        capsys.readouterr().err
    record = read_record(tmp_path / "out" / "photo_1.png")
    assert [line["text"] for line in record["request"]["lines"]] == ["", ""]
    changed = (pixels(tmp_path / "out" / "photo_1.png") != pixels(photo)).any(axis=2)
    painted = np.array(mask) > 0
    assert changed[painted].mean() > 0.9
    near = cv2.dilate(painted.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert not changed[~near].any()
    assert run("generate", folder, tmp_path / "again", "--from", tmp_path / "out" / "photo_1.png") == 0
    assert np.array_equal(pixels(tmp_path / "again" / "photo_1_again.png"), pixels(tmp_path / "out" / "photo_1.png"))


def test_boxes_corners_and_words_at_once(folder, photo, tmp_path, capsys):
    asked = ["--erase", "[4, 4, 30, 16]", "--erase", "[[50, 4], [80, 8], [78, 24], [48, 20]]",
             "--line", "{text: Tea, box: [6, 28, 40, 16]}"]
    assert run("edit", folder, tmp_path / "out", photo, *asked) == 0, capsys.readouterr().err
    lines = read_record(tmp_path / "out" / "photo_1.png")["request"]["lines"]
    assert [line["text"] for line in lines] == ["Tea", "", ""]
    assert lines[1]["region"] == turned_box(4, 4, 30, 16) and lines[2]["region"][1] == [80, 8]
    (tmp_path / "jobs.yaml").write_text("jobs: [{name: a, image: photo.png, erase: [[4, 4, 30, 16]]}]")
    assert run("edit", folder, tmp_path / "out", "--jobs", tmp_path / "jobs.yaml") == 0, capsys.readouterr().err
    assert [line["text"] for line in read_record(tmp_path / "out" / "a_1.png")["request"]["lines"]] == [""]
    assert run("edit", folder, tmp_path / "out", photo, "--erase", "[1, 2") == 2
    assert "--erase '[1, 2'" in capsys.readouterr().err
    assert run("edit", folder, tmp_path / "out", photo, "--erase", "nothing.png") == 2
    assert "cannot read nothing.png" in capsys.readouterr().err


# letters imitated from a picture


def sign() -> tuple[np.ndarray, np.ndarray]:
    """A picture (120, 260, 3) with a word on a slant, and the quad around it."""
    quad = np.array(turned_box(30, 40, 180, 40, 12))
    word = render_line("Garden", "RobotoSlab", (40, 180))
    matrix = cv2.getPerspectiveTransform(np.array([[0, 0], [180, 0], [180, 40], [0, 40]], np.float32),
                                         quad.astype(np.float32))
    ground = np.full((120, 260, 3), 230, np.uint8)
    return cv2.warpPerspective(word, matrix, (260, 120), ground, borderMode=cv2.BORDER_TRANSPARENT), quad


def test_imitated_letters_are_those_that_training_would_show():
    """Cut upright out of the same font hint, before and after the resizing of the style part."""
    picture, quad = sign()
    hint = font_hint(picture, quad, np.random.default_rng(0), (1.0, 1.0))
    lines = TextLines.from_polygons([quad], [0], ["Garden"], ["Latin"], picture.shape[:2])
    trained = style_crops(torch.from_numpy(hint)[None, None].float(), lines)
    ink = style_ink(StylePicture(picture, quad))
    assert ink.shape == (48, 216) and 0.1 < ink.mean() < 0.5  # 180 x 40, a pixel or two less, at a height of 48
    assert torch.allclose(line_crop(ink), trained[0], atol=1e-5)
    upright = style_ink(StylePicture(render_line("Garden", "RobotoSlab", (48, 216)), None))
    assert np.corrcoef(cv2.GaussianBlur(ink.numpy(), (9, 9), 2).ravel(),
                       cv2.GaussianBlur(upright.numpy(), (9, 9), 2).ravel())[0, 1] > 0.5


def test_only_the_letters_of_the_region_count(pipe):
    picture, quad = sign()
    elsewhere = picture.copy()
    elsewhere[100:, :60] = 0
    one, other = (prepare(Request("", [Line("Tea", BOX, style_image=each, style_region=quad)], width=96, height=48),
                          pipe.model) for each in (picture, elsewhere))
    assert torch.equal(one.styles[0], other.styles[0])
    assert one.request.lines[0].style_region == quad.tolist()


def test_a_picture_and_a_mask_from_the_command_line(folder, photo, tmp_path, capsys):
    picture, quad = sign()
    Image.fromarray(picture).save(tmp_path / "sign.png")
    mask = Image.new("L", (260, 120))
    ImageDraw.Draw(mask).polygon([tuple(map(float, corner)) for corner in quad], fill=255)
    mask.save(tmp_path / "mask.png")
    asked = f"text: Tea, box: [6, 6, 70, 30], style_image: {tmp_path}/sign.png"
    regions = {}
    for name, more in (("mask", f", style_region: {tmp_path}/mask.png"), ("box", ", style_box: [24, 30, 190, 60]"),
                       ("whole", "")):
        assert run("generate", folder, tmp_path / name, "--line", "{" + asked + more + "}") == 0, \
            capsys.readouterr().err
        record = read_record(tmp_path / name / "picture_1.png")["request"]["lines"][0]
        assert record["style_image"]["path"] == str(tmp_path / "sign.png")
        regions[name] = record["style_region"]
    assert cv2.contourArea(np.array(regions["mask"], np.float32)) == pytest.approx(180 * 40, rel=0.05)
    assert regions["box"] == turned_box(24, 30, 190, 60) and regions["whole"] is None
    assert run("generate", folder, tmp_path, "--from", tmp_path / "mask" / "picture_1.png") == 0
    assert np.array_equal(pixels(tmp_path / "picture_1_again.png"), pixels(tmp_path / "mask" / "picture_1.png"))


def sampled(pipe, line: Line, **request) -> torch.Tensor:
    """The picture (1, 3, 48, 96) in [-1, 1]: of random weights, so that differences are below the steps of a PNG."""
    return pipe.run([Request("", [line], width=96, height=48, **request)], seed=1, output_type="pt").images


def test_imitated_letters_reach_the_picture(pipe):
    picture, quad = sign()
    styles = [{}, {"style_image": picture}, {"style_image": picture, "style_region": quad},
              {"style_image": picture, "style_region": turned_box(24, 30, 190, 60)}]
    made = [sampled(pipe, Line("Tea", BOX, **style)) for style in styles]
    assert not any(torch.equal(one, other) for i, one in enumerate(made) for other in made[i + 1 :])


def test_the_letters_of_the_picture_itself_are_imitated(pipe, folder, photo, tmp_path, capsys):
    asked = "{text: Tea, box: [6, 6, 70, 30], style_box: [6, 6, 70, 30]}"
    assert run("edit", folder, tmp_path / "out", photo, "--line", asked) == 0, capsys.readouterr().err
    record = read_record(tmp_path / "out" / "photo_1.png")["request"]
    assert record["lines"][0]["style_image"] is None and record["lines"][0]["style_region"][0] == [6, 6]
    again = prepare(restore_request(record), pipe.model)
    quad = np.array(turned_box(6, 6, 70, 30))
    assert torch.equal(again.styles[0], style_ink(StylePicture(pixels(photo), quad)))


@pytest.mark.parametrize("line, message", [
    (Line("Tea", BOX, style_region=BOX), "it has a style region and no picture: give a style_image"),
    (Line("Tea", BOX, font="Merienda", style_region=BOX), "both a font and a style image or region"),
    (Line("Tea", BOX, style_image=sign()[0], style_region=[[300, 0], [340, 0], [340, 20]]),
     "its style region lies outside of the style's picture of 260 x 120"),
    (Line("Tea", BOX, style_image=sign()[0], style_region=np.zeros((120, 260))), "the style: its mask is empty"),
    (Line("Tea", BOX, style_image=sign()[0], style_region=[[1, 1], [2, 2]]), "the style: a region is a list of at")])
def test_wrong_styles_are_explained(pipe, line, message):
    with pytest.raises(RequestError, match=f"line 1 .'Tea'.*{message}"):
        prepare(Request("", [line], width=96, height=48), pipe.model)


# font hints


def hint_of(pipe, form, *lines) -> np.ndarray:
    return prepare(Request("", lines, width=96, height=64, font_hint=form), pipe.model).sample.font_hint


def test_the_forms_of_a_font_hint(pipe):
    line = Line("Tea", BOX, font="RobotoSlab")
    filled, hollow, outline = (hint_of(pipe, form, line) for form in (None, "hollow", "outline"))
    drawn = np.zeros((64, 96, 3), np.uint8)
    draw_glyphs(drawn, "Tea", "RobotoSlab", np.array(BOX))
    letters, inside = drawn[..., 0] > 127, cv2.fillPoly(np.zeros((64, 96), np.uint8), [np.array(BOX)], 1) > 0
    assert np.array_equal(filled > 0, letters)
    assert not outline[letters].any() and outline.sum() > 100
    distance = cv2.distanceTransform((~letters).astype(np.uint8), cv2.DIST_C, 3)
    assert set(np.unique(distance[outline > 0])) == {2}, "one pixel wide, one pixel away from the letters"
    assert np.array_equal(distance == 2, outline > 0)
    assert 0.85 < hollow[letters].mean() < 0.97, "letters lose a tenth"
    ground = inside & (distance > 1)
    assert 0.05 < hollow[ground].mean() < 0.15, "the ground gets a tenth"
    assert not hollow[~inside].any() and set(np.unique(hollow)) == {0, 1}


def test_hints_are_of_the_lines_with_a_font(pipe):
    plain = Line("Milk", turned_box(6, 44, 80, 18))
    for form in ("filled", "hollow", "outline"):
        assert not hint_of(pipe, form, plain).any()
        assert not hint_of(pipe, form, plain, Line("Tea", turned_box(6, 6, 80, 30), font="RobotoSlab"))[44:].any()


def test_the_form_of_the_hint_reaches_the_picture(pipe, folder, tmp_path, capsys):
    made = [sampled(pipe, Line("Tea", BOX, font="RobotoSlab"), font_hint=form) for form in
            ("filled", "hollow", "outline")]
    assert not torch.equal(made[0], made[1]) and not torch.equal(made[1], made[2])
    line = "{text: Tea, box: [6, 6, 70, 30], font: RobotoSlab}"
    assert run("generate", folder, tmp_path, "--line", line, "--font-hint", "outline") == 0
    assert read_record(tmp_path / "picture_1.png")["request"]["font_hint"] == "outline"
    assert run("generate", folder, tmp_path, "--line", line, "--font-hint", "thin") == 2
    with pytest.raises(RequestError, match="font_hint is 'filled', 'hollow', 'outline', got 'thin'"):
        Request("", font_hint="thin")
    assert "font_hint is thin, but takes" in capsys.readouterr().err


# positions that fit the letters


def upstreams_rectangle(text, font, polygon, size) -> np.ndarray | None:
    """Position mask of upstream's ``revise_pos``: gaps of a tenth of the picture closed, one contour, its rectangle."""
    drawn = np.zeros((*size, 3), np.uint8)
    draw_glyphs(drawn, text, font, polygon)
    closed = cv2.morphologyEx((drawn[..., 0] > 127).astype(np.uint8), cv2.MORPH_CLOSE,
                              np.ones((size[0] // 10, size[1] // 10), np.uint8))
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if len(contours) != 1:
        return None
    corners = np.trunc(cv2.boxPoints(cv2.minAreaRect(contours[0]))).astype(np.int32)
    return cv2.fillPoly(np.zeros(size, np.uint8), [corners], 1)


@pytest.mark.parametrize("polygon", [
    turned_box(40, 40, 160, 60), turned_box(60, 60, 140, 40, 25), turned_box(100, 20, 40, 200),
    [[30, 60], [130, 30], [230, 60], [230, 130], [30, 130]]], ids=["upright", "turned", "vertical", "polygon"])
def test_a_revised_position_is_the_rectangle_of_upstream(pipe, polygon):
    lines = [Line("Garden", polygon)]
    plain, revised = (prepare(Request("", lines, width=256, height=256, glyph_font="OpenSans", revise_positions=revise),
                              pipe.model).sample for revise in (False, True))
    found, before = revised.positions[0] > 0, plain.positions[0] > 0
    letters = plain.glyphs[..., 0] > 127
    assert found[letters].mean() > 0.99 and found.sum() < before.sum() and np.array_equal(plain.glyphs, revised.glyphs)
    wanted = upstreams_rectangle("Garden", "OpenSans", np.array(polygon, float), (256, 256)) > 0
    assert (found & wanted).sum() / (found | wanted).sum() > 0.93
    assert (revised.quads != plain.quads).any()


def test_wide_gaps_are_no_obstacle(pipe):
    region = turned_box(10, 10, 230, 40)
    assert upstreams_rectangle("i i", "OpenSans", np.array(region), (256, 256)) is None, "upstream leaves it"
    sample = prepare(Request("", [Line("i i", region)], width=256, height=256, glyph_font="OpenSans",
                             revise_positions=True), pipe.model).sample
    rows, columns = np.nonzero(sample.positions[0])
    ink = np.argwhere(sample.glyphs[..., 0] > 127)
    assert np.abs(np.array([rows.min(), columns.min(), rows.max(), columns.max()])
                  - [*ink.min(axis=0), *ink.max(axis=0)]).max() <= 1


def test_revising_hides_the_whole_region_still(pipe, folder, photo, tmp_path, capsys):
    plain, revised = (prepare(Request("", [Line("Tea", BOX)], image=photograph(), revise_positions=revise), pipe.model)
                      for revise in (False, True))
    assert np.array_equal(plain.sample.masked_image, revised.sample.masked_image)
    assert np.array_equal(plain.hidden, revised.hidden) and np.array_equal(plain.inside, revised.inside)
    assert plain.request.lines == revised.request.lines, "the region that was asked for is kept"
    blank = prepare(Request("", [Line("", BOX)], image=photograph(), revise_positions=True), pipe.model).sample
    assert np.array_equal(blank.positions, plain.sample.positions)
    line = "{text: Tea, box: [6, 6, 70, 30]}"
    assert run("edit", folder, tmp_path / "b", photo, "--line", line, "--revise-positions") == 0
    assert read_record(tmp_path / "b" / "photo_1.png")["request"]["revise_positions"] is True
    made = [sampled(pipe, Line("Tea", BOX), revise_positions=revise) for revise in (False, True)]
    assert not torch.equal(*made) and capsys.readouterr().err == ""


# turned regions, polygons, and the order of reading


@pytest.mark.parametrize("angle", [0, 17, -30, 60])
def test_a_box_is_turned_around_its_middle(angle):
    corners = np.array(turned_box(20, 30, 80, 24, angle))
    assert corners.mean(axis=0) == pytest.approx([60, 42])
    top = corners[1] - corners[0]
    assert np.hypot(*top) == pytest.approx(80) and np.degrees(np.arctan2(top[1], top[0])) == pytest.approx(angle)
    box = glyph_box(corners)
    assert (box.width, box.height, box.angle) == pytest.approx((80, 24, angle), abs=1e-3)


def test_turned_boxes_and_polygons_are_masks_of_their_area(folder, tmp_path, capsys):
    lines = ["{text: Tea, box: [16, 14, 60, 20], angle: 25}", "{text: Milk, region: [[100, 8], [180, 8], [170, 40], "
             "[140, 50], [104, 40]]}"]
    asked = [word for line in lines for word in ("--line", line)]
    assert run("generate", folder, tmp_path, *asked, "--width", 192, "--height", 64) == 0, capsys.readouterr().err
    record = read_record(tmp_path / "picture_1.png")["request"]
    tea, milk = (np.array(line["region"]) for line in record["lines"])
    assert tea == pytest.approx(np.array(turned_box(16, 14, 60, 20, 25))) and len(milk) == 5
    sample = prepare(restore_request(record), AnyText2Pipeline.from_pretrained(folder).model).sample
    for mask, polygon in zip(sample.positions, (tea, milk), strict=True):
        perimeter = np.hypot(*(np.roll(polygon, -1, axis=0) - polygon).T).sum()
        area = cv2.contourArea(polygon.astype(np.float32))
        assert mask.sum() == pytest.approx(area + perimeter / 2, rel=0.03)  # its border is half inside
        assert cv2.connectedComponents(mask)[0] == 2
    assert sample.positions.sum(axis=0).max() == 1


@pytest.mark.parametrize("line, message", [
    ("{text: Tea, region: [[1, 1], [50, 1], [50, 30]], angle: 3}", "angle turns a box"),
    ("{text: Tea, box: [1, 1, 50, 30], angle: left}", "angle is a number of degrees, got 'left'"),
    ("{text: Tea, box: [1, 1, 50, 30], style_box: 3}", "style_box is [x, y, width, height]")])
def test_wrong_angles(folder, tmp_path, capsys, line, message):
    assert run("generate", folder, tmp_path, "--line", line) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("order, places", [("rows", [(4, 4), (104, 8), (8, 68), (110, 64)]),
                                           ("columns", [(4, 4), (8, 68), (104, 8), (110, 64)])])
def test_words_take_the_regions_of_a_mask_in_the_order_that_is_asked_for(folder, tmp_path, capsys, order, places):
    mask = Image.new("L", (192, 128))
    for x, y in ((110, 64), (8, 68), (104, 8), (4, 4)):
        ImageDraw.Draw(mask).rectangle((x, y, x + 70, y + 40), fill=255)
    mask.save(tmp_path / "mask.png")
    asked = ["--prompt", '"One" "Two" "Three" "Four"', "--mask", tmp_path / "mask.png", "--order", order]
    assert run("generate", folder, tmp_path, *asked, "--width", 192, "--height", 128) == 0, capsys.readouterr().err
    lines = read_record(tmp_path / "picture_1.png")["request"]["lines"]
    assert [(line["text"], tuple(np.min(line["region"], axis=0))) for line in lines] == list(
        zip(("One", "Two", "Three", "Four"), places, strict=True))
