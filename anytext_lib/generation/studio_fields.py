"""The fields of the drawing application: what holds for the whole picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import ipywidgets as w

from anytext_lib.data.fonts import load_fonts
from anytext_lib.generation.prepare import LARGEST, picture_grid
from anytext_lib.generation.request import SCHEDULERS
from anytext_lib.generation.studio import Plan, Studio, numbers
from anytext_lib.generation.studio_sketch import Sketch

ANY, OWN = "(any)", "the model's"  # a choice without a value shows up empty in a list: these stand for None
FORM = {"layout": w.Layout(width="330px"), "style": {"description_width": "110px"}}


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
