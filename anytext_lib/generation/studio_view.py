"""The drawing application in a notebook: a canvas for the boxes, a row for each line, the results side by side.

Everything it knows lies in ``studio``; here are widgets (ipywidgets, and ipycanvas for the canvas).
"""

from __future__ import annotations

import base64
import html
import io
import time
from collections.abc import Sequence

import ipywidgets as w
import numpy as np
from ipycanvas import MultiCanvas, hold_canvas
from traitlets import Unicode

from anytext_lib.data.pictures import PictureError, read_picture
from anytext_lib.generation.studio import Made, Plan, Studio
from anytext_lib.generation.studio_fields import Fields
from anytext_lib.generation.studio_rows import BoxForm, Row
from anytext_lib.generation.studio_sketch import Sketch

CANVAS_SIDE = 640  # pixels on the screen, the longer side
RESULT_WIDTH = 300
PREVIEW_EVERY = 1.0  # seconds: decoding a preview takes time
TEXT = "color:var(--jp-ui-font-color1,var(--vscode-foreground,inherit));line-height:1.4"  # of the theme, dark or light
MARKS = {"status": "transparent", "note": "var(--jp-warn-color1,#b26a00)", "alert": "var(--jp-error-color1,#b00020)"}


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
        drawing = w.VBox([self._stage, w.HBox([*self._buttons.values()]), self._message, self._form, self._rows])
        super().__init__([w.HBox([drawing, self._fields], layout=w.Layout(flex_flow="row wrap")),
                          self._preview, self._results])
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
        """Go on with a picture (H, W, 3) uint8: what is drawn now is written into it."""
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


def image_html(image: np.ndarray, alt: str, width: int = RESULT_WIDTH) -> str:
    """An image (H, W, 3) uint8 as HTML, with words for those who do not see it."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(alt, quote=True)}" width="{width}" src="data:image/png;base64,{data}">'
