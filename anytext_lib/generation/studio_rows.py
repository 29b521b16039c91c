"""The boxes of the drawing application as fields: one row for each, and a form that adds one without a mouse."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as w

from anytext_lib.data.fonts import load_fonts
from anytext_lib.generation.studio_fields import ANY
from anytext_lib.generation.studio_sketch import SMALLEST_DRAG, Box, Sketch

INK = "#cc2222"  # the colour that a line gets first when it is to have one


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
