"""The drawing application in a notebook: a canvas for the boxes, a row for each line, the results side by side.

Everything it knows lies in ``session`` and ``sketch``; here are widgets (ipywidgets, and ipycanvas for the canvas).
"""

from __future__ import annotations

import base64
import html
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import ipywidgets as w
import numpy as np
from ipycanvas import MultiCanvas, hold_canvas
from IPython.display import Javascript
from traitlets import Unicode

from anytext_lib.data.fonts import load_fonts
from anytext_lib.data.pictures import PictureError, read_picture
from anytext_lib.generation.prepare import LARGEST, picture_grid
from anytext_lib.generation.request import SCHEDULERS
from anytext_lib.studio.session import Made, Plan, Studio, numbers
from anytext_lib.studio.sketch import SMALLEST_DRAG, Box, Sketch

CANVAS_SIDE = 640  # pixels on the screen, the longer side
RESULT_WIDTH = 300
PREVIEW_EVERY = 1.0  # seconds: decoding a preview takes time
TEXT = "color:var(--jp-ui-font-color1,var(--vscode-foreground,inherit));line-height:1.4"  # of the theme, dark or light
MARKS = {"status": "transparent", "note": "var(--jp-warn-color1,#b26a00)", "alert": "var(--jp-error-color1,#b00020)"}
ANY, OWN = "(any)", "the model's"  # a choice without a value shows up empty in a list: these stand for None
FORM = {"layout": w.Layout(width="330px"), "style": {"description_width": "110px"}}
INK = "#cc2222"  # the colour that a line gets first when it is to have one


SWATCH = "anytext-colour"  # CSS class of the colour fields
NAME_SWATCHES = f"""
const name = () => document.querySelectorAll(".{SWATCH}").forEach(field => {{
    const swatch = field.querySelector("input[type=color]"), label = field.querySelector("label");
    if (swatch && label) swatch.setAttribute("aria-label", "swatch of " + label.textContent);
}});
new MutationObserver(name).observe(document.body, {{childList: true, subtree: true}});
name();
"""


class DrawingArea(MultiCanvas):
    """Two layers to draw on, whose ``tooltip`` is the title of the <canvas>, and with it its accessible name.

    The widgets of JupyterLab give a title to what has an empty description, and ipycanvas has none at all.
    """

    description = Unicode("").tag(sync=True)


