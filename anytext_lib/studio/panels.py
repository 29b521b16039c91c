"""The fields of the application: numbers of a box, a row for each line, letters to imitate, settings."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import ipywidgets as w
import numpy as np

from anytext_lib.adapters.adaptation import Adaptation
from anytext_lib.data.fonts import load_fonts
from anytext_lib.data.pictures import PictureError, read_picture
from anytext_lib.generation.prepare import LARGEST, picture_grid
from anytext_lib.generation.regions import region_polygon
from anytext_lib.generation.request import FONT_HINTS, SCHEDULERS, RequestError
from anytext_lib.studio.canvas import Stage
from anytext_lib.studio.session import MOST, Plan, Studio, numbers
from anytext_lib.studio.sketch import (
    FRAME,
    SMALLEST_DRAG,
    Box,
    Letters,
    Outline,
    Sketch,
    read_corners,
    write_corners,
)

RESULT_WIDTH = 300
LETTERS_SIDE = 330  # pixels on the screen
ANY, OWN = "(any)", "the model's"  # a choice without a value shows up empty in a list: these stand for None
FORM = {"layout": w.Layout(width="330px"), "style": {"description_width": "110px"}}
INK = "#cc2222"  # the colour that a line gets first when it is to have one
SWATCH = "anytext-colour"  # CSS class of the colour fields


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
    """Words, region, colour and font of a place, and a button to remove it.

    Args:
        number: of the line, from 1. ``fonts``: names of what can be imitated; none without styles.
        editing: whether there is something to erase.
        changed: is called with the entries of the place that the fields hold. ``refused``: is called with the reason
            where they are wrong. ``removed``: is called without any.
    """

    def __init__(self, number: int, place: Box | Outline, fonts: Sequence[str], editing: bool, changed: Callable,
                 refused: Callable, removed: Callable):
        self._changed, self._refused, self._outline = changed, refused, isinstance(place, Outline)
        self._words = _small(w.Text(place.text, description=f"line {number}", placeholder="the words"), 230, 50)
        self._erase = w.Checkbox(place.erase, description=f"erase {number}", indent=False,
                                 layout=w.Layout(width="85px"))
        self._colored = w.Checkbox(place.color is not None, description="in colour", indent=False,
                                   layout=w.Layout(width="90px"))
        self._color = _small(w.ColorPicker(value=place.color or INK, description=f"colour {number}"), 175, 60)
        self._color.add_class(SWATCH)
        self._font = _small(w.Dropdown(options=[ANY, *fonts], value=place.font or ANY, description=f"font {number}"),
                            200, 50)
        if isinstance(place, Box):
            self._shape = _small(w.BoundedFloatText(place.angle, min=-180, max=180, step=1,
                                                    description=f"angle {number}"), 125, 55)
        else:
            self._shape = _small(w.Text(write_corners(place.corners), description=f"corners {number}",
                                        continuous_update=False), 330, 65)
        remove = w.Button(description="remove", tooltip=f"remove line {number}", layout=w.Layout(width="80px"))
        fields = [self._words, *([self._erase] if editing else []), self._shape, self._colored, self._color,
                  *([self._font] if fonts else [])]
        for field in fields:
            field.observe(lambda _: self._tell(), names="value")
        self._color.observe(lambda _: setattr(self._colored, "value", True), names="value")  # a colour chosen is wanted
        remove.on_click(lambda _: removed())
        super().__init__([*fields, remove], layout=w.Layout(flex_flow="row wrap"))

    def value(self) -> dict:
        """The entries of the place that the fields hold; RequestError if the corners are none."""
        found = {"text": self._words.value, "color": self._color.value if self._colored.value else None,
                 "erase": self._erase.value}
        found |= {"corners": read_corners(self._shape.value)} if self._outline else {"angle": self._shape.value}
        return found | {"font": None if self._font.value == ANY else self._font.value}

    def _tell(self) -> None:
        try:
            self._changed(**self.value())
        except RequestError as error:
            self._refused(str(error))


class LettersPanel(w.VBox):
    """Letters to imitate: pictures, and on the newest a box that is dragged, corners that are typed, or a mask.

    Args:
        changed: is called with all letters by name when there are new ones. ``refused``: is called with the reason
            where a file is no picture or mask.

    Attributes:
        letters: by the name under which a row offers them.
    """

    def __init__(self, changed: Callable, refused: Callable):
        self.letters: dict[str, Letters] = {}
        self._changed, self._refused = changed, refused
        picture = w.FileUpload(accept="image/*", description="letters of a file", layout=w.Layout(width="160px"))
        mask = w.FileUpload(accept="image/*", description="their mask", layout=w.Layout(width="130px"))
        picture.observe(lambda change: self.upload(change["new"]), names="value")
        mask.observe(lambda change: self.upload_mask(change["new"]), names="value")
        self._stage = Stage(LETTERS_SIDE, self._boxed)
        self._corners = w.Text(description="their corners", placeholder="all of the picture", continuous_update=False,
                               **FORM)
        self._corners.observe(lambda change: self._typed(change["new"]), names="value")
        self._shown = w.VBox()
        super().__init__([w.HBox([picture, mask]), self._shown])

    def upload(self, files) -> None:
        """New letters, all of the picture for now."""
        for file in files:
            try:
                picture = read_picture(bytes(file["content"]))
            except PictureError as error:
                self._refused(f"{file['name']} cannot be read as a picture: {error}")
                continue
            self.letters[f"letters {len(self.letters) + 1}"] = Letters(picture)
            self._stage.fit(picture.shape[1], picture.shape[0])
            self._shown.children = [self._stage, self._corners]
            self._corners.value = ""
            self._show()

    def upload_mask(self, files) -> None:
        """The region of the newest letters from a painted mask."""
        from PIL import Image

        for file in files:
            try:
                if not self.letters:
                    raise RequestError("choose the picture with the letters first, and its mask then")
                mask = Image.open(io.BytesIO(bytes(file["content"])))
                polygon = region_polygon(mask, self._newest.picture.shape[:2], "the letters")
                self._corners.value = write_corners([(x, y) for x, y in polygon])
            except (OSError, ValueError) as error:
                self._refused(f"{file['name']}: {error}")

    @property
    def _newest(self) -> Letters:
        return [*self.letters.values()][-1]

    def _boxed(self, start, end) -> None:
        height, width = self._newest.picture.shape[:2]
        drawn = Sketch(width, height).dragged(start, end)
        self._corners.value = write_corners(drawn.places[0].region) if drawn.places else ""

    def _typed(self, text: str) -> None:
        if not self.letters:
            return
        try:
            region = read_corners(text) if text.strip() else None
        except RequestError as error:
            return self._refused(str(error))
        self.letters[[*self.letters][-1]] = replace(self._newest, region=region)
        self._show()

    def _show(self) -> None:
        import cv2

        letters, zoom = self._newest, self._stage.zoom
        height, width = letters.picture.shape[:2]
        picture = cv2.resize(letters.picture, (round(width * zoom), round(height * zoom)))
        if letters.region is not None:
            cv2.polylines(picture, [np.rint(np.array(letters.region) * zoom).astype(np.int32)], True, FRAME, 2)
        where = "all of the picture" if letters.region is None else f"within {write_corners(letters.region)}"
        self._stage.show(picture, f"Letters to imitate, a picture of {width} x {height} pixels: {where}")
        self._changed(dict(self.letters))


class Fields(w.VBox):
    """Prompts, size, font, seeds, strengths and settings.

    Args:
        studio: tells what fits the model. ``sketch``, ``plan``: to start with.
        resized: is called with (height, width) when the size for new pictures changes.
        uploaded: is called with the files of the upload button.
    """

    def __init__(self, studio: Studio, sketch: Sketch, plan: Plan, resized: Callable, uploaded: Callable):
        self._settings = plan.settings
        self._sketched = self._make_sketched(studio, sketch)
        self._sides = self._make_sides(studio, sketch, resized)
        self._lists = {"seeds": w.Text(", ".join(map(str, plan.seeds)), description="seeds", **FORM),
                       "strengths": w.Text(", ".join(f"{s:g}" for s in plan.strengths), description="strengths",
                                           **FORM)}
        self._best = w.BoundedIntText(plan.best or 0, min=0, max=MOST, description="keep the best", tooltip="how many "
                                      "of all pictures are kept, those that are read best; 0 keeps all", **FORM)
        self._scheduler = w.Dropdown(options=[OWN, *SCHEDULERS], value=plan.scheduler or OWN,
                                     description="scheduler", **FORM)
        self._numbers = _setting_fields(plan)
        self._adapted = _adaptation_fields(plan.adaptation or studio.pipeline.adapter.adaptation)
        self._folder = w.Text("pictures", description="save in", placeholder="a folder", **FORM)
        upload = w.FileUpload(accept="image/*", description="edit a file")
        upload.observe(lambda change: uploaded(change["new"]), names="value")
        hidden = [] if studio.has_styles else ["font_hint"]
        super().__init__([*(field for name, field in self._sketched.items() if name not in hidden),
                          *self._sides.values(), *self._lists.values(), self._best, self._scheduler,
                          *self._numbers.values(), *self._adapted.values(), self._folder, upload])

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of new pictures."""
        return self._sides["height"].value, self._sides["width"].value

    @property
    def folder(self) -> str:
        """Where results are saved."""
        return self._folder.value.strip() or "."

    def fill(self, sketch: Sketch) -> Sketch:
        """The sketch with the prompts, the font and the forms of the fields."""
        values = {name: field.value for name, field in self._sketched.items()}
        values["glyph_font"] = None if values["glyph_font"] == ANY else values["glyph_font"]
        return replace(sketch, **values)

    def plan(self) -> Plan:
        """The plan of the fields; RequestError names a field that is wrong."""
        settings = replace(self._settings, **{name: field.value for name, field in self._numbers.items()})
        lists = {name: numbers(self._lists[name].value, kind, name)
                 for name, kind in (("seeds", int), ("strengths", float))}
        scheduler = self._scheduler.value
        base, vae, loras = (self._adapted[name].value for name in ("base", "base_vae", "loras"))
        adaptation = Adaptation.of(base.strip() or None, vae and bool(base.strip()),
                                   [line for line in loras.splitlines() if line.strip()])
        return Plan(settings, scheduler=None if scheduler == OWN else scheduler, adaptation=adaptation,
                    best=self._best.value or None, **lists)

    @staticmethod
    def _make_sketched(studio: Studio, sketch: Sketch) -> dict[str, w.Widget]:
        """One for each entry of the sketch that is typed or chosen, by its name there."""
        own = studio.pipeline.defaults
        added = own.added_prompt if sketch.added_prompt is None else sketch.added_prompt
        negative = own.negative_prompt if sketch.negative_prompt is None else sketch.negative_prompt
        return {
            "prompt": w.Text(sketch.prompt, description="prompt", placeholder="what the picture shows", **FORM),
            "added_prompt": w.Text(added, description="added to it", placeholder="as: sharp, clear text", **FORM),
            "negative_prompt": w.Text(negative, description="negative prompt", placeholder="what it should not be",
                                      **FORM),
            "glyph_font": w.Dropdown(options=[ANY, *load_fonts()], value=sketch.glyph_font or ANY,
                                     description="glyph font", **FORM),
            "font_hint": w.Dropdown(options=FONT_HINTS, value=sketch.font_hint or own.font_hint,
                                    description="fonts shown", **FORM),
            "revise_positions": w.Checkbox(sketch.revise_positions, description="shrink positions to the letters",
                                           indent=False)}

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
        "eta": w.BoundedFloatText(settings.eta, min=0, max=1, step=0.1, description="eta", **FORM),
        "blend": w.Checkbox(settings.blend, description="editing: blend the surroundings in", indent=False),
        "composite": w.Checkbox(settings.composite, description="editing: put untouched pixels back", indent=False),
    }


def _adaptation_fields(now: Adaptation) -> dict[str, w.Widget]:
    """Files that change the weights: base model and LoRA."""
    return {
        "loras": w.Textarea("\n".join(f"{file}:{ratio}" for file, ratio in now.loras), description="LoRA files",
                            placeholder="FILE:RATIO, one a line", rows=2, **FORM),
        "base": w.Text(now.base or "", description="base model", placeholder="a file or folder; empty: the model's",
                       **FORM),
        "base_vae": w.Checkbox(now.base_vae, description="its auto-encoder as well", indent=False),
    }


def _small(field: w.Widget, width: int, label: int) -> w.Widget:
    field.layout, field.style.description_width = w.Layout(width=f"{width}px"), f"{label}px"
    return field


def image_html(image: np.ndarray, alt: str, width: int = RESULT_WIDTH) -> str:
    """An image (H, W, 3) uint8 as HTML, with words for those who do not see it."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (f'<img alt="{html.escape(alt, quote=True)}" width="{width}" style="max-width:100%;height:auto" '
            f'src="data:image/png;base64,{data}">')
