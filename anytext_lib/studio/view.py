"""The drawing application in a notebook: a canvas for the regions, a row for each line, the results side by side.

Everything it knows lies in ``session`` and ``sketch``; here are widgets (ipywidgets, and ipycanvas for the canvas).
"""

from __future__ import annotations

import html
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import ipywidgets as w
import numpy as np
from IPython.display import Javascript

from anytext_lib.data.fonts import load_fonts
from anytext_lib.data.pictures import PictureError, read_picture
from anytext_lib.studio.canvas import Stage
from anytext_lib.studio.panels import (
    RESULT_WIDTH,
    SWATCH,
    BoxForm,
    Fields,
    LettersPanel,
    Row,
    image_html,
)
from anytext_lib.studio.session import Made, Plan, Studio
from anytext_lib.studio.sketch import HERE, Letters, Sketch

CANVAS_SIDE = 640  # pixels on the screen, the longer side
PREVIEW_EVERY = 1.0  # seconds: decoding a preview takes time
TEXT = "color:var(--jp-ui-font-color1,var(--vscode-foreground,inherit));line-height:1.4"  # of the theme, dark or light
MARKS = {"status": "transparent", "note": "var(--jp-warn-color1,#b26a00)", "alert": "var(--jp-error-color1,#b00020)"}
NAME_SWATCHES = f"""
const name = () => document.querySelectorAll(".{SWATCH}").forEach(field => {{
    const swatch = field.querySelector("input[type=color]"), label = field.querySelector("label");
    if (swatch && label) swatch.setAttribute("aria-label", "swatch of " + label.textContent);
}});
new MutationObserver(name).observe(document.body, {{childList: true, subtree: true}});
name();
"""