class StudioApp(w.VBox):
    """Draw boxes with the mouse, or give their pixels, type the words, generate or edit, and see what the judge reads.

    Args:
        studio: pipeline and judge. ``sketch``, ``plan``: to start with; None takes what suits the model.

    The attributes ``sketch``, ``plan`` and ``made`` hold what one sees.  What the pipeline refuses is shown as text.
    """

    def __init__(self, studio: Studio, sketch: Sketch | None = None, plan: Plan | None = None):
        self.studio, self.sketch, self.plan = studio, sketch or studio.sketch(), plan or studio.plan()
        self.made: list[Made] = []
        self._start: tuple[float, float] | None = None
        self._fields = Fields(studio, self.sketch, self.plan, self.new_picture, self._uploaded)
        self._message, self._preview = w.HTML(), w.HTML()
        self._stage, self._rows, self._results = w.Box(), w.VBox(), w.GridBox()
        buttons = {"Generate": self.run, "Clear boxes": self.clear, "New picture": self.new_picture}
        self._buttons = {label: w.Button(description=label) for label in buttons}
        for label, action in buttons.items():
            self._buttons[label].on_click(lambda _, action=action: action())
        self._buttons["Generate"].button_style = "primary"
        self._form = BoxForm(self.sketch, self.add)
        names = w.Output()  # the swatch of ipywidgets' ColorPicker has no accessible name of its own
        names.append_display_data(Javascript(NAME_SWATCHES))
        drawing = w.VBox([self._stage, w.HBox([*self._buttons.values()]), self._message, self._form, self._rows])
        super().__init__([w.HBox([drawing, self._fields], layout=w.Layout(flex_flow="row wrap")),
                          self._preview, self._results, names])
        self._set_stage()

    # what one can do

    def run(self) -> None:
        """Generate, or edit where there is a picture."""
        self._buttons["Generate"].disabled = True
        self._last = time.monotonic()
        try:
            self.sketch, self.plan = self._fields.fill(self.sketch), self._fields.plan()
            self._say("working ...")
            self.made, notes = self.studio.make(self.sketch, self.plan, self._told)
            self._say("done", notes=notes)
            self._show_results()
        except (ValueError, OSError, RuntimeError) as error:
            self._say(str(error), wrong=True)
        finally:
            self._preview.value = ""
            self._buttons["Generate"].disabled = False

    def edit(self, picture: np.ndarray) -> None:
        """Edit a picture (H, W, 3) uint8: lines drawn from now on are written into it."""
        self.sketch = self.sketch.on(picture)
        self._set_stage()
        self._say("draw boxes where this picture is to be changed")

    def add(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A box between two points (x, y) of the picture."""
        before = self.sketch
        self.sketch = before.dragged(start, end)
        if self.sketch is before:
            self._say("the box lies outside of the picture, or is too small", wrong=True)
        self._refresh()

    def clear(self) -> None:
        """Remove all boxes."""
        self.sketch = self.sketch.cleared()
        self._refresh()

    def new_picture(self, size: tuple[int, int] | None = None) -> None:
        """Leave the picture that is edited, for empty paper of ``size`` (H, W); None takes that of the fields."""
        self.sketch = self.sketch.on(None, size or self._fields.size)
        self._set_stage()

    def _uploaded(self, files) -> None:
        for file in files:
            try:
                self.edit(read_picture(bytes(file["content"])))
            except PictureError as error:
                self._say(f"{file['name']} cannot be read as a picture: {error}", wrong=True)

    # the canvas and the rows

    def _set_stage(self) -> None:
        """A canvas of the sketch's size."""
        self._zoom = CANVAS_SIDE / max(self.sketch.width, self.sketch.height)
        size = {"width": round(self.sketch.width * self._zoom), "height": round(self.sketch.height * self._zoom)}
        canvas = self._canvas = DrawingArea(2, **size)
        canvas.layout = w.Layout(border="1px solid #888", **{side: f"{value}px" for side, value in size.items()})
        canvas.on_mouse_down(lambda x, y: self._pressed(x, y))
        canvas.on_mouse_move(lambda x, y: self._moved(x, y))
        for event in (canvas.on_mouse_up, canvas.on_mouse_out):  # a drag ends where the mouse leaves the canvas
            event(lambda x, y: self._released(x, y))
        self._stage.children = [canvas]
        self._buttons["Generate"].description = "Generate" if self.sketch.picture is None else "Edit"
        self._form.fit(self.sketch)
        self._refresh()

    def _pressed(self, x: float, y: float) -> None:
        self._start = x, y

    def _moved(self, x: float, y: float) -> None:
        if self._start is not None:
            with hold_canvas():
                self._canvas[1].clear()
                self._canvas[1].stroke_style = "#D55E00"
                self._canvas[1].stroke_rect(*self._start, x - self._start[0], y - self._start[1])

    def _released(self, x: float, y: float) -> None:
        if self._start is not None:
            start, self._start = self._start, None
            self._canvas[1].clear()
            self.sketch = self.sketch.dragged(*((px / self._zoom, py / self._zoom) for px, py in (start, (x, y))))
            self._refresh()

    def _refresh(self) -> None:
        """Canvas and rows after boxes came or went."""
        self._rows.children = [self._row(i) for i in range(len(self.sketch.boxes))] or [
            w.HTML("<i>Draw a box for each line of text with the mouse, or give its pixels above and add it.</i>")]
        self._redraw()

    def _row(self, index: int) -> Row:
        def changed(**values) -> None:
            self.sketch = self.sketch.changed(index, **values)
            self._redraw()

        return Row(index + 1, self.sketch.boxes[index], self.studio.has_styles, changed, lambda: self._removed(index))

    def _redraw(self) -> None:
        with hold_canvas():
            self._canvas[0].put_image_data(self.sketch.drawing(self._zoom), 0, 0)
        self._canvas.tooltip = self.sketch.described()  # its accessible name: it becomes the title of the <canvas>

    def _removed(self, index: int) -> None:
        self.sketch = self.sketch.without(index)
        self._refresh()

    # what came out

    def _told(self, line: str, progress) -> None:
        self._say(line)
        if time.monotonic() - self._last > PREVIEW_EVERY and progress.step < progress.steps:
            pictures = [image_html(np.array(image), "a preview") for image in progress.preview()]
            self._preview.value, self._last = "".join(pictures), time.monotonic()

    def _show_results(self) -> None:
        columns = len(self.plan.seeds)
        self._results.layout = w.Layout(grid_template_columns=f"repeat({columns}, {RESULT_WIDTH + 12}px)")
        self._results.children = [self._result(made) for made in self.made]

    def _result(self, made: Made) -> w.VBox:
        again = w.Button(description="edit this")
        again.on_click(lambda _: self.edit(made.image))
        caption = made.caption()
        return w.VBox([w.HTML(f"{image_html(made.image, caption)}"
                              f'<div style="line-height:1.3">{html.escape(caption)}</div>'), again])

    def _say(self, text: str, wrong: bool = False, notes: Sequence[str] = ()) -> None:
        said = [("alert" if wrong else "status", text), *(("note", note) for note in notes)]
        self._message.value = "".join(
            f'<div role="{role}" style="{TEXT};border-left:4px solid {MARKS[role]};padding-left:6px">'
            f'{html.escape(line).replace(chr(10), "<br>")}</div>' for role, line in said)


class BoxForm(w.HBox):
    """Numbers x, y, width and height in pixels of the picture, and a button "Add box".

    Args:
        add: is called with two corners (x, y) of the picture.
    """

    def __init__(self, sketch: Sketch, add: Callable):
        least = int(SMALLEST_DRAG) + 1
        self._numbers = {name: w.BoundedIntText(description=name, layout=w.Layout(width=f"{width}px"),
                                                style={"description_width": f"{width - 68}px"})
                         for name, width in (("x", 90), ("y", 90), ("width", 115), ("height", 120))}
        self._numbers["width"].min = self._numbers["height"].min = least
        button = w.Button(description="Add box", tooltip="a box at these pixels of the picture")
        button.on_click(lambda _: add((self.value[0], self.value[1]),
                                      (self.value[0] + self.value[2], self.value[1] + self.value[3])))
        super().__init__([*self._numbers.values(), button], layout=w.Layout(flex_flow="row wrap"))
        self.fit(sketch)

    @property
    def value(self) -> tuple[int, int, int, int]:
        """x, y, width and height."""
        return tuple(number.value for number in self._numbers.values())

    def fit(self, sketch: Sketch) -> None:
        """Allow what lies in the picture, and offer its middle."""
        ends = {"x": sketch.width - 1, "y": sketch.height - 1, "width": sketch.width, "height": sketch.height}
        offered = {"x": sketch.width // 10, "y": sketch.height // 3, "width": sketch.width * 8 // 10,
                   "height": sketch.height // 3}
        for name, number in self._numbers.items():
            number.max, number.value = ends[name], offered[name]


class Row(w.HBox):
    """Words, colour and font of a box, and a button to remove it.

    Args:
        number: of the line, from 1. ``styles``: whether the model imitates fonts.
        changed: is called with the entries of ``Box`` that the fields hold. ``removed``: is called without any.
    """

    def __init__(self, number: int, box: Box, styles: bool, changed: Callable, removed: Callable):
        self._words = w.Text(box.text, description=f"line {number}", placeholder="the words",
                             layout=w.Layout(width="250px"), style={"description_width": "50px"})
        self._colored = w.Checkbox(box.color is not None, description="in colour", indent=False,
                                   layout=w.Layout(width="90px"))
        self._color = w.ColorPicker(value=box.color or INK, description=f"colour {number}",
                                    layout=w.Layout(width="175px"), style={"description_width": "60px"})
        self._color.add_class(SWATCH)
        self._font = w.Dropdown(options=[ANY, *load_fonts()], value=box.font or ANY, description=f"font {number}",
                                layout=w.Layout(width="180px"), style={"description_width": "50px"})
        remove = w.Button(description="remove", tooltip=f"remove line {number}", layout=w.Layout(width="80px"))
        fields = [self._words, self._colored, self._color, *([self._font] if styles else [])]
        for field in fields:
            field.observe(lambda _: changed(**self.value(styles)), names="value")
        self._color.observe(lambda _: setattr(self._colored, "value", True), names="value")  # a colour chosen is wanted
        remove.on_click(lambda _: removed())
        super().__init__([*fields, remove], layout=w.Layout(flex_flow="row wrap"))

    def value(self, styles: bool) -> dict:
        """The entries of ``Box`` that the fields hold."""
        found = {"text": self._words.value, "color": self._color.value if self._colored.value else None}
        if styles:
            found["font"] = None if self._font.value == ANY else self._font.value
        return found


class Fields(w.VBox):
    """Prompt, size, font, seeds, strengths and settings.

    Args:
        studio: tells what fits the model. ``sketch``, ``plan``: to start with.
        resized: is called with (height, width) when the size for new pictures changes.
        uploaded: is called with the files of the upload button.
    """

    def __init__(self, studio: Studio, sketch: Sketch, plan: Plan, resized: Callable, uploaded: Callable):
        self._settings = plan.settings
        self._sketched = {
            "prompt": w.Text(sketch.prompt, description="prompt", placeholder="what the picture shows", **FORM),
            "glyph_font": w.Dropdown(options=[ANY, *load_fonts()], value=sketch.glyph_font or ANY,
                                     description="glyph font", **FORM)}
        self._sides = self._make_sides(studio, sketch, resized)
        self._lists = {"seeds": w.Text(", ".join(map(str, plan.seeds)), description="seeds", **FORM),
                       "strengths": w.Text(", ".join(f"{s:g}" for s in plan.strengths), description="strengths",
                                           **FORM)}
        self._scheduler = w.Dropdown(options=[OWN, *SCHEDULERS], value=plan.scheduler or OWN,
                                     description="scheduler", **FORM)
        self._numbers = _setting_fields(plan)
        upload = w.FileUpload(accept="image/*", description="edit a file")
        upload.observe(lambda change: uploaded(change["new"]), names="value")
        super().__init__([*self._sketched.values(), *self._sides.values(), *self._lists.values(), self._scheduler,
                          *self._numbers.values(), upload])

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of new pictures."""
        return self._sides["height"].value, self._sides["width"].value

    def fill(self, sketch: Sketch) -> Sketch:
        """The sketch with the prompt and font of the fields."""
        font = self._sketched["glyph_font"].value
        return replace(sketch, prompt=self._sketched["prompt"].value, glyph_font=None if font == ANY else font)

    def plan(self) -> Plan:
        """The plan of the fields; RequestError names a field that is wrong."""
        settings = replace(self._settings, **{name: field.value for name, field in self._numbers.items()})
        lists = {name: numbers(self._lists[name].value, kind, name)
                 for name, kind in (("seeds", int), ("strengths", float))}
        scheduler = self._scheduler.value
        return Plan(settings, scheduler=None if scheduler == OWN else scheduler, **lists)

    @staticmethod
    def _make_sides(studio: Studio, sketch: Sketch, resized: Callable) -> dict[str, w.BoundedIntText]:
        paper = sketch if sketch.picture is None else studio.sketch()
        grid = picture_grid(studio.pipeline.model)
        sides = {name: w.BoundedIntText(getattr(paper, name), min=grid, max=LARGEST, step=grid, description=name,
                                        **FORM) for name in ("width", "height")}
        for side in sides.values():
            side.observe(lambda _: resized((sides["height"].value, sides["width"].value)), names="value")
        return sides


def _setting_fields(plan: Plan) -> dict[str, w.Widget]:
    """One for each of the ``Settings`` that the application changes, by its name there."""
    settings = plan.settings
    return {
        "ddim_steps": w.BoundedIntText(settings.ddim_steps, min=1, max=1000, description="steps", **FORM),
        "cfg_scale": w.BoundedFloatText(settings.cfg_scale, min=0, max=30, step=0.5, description="guidance", **FORM),
        "attnx_scale": w.BoundedFloatText(settings.attnx_scale, min=0, max=5, step=0.25, description="AttnX", **FORM),
        "blend": w.Checkbox(settings.blend, description="editing: blend the surroundings in", indent=False),
        "composite": w.Checkbox(settings.composite, description="editing: put untouched pixels back", indent=False),
    }


def image_html(image: np.ndarray, alt: str, width: int = RESULT_WIDTH) -> str:
    """An image (H, W, 3) uint8 as HTML, with words for those who do not see it."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(alt, quote=True)}" width="{width}" src="data:image/png;base64,{data}">'
