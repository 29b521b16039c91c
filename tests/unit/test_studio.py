"""The drawing application: what is drawn becomes a request, what came out is read, what is refused is shown as text."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from anytext_lib.generation import AnyText2Pipeline, Line, Request, RequestError, Settings
from anytext_lib.generation.legibility import LineCheck, PictureCheck
from anytext_lib.generation.prepare import default_size
from anytext_lib.generation.regions import turned_box
from anytext_lib.ocr.recogniser import Reading
from anytext_lib.studio.session import Made, Plan, Studio, numbers
from anytext_lib.studio.sketch import HERE, Box, Outline, Sketch, read_corners, write_corners
from tests.unit.generation_model import lively_model


class EchoJudge:
    """Reads the same word in every crop, the surer the brighter the crop is."""

    name = "echo"

    def read_scored(self, crops):
        return [Reading("Tea", float(crop.mean() + 1) / 2) for crop in crops]


def readings(made):
    """Pairs of what was wanted and what was read."""
    return [(line.wanted, line.read) for line in made.check.lines]


@pytest.fixture(scope="module")
def studio():
    return Studio(AnyText2Pipeline(lively_model()), EchoJudge())


@pytest.fixture
def sketch():
    return Sketch(96, 64, (Box(4, 4, 60, 30, text="Tea", color="#cc2222"), Box(20, 36, 90, 60, text="Milk")),
                  prompt="a wall")


# the sketch


def test_a_drag_makes_a_box_inside_the_picture_whatever_its_direction():
    drawn = Sketch(96, 64).dragged((50, 40), (10, 5)).dragged((80, 50), (200, -20))
    assert [(box.left, box.top, box.right, box.bottom) for box in drawn.places] == [(10, 5, 50, 40), (80, 0, 95, 50)]
    assert drawn.places[0].region == [[10, 5], [50, 5], [50, 40], [10, 40]]


@pytest.mark.parametrize("end", [(12, 12), (60, 13), (12, 60)])
def test_a_click_makes_none(end):
    empty = Sketch(96, 64)
    assert empty.dragged((10, 10), end) is empty


def test_boxes_can_be_changed_and_removed(sketch):
    changed = sketch.changed(1, text="Water", color="darkred")
    assert changed.places[1] == Box(20, 36, 90, 60, text="Water", color="darkred")
    assert changed.places[0] is sketch.places[0]
    assert sketch.places[1].text == "Milk", "the old sketch stays as it is"
    assert changed.without(0).places == changed.places[1:] and changed.cleared().places == ()


def test_the_request_holds_all_that_was_drawn(sketch):
    request = replace(sketch, glyph_font="Merienda").request()
    assert request.lines[0] == Line("Tea", [[4, 4], [60, 4], [60, 30], [4, 30]], color="#cc2222")
    assert (request.prompt, request.width, request.height, request.image) == ("a wall", 96, 64, None)
    assert request.glyph_font == "Merienda" and request.lines[1].color is None


def test_a_sketch_on_a_picture_asks_to_edit_it(sketch):
    photo = np.full((50, 80, 3), 90, np.uint8)
    on_photo = sketch.on(photo)
    assert (on_photo.width, on_photo.height, on_photo.places) == (80, 50, ())
    request = on_photo.dragged((5, 5), (70, 40)).request()
    assert request.image is photo and request.width is None
    blank = on_photo.on(None, (64, 96))
    assert (blank.width, blank.height, blank.picture) == (96, 64, None)


def test_the_drawing_shows_frames_and_words(sketch):
    picture = sketch.drawing(2.0)
    assert picture.shape == (128, 192, 3) and picture.dtype == np.uint8
    inside = picture[12:56, 12:116]
    assert (inside == (0xCC, 0x22, 0x22)).all(axis=2).sum() > 100, "the word is drawn in its colour"
    assert (picture[8, 8:120] == (0, 114, 178)).all()
    for text in ("", "\u10d0\u10d1"):  # nothing typed; letters that no font of the course has
        assert sketch.changed(0, text=text).drawing(0.5).shape == (32, 48, 3)
    photo = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    assert (sketch.on(photo).drawing() == photo).all()


# the plan


def test_numbers_of_a_field():
    assert numbers("1, 2 3", int, "seeds") == (1, 2, 3) and numbers("0.5,1", float, "strengths") == (0.5, 1.0)
    with pytest.raises(RequestError, match=r"seeds: '1.5' is no list of numbers: write them as 0, 1, 2"):
        numbers("1.5", int, "seeds")


@pytest.mark.parametrize(("values", "message"), [
    ({"seeds": ()}, "at least one seed"), ({"strengths": ()}, "at least one"),
    ({"seeds": (1, 2), "best": 3}, "the best 3 of 2 pictures cannot be kept"),
    ({"seeds": tuple(range(9)), "strengths": (0.5, 1.0, 1.5)}, "9 seeds times 3 strengths are more than 24")])
def test_wrong_plans_are_explained(values, message):
    with pytest.raises(RequestError, match=message):
        Plan(**values)


def test_every_strength_is_tried_with_every_seed(studio, sketch):
    told = []
    plan = Plan(Settings(2, 1.0, blend=True), (3, 1), (0.0, 1.0))
    made, notes = studio.make(sketch, plan, lambda line, progress: told.append(line))
    assert [(m.seed, m.settings.strength) for m in made] == [(3, 0.0), (1, 0.0), (3, 1.0), (1, 1.0)]
    assert all(m.image.shape == (64, 96, 3) and readings(m) == [("Tea", "Tea"), ("Milk", "Tea")] for m in made)
    assert told[0] == "strength 1 of 2, step 1 of 2" and told[-1] == "strength 2 of 2, step 2 of 2" and notes == []
    assert made[0].caption() == "seed 3, strength 0; reads “Tea”; reads “Tea” for “Milk”"
    assert not (made[2].image == made[0].image).all() and not (made[2].image == made[3].image).all()


def test_the_results_are_those_of_the_pipeline(studio, sketch):
    made, _ = studio.make(sketch, Plan(Settings(2, 1.0), (5,)))
    alone = studio.pipeline.run([sketch.request()], Settings(2, 1.0), seed=5, output_type="np").images[0]
    assert (made[0].image == alone).all()


def test_the_scheduler_is_put_back(studio, sketch):
    before = studio.pipeline.scheduler
    made, _ = studio.make(sketch, Plan(Settings(2, 1.0), scheduler="unipc"))
    assert studio.pipeline.scheduler is before and len(made) == 1


def test_editing_and_reading_at_the_size_of_the_picture(studio):
    photo = np.random.default_rng(0).integers(0, 255, (70, 150, 3)).astype(np.uint8)
    sketch = Sketch(96, 64).on(photo).dragged((10, 10), (120, 50)).changed(0, text="Tea")
    made, _ = studio.make(sketch, Plan(Settings(2, 1.0, blend=True, composite=True)))
    assert made[0].image.shape == photo.shape and readings(made[0]) == [("Tea", "Tea")]
    assert (made[0].image[60:] == photo[60:]).all() and not (made[0].image == photo).all()


def test_without_a_judge_nothing_is_read(studio, sketch):
    made, _ = Studio(studio.pipeline).make(sketch, Plan(Settings(1, 1.0)))
    assert made[0].check is None and made[0].caption() == "seed 0, strength 1"
    assert studio.make(Sketch(96, 64), Plan(Settings(1, 1.0)))[0][0].check is None, "there is nothing to read"


def test_the_best_are_kept_and_all_readings_told(studio, sketch):
    every, _ = studio.make(sketch, Plan(Settings(1, 1.0), (1, 2, 3, 4)))
    surest = sorted(every, key=lambda made: made.check.confidence, reverse=True)
    kept, notes = studio.make(sketch, Plan(Settings(1, 1.0), (1, 2, 3, 4), best=2))
    assert [made.seed for made in kept] == [made.seed for made in surest[:2]]
    assert notes[-1].count("\n") == 4 and f"* seed {kept[0].seed}: 1 of 2 as asked" in notes[-1]
    blind, notes = Studio(studio.pipeline).make(sketch, Plan(Settings(1, 1.0), (1, 2), best=1))
    assert len(blind) == 2 and "there is no judge" in notes[-1]


def test_an_edit_is_reported_and_the_report_saved(studio, tmp_path):
    photo = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    sketch = Sketch(96, 64).on(photo).dragged((10, 10), (90, 50)).changed(0, text="Tea")
    (made,), _ = studio.make(sketch, Plan(Settings(1, 1.0, blend=True, composite=True)))
    assert made.report.after == made.check and made.report.outside.touched == 0
    change = studio.change(made)
    assert change.shape == (64, 3 * 96 + 16, 3) and (change[:, :96] == photo).all()
    picture, *_, told, shown = studio.save(made, tmp_path)
    assert json.loads(told.read_text())["judge"] == "echo" and told.stem == f"{picture.stem}_report"
    assert (np.asarray(Image.open(shown)) == change).all()
    assert studio.make(Sketch(96, 64).dragged((10, 10), (90, 50)).changed(0, text="Tea"), Plan(Settings(1, 1.0))
                       )[0][0].report is None, "nothing was edited"


def test_what_is_wrong_is_named(studio, sketch):
    with pytest.raises(RequestError, match="line 2: type the words, or remove the box"):
        studio.make(sketch.changed(1, text=""), Plan(Settings(1)))


def test_it_starts_with_what_suits_the_model(studio):
    sketch, model = studio.sketch(), studio.pipeline.model
    assert (sketch.height, sketch.width) == default_size(model, studio.pipeline.defaults) and sketch.places == ()
    assert studio.plan().settings == replace(studio.pipeline.default_settings(), blend=True)


# the widgets, without a browser


@pytest.fixture
def app(studio):
    pytest.importorskip("ipycanvas")
    from anytext_lib.studio.view import StudioApp

    return StudioApp(studio, Sketch(96, 64), Plan(Settings(1, 1.0, blend=True)))


def drag(app, *points):
    """Press at the first point (pixels of the picture), move to the last, let go."""
    canvas = app._stage.canvas._canvases[-1]
    places = [(x * app._stage.zoom, y * app._stage.zoom) for x, y in points]
    canvas._mouse_down_callbacks(*places[0])
    for place in places[1:]:
        canvas._mouse_move_callbacks(*place)
    canvas._mouse_up_callbacks(*places[-1])


def test_draw_type_and_run(app):
    drag(app, (4, 4), (30, 20), (60, 30))
    drag(app, (20, 36), (90, 60))
    (words, _, colored, color, *_), (other, *_) = (row.children for row in app._rows.children)
    words.value, color.value, other.value = "Tea", "#00aa00", "Milk"
    assert colored.value, "a colour that is chosen counts"
    assert [(round(box.right), box.text, box.color) for box in app.sketch.places] == [
        (60, "Tea", "#00aa00"), (90, "Milk", None)]
    app._buttons["Generate"].click()
    (result,) = app._results.children
    assert result.children[0].value.startswith('<img alt="seed 0, strength 1; reads “Tea”; reads “Tea” for “Milk”"')
    assert "done" in app._message.value and not app._buttons["Generate"].disabled


def test_a_box_without_a_mouse(app):
    form = app._form
    for number, value in zip(form.children, (4, 5, 50, 20), strict=False):
        number.value = value
    form.children[-1].click()
    assert app.sketch.places[0].region == [[4, 5], [54, 5], [54, 25], [4, 25]]
    canvas = app._stage.canvas
    assert "line 1 “” at x 4, y 5, 50 wide, 20 high" in canvas.tooltip and canvas.description == ""
    form.children[0].value = 999
    assert form.children[0].value == 95, "it stays in the picture"
    form.children[-1].click()
    assert "outside of the picture, or is too small" in app._message.value and len(app.sketch.places) == 1


def test_what_the_card_tells_is_shown(app, monkeypatch):
    from anytext_lib.generation.request import Capabilities

    card = replace(app.studio.pipeline.defaults, capabilities=Capabilities(max_chars=3, editing=False))
    monkeypatch.setattr(app.studio.pipeline, "defaults", card)
    app._buttons["Generate"].click()
    assert "there is no text in this picture: draw a box" in app._message.value
    drag(app, (4, 4), (90, 60))
    app._rows.children[0].children[0].value = "Milk"
    app._buttons["Generate"].click()
    assert 'role="status"' in app._message.value and ">done</div>" in app._message.value
    assert 'role="note"' in app._message.value and "lines of at most 3 characters" in app._message.value
    app._results.children[0].children[1].children[0].click()
    app._buttons["Generate"].click()
    assert "draw a box where the picture is to be changed" in app._message.value
    drag(app, (4, 4), (90, 60))
    app._rows.children[0].children[0].value = "Tea"
    app._buttons["Generate"].click()
    assert "this model was not trained to edit: letters and ground may not fit" in app._message.value
    assert "--" not in app._message.value.replace("--jp", "").replace("--vscode", "")


def test_errors_are_text(app):
    drag(app, (4, 4), (60, 30))
    app._buttons["Generate"].click()
    assert 'role="alert"' in app._message.value and "line 1: type the words, or remove the box" in app._message.value
    app._fields._lists["seeds"].value = "one"
    app._buttons["Generate"].click()
    assert "seeds: &#x27;one&#x27; is no list" in app._message.value and not app._buttons["Generate"].disabled
    app._uploaded([{"name": "notes.txt", "content": b"no picture"}])
    assert "notes.txt cannot be read as a picture" in app._message.value


def test_files_that_change_the_weights_are_named_in_the_form(app, tmp_path):
    from tests.unit.lora_samples import UNET, lora_file

    pipeline, layer = app.studio.pipeline, f"unet.{UNET}.weight"
    file = lora_file(tmp_path / "a.safetensors", pipeline.model)
    before = pipeline.model.state_dict()[layer].clone()
    drag(app, (4, 4), (60, 30))
    app._rows.children[0].children[0].value = "Tea"
    app._fields._adapted["loras"].value = f"{file}:0.5\n"
    app._buttons["Generate"].click()
    assert f"LoRA {file}: 5 layers" in app._message.value and 'role="note"' in app._message.value
    assert not (pipeline.model.state_dict()[layer] == before).all()
    app._fields._adapted["base"].value = "/no/such"
    app._buttons["Generate"].click()
    assert 'role="alert"' in app._message.value and "there is no file /no/such" in app._message.value
    app._fields._adapted["loras"].value = app._fields._adapted["base"].value = ""
    app._buttons["Generate"].click()
    assert ">done</div>" in app._message.value and (pipeline.model.state_dict()[layer] == before).all()


def test_a_result_can_be_edited_and_left(app):
    drag(app, (4, 4), (60, 30))
    app._rows.children[0].children[0].value = "Tea"
    app._buttons["Generate"].click()
    app._results.children[0].children[1].children[0].click()
    assert app.sketch.picture is app.made[0].image and app._buttons["Generate"].description == "Edit"
    drag(app, (4, 4), (60, 30))
    app._rows.children[0].children[0].value = "Tea"
    app._buttons["Generate"].click()
    assert app.made[0].settings.blend and app.made[0].image.shape == (64, 96, 3)
    app._buttons["New picture"].click()
    assert app.sketch.picture is None and app.sketch.places == () and app._buttons["Generate"].description == "Generate"


def test_the_best_and_what_an_edit_changed_are_shown(app):
    app.edit(np.full((64, 96, 3), 200, np.uint8))
    app.add((10, 10), (90, 50))
    app._rows.children[0]._words.value = "Tea"
    app._fields._lists["seeds"].value, app._fields._best.value = "1, 2, 3", 1
    app.run()
    assert len(app.made) == 1 and "what the judge reads" in app._message.value
    app._results.children[0].children[1].children[2].click()
    assert "pixels touched" in app._change.value and "<img" in app._change.value
    app.run()
    assert app._change.value == ""


def test_a_model_with_styles_offers_a_font_for_each_line(app):
    drag(app, (4, 4), (60, 30))
    app._rows.children[0].children[4].value = "Merienda"
    assert app.studio.has_styles and app.sketch.places[0].font == "Merienda"


def test_a_file_is_edited(app):
    buffer = io.BytesIO()
    Image.new("RGB", (120, 80), (30, 60, 90)).save(buffer, format="png")
    app._uploaded([{"name": "photo.png", "content": memoryview(buffer.getvalue())}])
    assert app.sketch.picture.shape == (80, 120, 3) and app._stage.canvas.width == 640


def test_boxes_are_removed_and_sizes_changed(app):
    drag(app, (4, 4), (60, 30))
    drag(app, (4, 34), (60, 60))
    app._rows.children[0].children[-1].click()
    assert [box.top for box in app.sketch.places] == [pytest.approx(34)]
    app._buttons["Clear boxes"].click()
    assert app.sketch.places == () and "Draw a box" in app._rows.children[0].value
    app._fields._sides["width"].value = 192
    assert app.sketch.width == 192 and app._stage.canvas.height == round(640 * app.sketch.height / 192)


def test_a_caption_has_no_reading_where_there_is_none():
    assert Made(np.zeros((2, 2, 3), np.uint8), 4, Settings(strength=0.5), Request(), {}).caption() == (
        "seed 4, strength 0.5")


# turned boxes, polygons, masks, and their order


def test_a_polygon_and_a_turned_box_are_regions(sketch):
    drawn = sketch.changed(0, angle=20).outlined([(10, 10), (120, 12), (40, 50)]).outlined([(1, 1), (2, 2)])
    assert len(drawn.places) == 3 and drawn.places[2] == Outline(((10, 10), (95, 12), (40, 50)))
    lines = drawn.changed(2, text="Sun").request().lines
    assert np.allclose(lines[0].region, turned_box(4, 4, 56, 26, 20))
    assert lines[2].region == [[10, 10], [95, 12], [40, 50]]
    assert "26 high, turned by 20 degrees" in drawn.described() and "the corners 10,10 95,12 40,50" in drawn.described()
    assert (drawn.drawing() != sketch.drawing()).any()


def test_corners_are_read_as_they_are_written():
    corners = ((1.0, 2.0), (30.0, 4.0), (5.0, 60.0))
    assert read_corners(write_corners(corners)) == corners
    for wrong in ("", "1,2 3,4", "1,2 3 4,5", "a,b c,d e,f"):
        with pytest.raises(RequestError, match="are no corners of a polygon"):
            read_corners(wrong)


def test_regions_of_a_mask_come_in_the_order_that_is_chosen():
    mask = np.zeros((64, 96), np.uint8)
    for x, y in ((60, 8), (6, 12), (8, 40)):
        mask[y : y + 14, x : x + 24] = 255
    corners = {order: [tuple(np.min(place.region, axis=0)) for place in Sketch(96, 64).painted(mask, order).places]
               for order in ("rows", "columns")}
    assert corners == {"rows": [(6, 12), (60, 8), (8, 40)], "columns": [(6, 12), (8, 40), (60, 8)]}
    for wrong, message in ((np.zeros((64, 96), np.uint8), "the mask is empty"), (mask[:9], "96 x 9 pixels")):
        with pytest.raises(RequestError, match=message):
            Sketch(96, 64).painted(wrong, "rows")


def test_lines_are_sorted_and_take_the_words_of_the_prompt():
    drawn = Sketch(96, 64, prompt='a wall "One" "Two" "Three"')
    for x, y in ((60, 8), (6, 12), (8, 40)):
        drawn = drawn.dragged((x, y), (x + 24, y + 14))
    assert [line.text for line in drawn.request().lines] == ["One", "Two", "Three"]
    by_rows, by_columns = ([place.left for place in drawn.ordered(order).places] for order in ("rows", "columns"))
    assert by_rows == [6, 60, 8] and by_columns == [6, 8, 60] and Sketch(9, 9).ordered("rows") == Sketch(9, 9)
    own = drawn.changed(1, text="Two").filled()
    assert [place.text for place in own.places] == ["One", "Two", "Three"]
    assert [place.text for place in drawn.changed(0, erase=True).filled().places] == ["", "One", "Two"]


def test_a_polygon_is_drawn_corner_by_corner(app):
    app._tool.value = "polygon"
    for corner in ((10, 10), (80, 12), (60, 50), (11, 10)):  # the last one is beside the first
        drag(app, corner, corner)
    assert [write_corners(place.corners) for place in app.sketch.places] == ["10,10 80,12 60,50"]
    corners = app._rows.children[0].children[1]
    corners.value = "5,5 80,5 80,30 5,30"
    assert app.sketch.places[0].region == [[5, 5], [80, 5], [80, 30], [5, 30]]
    corners.value = "5,5"
    assert "are no corners of a polygon: write at least three as" in app._message.value
    app._tool.value = "box"
    drag(app, (4, 34), (60, 60))
    app._rows.children[1].children[1].value = 30
    assert app.sketch.places[1].angle == 30
    app.clear()
    drag(app, (50, 4), (90, 30))
    drag(app, (4, 34), (44, 60))
    app._order.value = "columns"
    app.sort()
    assert [round(place.left) for place in app.sketch.places] == [4, 50]


def png(pixels: np.ndarray) -> memoryview:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return memoryview(buffer.getvalue())


def test_a_mask_file_gives_regions(app):
    mask = np.zeros((64, 96), np.uint8)
    mask[6:30, 6:80] = 255
    app._masked([{"name": "mask.png", "content": png(mask)}])
    assert [place.corners[0] for place in app.sketch.places] == [(6, 6)]
    app._masked([{"name": "small.png", "content": png(mask[:20])}])
    assert "small.png: the mask has 96 x 20 pixels, the picture 96 x 64" in app._message.value


# erasing, prompts, hints, letters, eta


def test_erasing_in_the_application(app, studio):
    assert len(app._rows.children) == 1 and app._fields.plan().settings.eta == 0
    app._uploaded([{"name": "photo.png", "content": png(np.full((64, 96, 3), 90, np.uint8))}])
    drag(app, (4, 4), (60, 30))
    app._buttons["Generate"].click()
    assert "line 1: type the words, tick “erase”, or remove the box" in app._message.value
    app._rows.children[0].children[1].value = True
    assert "line 1 erases at x 4" in app._stage.canvas.tooltip
    app._buttons["Generate"].click()
    assert app.made[0].check.lines[0].wanted == ""
    assert "“Tea” is read where something was erased" in app.made[0].caption()
    assert [line["text"] for line in app.made[0].record["request"]["lines"]] == [""]
    with pytest.raises(RequestError, match="nothing to erase on empty paper"):
        studio.make(Sketch(96, 64, (Box(4, 4, 60, 30, erase=True),)), Plan(Settings(1)))
    gone = app.made[0]._replace(check=PictureCheck((LineCheck("", "", 0.0, 1.0),)))
    assert gone.caption().endswith("nothing is read where something was erased")


def test_prompts_hints_and_eta_reach_the_run(app):
    for name, value in (("added_prompt", "sharp"), ("negative_prompt", "dull"), ("font_hint", "outline"),
                        ("revise_positions", True)):
        app._fields._sketched[name].value = value
    app._fields._numbers["eta"].value = 0.5
    drag(app, (4, 4), (60, 30))
    app._rows.children[0].children[0].value = "Tea"
    app._buttons["Generate"].click()
    record = app.made[0].record
    assert record["settings"]["eta"] == 0.5
    assert [record["request"][name] for name in ("added_prompt", "negative_prompt", "font_hint", "revise_positions")
            ] == ["sharp", "dull", "outline", True]
    app._fields._scheduler.value = "unipc"
    app._buttons["Generate"].click()
    assert "knows no eta" in app._message.value


def test_prompts_start_with_those_of_the_model(studio, monkeypatch):
    from anytext_lib.studio.view import StudioApp

    card = replace(studio.pipeline.defaults, added_prompt="neat", negative_prompt="blur", font_hint="hollow")
    monkeypatch.setattr(studio.pipeline, "defaults", card)
    filled = StudioApp(studio)._fields.fill(Sketch(96, 64))
    assert (filled.added_prompt, filled.negative_prompt, filled.font_hint) == ("neat", "blur", "hollow")


def test_letters_of_a_file_are_imitated(app):
    from anytext_lib.scenes import render_line

    panel = app._letters
    panel.upload_mask([{"name": "m.png", "content": png(np.zeros((9, 9), np.uint8))}])
    assert "choose the picture with the letters first" in app._message.value
    panel.upload([{"name": "notes.txt", "content": b"none"}])
    assert "notes.txt cannot be read as a picture" in app._message.value
    word = np.full((80, 240, 3), 230, np.uint8)
    word[20:60, 40:200] = render_line("Garden", "RobotoSlab", (40, 160))
    drag(app, (4, 4), (60, 30))
    panel.upload([{"name": "sign.png", "content": png(word)}])
    row = app._rows.children[0]
    row.children[0].value, row.children[4].value = "Tea", "letters 1"
    line = app.sketch.request().lines[0]
    assert (line.style_image == word).all() and line.style_region is None and line.font is None
    mask = np.zeros((80, 240), np.uint8)
    mask[20:60, 40:200] = 255
    panel.upload_mask([{"name": "mask.png", "content": png(mask)}])
    line = app.sketch.request().lines[0]
    assert line.style_region == ((40, 20), (40, 59), (199, 59), (199, 20))
    assert "within 40,20" in panel._stage.canvas.tooltip
    zoom, canvas = panel._stage.zoom, panel._stage.canvas._canvases[-1]
    canvas._mouse_down_callbacks(30 * zoom, 10 * zoom)
    canvas._mouse_up_callbacks(210 * zoom, 70 * zoom)
    assert np.allclose(app.sketch.request().lines[0].style_region, [[30, 10], [210, 10], [210, 70], [30, 70]], atol=1)
    panel._corners.value = "1,2"
    assert "are no corners" in app._message.value
    app._buttons["Generate"].click()
    assert app.made[0].record["request"]["lines"][0]["style_image"]["path"] is None and "done" in app._message.value


def test_the_letters_that_stand_there_are_imitated(app):
    app._uploaded([{"name": "photo.png", "content": png(np.full((64, 96, 3), 90, np.uint8))}])
    drag(app, (4, 4), (60, 30))
    app._rows.children[0].children[5].value = HERE
    line = app.sketch.changed(0, text="Tea").request().lines[0]
    assert line.style_region == line.region and line.style_image is None and line.font is None


# saving


def test_a_result_is_saved_and_made_again(tmp_path, capsys, studio, app):
    from anytext_lib.cli import main

    studio.pipeline.save_pretrained(tmp_path / "model")
    app.studio = Studio(AnyText2Pipeline.from_pretrained(tmp_path / "model"), EchoJudge())
    app._fields._folder.value = str(tmp_path / "saved")
    photo = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    app._uploaded([{"name": "photo.png", "content": png(photo)}])
    app._letters.upload([{"name": "sign.png", "content": png(photo[:40])}])
    drag(app, (4, 4), (60, 40))
    app._rows.children[0].children[0].value, app._rows.children[0].children[5].value = "Tea", "letters 1"
    app._buttons["Generate"].click()
    save = app._results.children[0].children[1].children[1]
    save.click()
    save.click()
    names = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert len(names) == 10 and names[0] == "edited_0.png" and "edited_0_2.png" in names, names
    assert [name for name in names if "report" in name][:2] == ["edited_0_2_report.json", "edited_0_2_report.png"]
    assert "saved " in app._message.value and "edited_0_2.png" in app._message.value
    assert main(["generate", "--from", str(tmp_path / "saved" / "edited_0.png"), "--out", str(tmp_path),
                 "--device", "cpu"]) == 0, capsys.readouterr().err
    with Image.open(tmp_path / "edited_0_again.png") as again:
        assert (np.array(again) == app.made[0].image).all()
    (tmp_path / "file").touch()
    app._fields._folder.value = str(tmp_path / "file")
    save.click()
    assert 'role="alert"' in app._message.value and "is in the way" in app._message.value