class StudioApp(w.VBox):
    """Draw regions by mouse, or give their pixels, type the words, generate or edit, and see what the judge reads.

    Args:
        studio: pipeline and judge. ``sketch``, ``plan``: to start with; None takes what suits the model.

    The attributes ``sketch``, ``plan`` and ``made`` hold what one sees.  What the pipeline refuses is shown as text.
    """

    def __init__(self, studio: Studio, sketch: Sketch | None = None, plan: Plan | None = None):
        self.studio, self.sketch, self.plan = studio, sketch or studio.sketch(), plan or studio.plan()
        self.made: list[Made] = []
        self._fields = Fields(studio, self.sketch, self.plan, self.new_picture, self._uploaded)
        self._letters = LettersPanel(self._new_letters, self._refuse)
        self._message, self._preview, self._change = w.HTML(), w.HTML(), w.HTML()
        self._stage = Stage(CANVAS_SIDE, self._dragged, self._outlined)
        self._rows, self._results = w.VBox(), w.GridBox()
        buttons = {"Generate": self.run, "Clear boxes": self.clear, "New picture": self.new_picture}
        self._buttons = {label: w.Button(description=label) for label in buttons}
        for label, action in buttons.items():
            self._buttons[label].on_click(lambda _, action=action: action())
        self._buttons["Generate"].button_style = "primary"
        self._form = BoxForm(self.sketch, self.add)
        names = w.Output()  # the swatch of ipywidgets' ColorPicker has no accessible name of its own
        names.append_display_data(Javascript(NAME_SWATCHES))
        drawing = w.VBox([self._stage, w.HBox([*self._buttons.values()]), self._message, self._tools(), self._form,
                          self._rows])
        fields = w.VBox([self._fields, *([self._letters] if studio.has_styles else [])])
        super().__init__([w.HBox([drawing, fields], layout=w.Layout(flex_flow="row wrap")), self._preview,
                          self._results, self._change, names])
        self._set_stage()

    def _tools(self) -> w.HBox:
        """What the mouse draws, the order of the lines, and regions from a mask."""
        self._tool = w.ToggleButtons(options=["box", "polygon"], tooltips=["drag from corner to corner", "click the "
                                     "corners, the first one again at the end"], style={"button_width": "75px"})
        self._tool.observe(lambda change: self._stage.choose(change["new"]), names="value")
        self._order = w.Dropdown(options=["rows", "columns"], description="order", layout=w.Layout(width="150px"),
                                 style={"description_width": "45px"})
        sort = w.Button(description="Sort lines", tooltip="number the lines by rows or by columns",
                        layout=w.Layout(width="100px"))
        sort.on_click(lambda _: self.sort())
        mask = w.FileUpload(accept="image/*", description="regions of a mask", layout=w.Layout(width="170px"))
        mask.observe(lambda change: self._masked(change["new"]), names="value")
        return w.HBox([self._tool, self._order, sort, mask], layout=w.Layout(flex_flow="row wrap"))

    # what one can do

    def run(self) -> None:
        """Generate, or edit where there is a picture."""
        self._buttons["Generate"].disabled = True
        self._last = time.monotonic()
        try:
            self.sketch, self.plan = self._fields.fill(self.sketch), self._fields.plan()
            self._redraw()  # words of the prompt may stand in places now
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

    def save(self, made: Made) -> None:
        """Write a result with its settings into the folder of the fields."""
        try:
            written = self.studio.save(made, self._fields.folder)
            self._say("saved " + ", ".join(map(str, written)))
        except (ValueError, OSError) as error:
            self._say(str(error), wrong=True)

    def show_change(self, made: Made) -> None:
        """Show the report of an edit beneath the results."""
        picture = image_html(self.studio.change(made), "before, after and difference", 3 * RESULT_WIDTH)
        told = html.escape(made.report.text()).replace("\n", "<br>")
        self._change.value = (
            f'<div style="{TEXT};white-space:normal">seed {made.seed}: before, after, and the difference four times '
            f'as strong, pale blue in the regions{picture}<br>{told}</div>')

    def add(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A box between two points (x, y) of the picture."""
        before = self.sketch
        self.sketch = before.dragged(start, end)
        if self.sketch is before:
            self._say("the box lies outside of the picture, or is too small", wrong=True)
        self._refresh()

    def sort(self) -> None:
        """Number the lines in the order that is chosen."""
        self.sketch = self.sketch.ordered(self._order.value)
        self._refresh()

    def clear(self) -> None:
        """Remove all boxes and outlines."""
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

    def _masked(self, files) -> None:
        from PIL import Image

        for file in files:
            try:
                self.sketch = self.sketch.painted(Image.open(io.BytesIO(bytes(file["content"]))), self._order.value)
            except (OSError, ValueError) as error:
                self._say(f"{file['name']}: {error}", wrong=True)
        self._refresh()

    # the canvas and the rows

    def _set_stage(self) -> None:
        """A canvas of the sketch's size."""
        self._stage.fit(self.sketch.width, self.sketch.height)
        self._buttons["Generate"].description = "Generate" if self.sketch.picture is None else "Edit"
        self._form.fit(self.sketch)
        self._refresh()

    def _dragged(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.sketch = self.sketch.dragged(start, end)
        self._refresh()

    def _outlined(self, corners: list[tuple[float, float]]) -> None:
        self.sketch = self.sketch.outlined(corners)
        self._refresh()

    def _refresh(self) -> None:
        """Canvas and rows after boxes came or went."""
        self._rows.children = [self._row(i) for i in range(len(self.sketch.places))] or [
            w.HTML("<i>Draw a box for each line of text with the mouse, or give its pixels above and add it.</i>")]
        self._redraw()

    def _row(self, index: int) -> Row:
        def changed(**values) -> None:
            self.sketch = self.sketch.changed(index, **values)
            self._redraw()

        editing = self.sketch.picture is not None
        fonts = [*([HERE] if editing else []), *self.sketch.letters, *load_fonts()] if self.studio.has_styles else []
        return Row(index + 1, self.sketch.places[index], fonts, editing, changed, self._refuse,
                   lambda: self._removed(index))

    def _new_letters(self, letters: Mapping[str, Letters]) -> None:
        self.sketch = replace(self.sketch, letters=letters)
        self._refresh()

    def _redraw(self) -> None:
        self._stage.show(self.sketch.drawing(self._stage.zoom), self.sketch.described())

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
        self._change.value = ""
        columns = len(self.plan.seeds) if self.plan.best is None else min(self.plan.best, 3)
        self._results.layout = w.Layout(grid_template_columns=f"repeat({columns}, {RESULT_WIDTH + 12}px)")
        self._results.children = [self._result(made) for made in self.made]

    def _result(self, made: Made) -> w.VBox:
        again, save = w.Button(description="edit this"), w.Button(description="save", tooltip="with all settings")
        again.on_click(lambda _: self.edit(made.image))
        save.on_click(lambda _: self.save(made))
        caption, buttons = made.caption(), [again, save]
        if made.report is not None:
            change = w.Button(description="what changed", tooltip="the picture before and after, and the difference",
                              layout=w.Layout(width="110px"))
            change.on_click(lambda _: self.show_change(made))
            buttons.append(change)
        return w.VBox([w.HTML(f"{image_html(made.image, caption)}"
                              f'<div style="line-height:1.3">{html.escape(caption)}</div>'), w.HBox(buttons)])

    def _refuse(self, text: str) -> None:
        self._say(text, wrong=True)

    def _say(self, text: str, wrong: bool = False, notes: Sequence[str] = ()) -> None:
        said = [("alert" if wrong else "status", text), *(("note", note) for note in notes)]
        self._message.value = "".join(
            f'<div role="{role}" style="{TEXT};border-left:4px solid {MARKS[role]};padding-left:6px">'
            f'{html.escape(line).replace(chr(10), "<br>")}</div>' for role, line in said)
