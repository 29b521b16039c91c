"""The drawing application: what is drawn becomes a request, what came out is read, what is refused is shown as text."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from anytext_lib.generation import AnyText2Pipeline, Line, RequestError, Settings
from anytext_lib.generation.prepare import default_size
from anytext_lib.studio.session import Made, Plan, Studio, numbers
from anytext_lib.studio.sketch import Box, Sketch
from tests.unit.generation_model import lively_model


class EchoJudge:
    """Reads the same word in every crop."""

    def read(self, crops):
        return ["Tea"] * len(crops)


@pytest.fixture(scope="module")
def studio():
    return Studio(AnyText2Pipeline(lively_model()), EchoJudge())


@pytest.fixture
def sketch():
    return Sketch(96, 64, (Box(4, 4, 60, 30, "Tea", "#cc2222"), Box(20, 36, 90, 60, "Milk")), prompt="a wall")


# the sketch


def test_a_drag_makes_a_box_inside_the_picture_whatever_its_direction():
    drawn = Sketch(96, 64).dragged((50, 40), (10, 5)).dragged((80, 50), (200, -20))
    assert [(box.left, box.top, box.right, box.bottom) for box in drawn.boxes] == [(10, 5, 50, 40), (80, 0, 95, 50)]
    assert drawn.boxes[0].quad == [[10, 5], [50, 5], [50, 40], [10, 40]]


@pytest.mark.parametrize("end", [(12, 12), (60, 13), (12, 60)])
def test_a_click_makes_none(end):
    empty = Sketch(96, 64)
    assert empty.dragged((10, 10), end) is empty


def test_boxes_can_be_changed_and_removed(sketch):
    changed = sketch.changed(1, text="Water", color="darkred")
    assert changed.boxes[1] == Box(20, 36, 90, 60, "Water", "darkred") and changed.boxes[0] is sketch.boxes[0]
    assert sketch.boxes[1].text == "Milk", "the old sketch stays as it is"
    assert changed.without(0).boxes == changed.boxes[1:] and changed.cleared().boxes == ()


def test_the_request_holds_all_that_was_drawn(sketch):
    request = replace(sketch, glyph_font="Merienda").request()
    assert request.lines[0] == Line("Tea", [[4, 4], [60, 4], [60, 30], [4, 30]], color="#cc2222")
    assert (request.prompt, request.width, request.height, request.image) == ("a wall", 96, 64, None)
    assert request.glyph_font == "Merienda" and request.lines[1].color is None


def test_a_sketch_on_a_picture_asks_to_edit_it(sketch):
    photo = np.full((50, 80, 3), 90, np.uint8)
    on_photo = sketch.on(photo)
    assert (on_photo.width, on_photo.height, on_photo.boxes) == (80, 50, ())
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
    for text in ("", "\u0e01\u0e02"):  # nothing typed; letters that no font of the course has
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
    ({"seeds": tuple(range(9)), "strengths": (0.5, 1.0, 1.5)}, "9 seeds times 3 strengths are more than 24")])
def test_wrong_plans_are_explained(values, message):
    with pytest.raises(RequestError, match=message):
        Plan(**values)


def test_every_strength_is_tried_with_every_seed(studio, sketch):
    told = []
    plan = Plan(Settings(2, 1.0, blend=True), (3, 1), (0.0, 1.0))
    made, notes = studio.make(sketch, plan, lambda line, progress: told.append(line))
    assert [(m.seed, m.settings.strength) for m in made] == [(3, 0.0), (1, 0.0), (3, 1.0), (1, 1.0)]
    assert all(m.image.shape == (64, 96, 3) and m.wanted == ["Tea", "Milk"] and m.read == ["Tea", "Tea"] for m in made)
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
    assert made[0].image.shape == photo.shape and made[0].read == ["Tea"]
    assert (made[0].image[60:] == photo[60:]).all() and not (made[0].image == photo).all()


def test_without_a_judge_nothing_is_read(studio, sketch):
    made, _ = Studio(studio.pipeline).make(sketch, Plan(Settings(1, 1.0)))
    assert made[0].read == [] and made[0].caption() == "seed 0, strength 1"
    assert Studio(studio.pipeline, EchoJudge()).make(Sketch(96, 64), Plan(Settings(1, 1.0)))[0][0].wanted == []


def test_what_is_wrong_is_named(studio, sketch):
    with pytest.raises(RequestError, match="line 2: type the words, or remove the box"):
        studio.make(sketch.changed(1, text=""), Plan(Settings(1)))


def test_it_starts_with_what_suits_the_model(studio):
    sketch, model = studio.sketch(), studio.pipeline.model
    assert (sketch.height, sketch.width) == default_size(model, studio.pipeline.defaults) and sketch.boxes == ()
    assert studio.plan().settings == replace(studio.pipeline.default_settings(), blend=True)


# the widgets, without a browser


@pytest.fixture
def app(studio):
    pytest.importorskip("ipycanvas")
    from anytext_lib.studio.view import StudioApp

    return StudioApp(studio, Sketch(96, 64), Plan(Settings(1, 1.0, blend=True)))


def drag(app, *points):
    """Press at the first point (pixels of the picture), move to the last, let go."""
    canvas = app._canvas._canvases[-1]
    places = [(x * app._zoom, y * app._zoom) for x, y in points]
    canvas._mouse_down_callbacks(*places[0])
    for place in places[1:]:
        canvas._mouse_move_callbacks(*place)
    canvas._mouse_up_callbacks(*places[-1])


def test_draw_type_and_run(app):
    drag(app, (4, 4), (30, 20), (60, 30))
    drag(app, (20, 36), (90, 60))
    (words, colored, color, *_), (other, *_) = (row.children for row in app._rows.children)
    words.value, color.value, other.value = "Tea", "#00aa00", "Milk"
    assert colored.value, "a colour that is chosen counts"
    assert [(round(box.right), box.text, box.color) for box in app.sketch.boxes] == [
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
    assert app.sketch.boxes[0].quad == [[4, 5], [54, 5], [54, 25], [4, 25]]
    assert "line 1 “” at x 4, y 5, 50 wide, 20 high" in app._canvas.tooltip and app._canvas.description == ""
    form.children[0].value = 999
    assert form.children[0].value == 95, "it stays in the picture"
    form.children[-1].click()
    assert "outside of the picture, or is too small" in app._message.value and len(app.sketch.boxes) == 1


def test_what_the_card_tells_is_shown(app, monkeypatch):
    from anytext_lib.generation.card import Capabilities

    card = replace(app.studio.pipeline.defaults, capabilities=Capabilities(max_chars=3, editing=False))
    monkeypatch.setattr(app.studio.pipeline, "defaults", card)
    app._buttons["Generate"].click()
    assert "there is no text in this picture: draw a box" in app._message.value
    drag(app, (4, 4), (90, 60))
    app._rows.children[0].children[0].value = "Milk"
    app._buttons["Generate"].click()
    assert 'role="status"' in app._message.value and ">done</div>" in app._message.value
    assert 'role="note"' in app._message.value and "lines of at most 3 characters" in app._message.value
    app._results.children[0].children[1].click()
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


def test_a_result_can_be_edited_and_left(app):
    drag(app, (4, 4), (60, 30))
    app._rows.children[0].children[0].value = "Tea"
    app._buttons["Generate"].click()
    app._results.children[0].children[1].click()
    assert app.sketch.picture is app.made[0].image and app._buttons["Generate"].description == "Edit"
    drag(app, (4, 4), (60, 30))
    app._rows.children[0].children[0].value = "Tea"
    app._buttons["Generate"].click()
    assert app.made[0].settings.blend and app.made[0].image.shape == (64, 96, 3)
    app._buttons["New picture"].click()
    assert app.sketch.picture is None and app.sketch.boxes == () and app._buttons["Generate"].description == "Generate"


def test_a_model_with_styles_offers_a_font_for_each_line(app):
    drag(app, (4, 4), (60, 30))
    app._rows.children[0].children[3].value = "Merienda"
    assert app.studio.has_styles and app.sketch.boxes[0].font == "Merienda"


def test_a_file_is_edited(app):
    buffer = io.BytesIO()
    Image.new("RGB", (120, 80), (30, 60, 90)).save(buffer, format="png")
    app._uploaded([{"name": "photo.png", "content": memoryview(buffer.getvalue())}])
    assert app.sketch.picture.shape == (80, 120, 3) and app._canvas.width == 640


def test_boxes_are_removed_and_sizes_changed(app):
    drag(app, (4, 4), (60, 30))
    drag(app, (4, 34), (60, 60))
    app._rows.children[0].children[-1].click()
    assert [box.top for box in app.sketch.boxes] == [pytest.approx(34)]
    app._buttons["Clear boxes"].click()
    assert app.sketch.boxes == () and "Draw a box" in app._rows.children[0].value
    app._fields._sides["width"].value = 192
    assert app.sketch.width == 192 and app._canvas.height == round(640 * app.sketch.height / 192)


def test_a_caption_has_no_reading_where_there_is_none():
    assert Made(np.zeros((2, 2, 3), np.uint8), 4, Settings(strength=0.5), ["Tea"], []).caption() == (
        "seed 4, strength 0.5")
