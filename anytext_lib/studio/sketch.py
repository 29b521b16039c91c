"""The drawing of the application: boxes with words and colours, on paper or on a picture under edit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from anytext_lib.data.fonts import choose_font
from anytext_lib.data.glyphs import draw_glyphs
from anytext_lib.data.texts import guess_language
from anytext_lib.generation.place import parse_color
from anytext_lib.generation.request import Line, Request

SMALLEST_DRAG = 6.0  # pixels of the picture: a shorter movement of the mouse is a click
PAPER, INK, FRAME = (246, 246, 242), (40, 40, 40), (0, 114, 178)  # RGB


@dataclass(frozen=True)
class Box:
    """A place for a line, upright, in pixels of the picture; ``color`` and ``font`` None leave the choice to the
    model."""

    left: float
    top: float
    right: float
    bottom: float
    text: str = ""
    color: str | None = None
    font: str | None = None

    @property
    def quad(self) -> list[list[float]]:
        """Corners (x, y): top left, top right, bottom right, bottom left."""
        return [[self.left, self.top], [self.right, self.top], [self.right, self.bottom], [self.left, self.bottom]]


@dataclass(frozen=True)
class Sketch:
    """A drawing of boxes and words.  Every change gives a new sketch.

    Attributes:
        width, height: of the picture in pixels. ``boxes``: in the order in which they were drawn.
        prompt: what the picture shows. ``glyph_font``: in which the model is shown the words; None lets it choose.
        picture: (H, W, 3) uint8 to edit; None asks for a new one.
    """

    width: int
    height: int
    boxes: tuple[Box, ...] = ()
    prompt: str = ""
    glyph_font: str | None = None
    picture: np.ndarray | None = field(default=None, repr=False, compare=False)

    def dragged(self, start: tuple[float, float], end: tuple[float, float]) -> Sketch:
        """With a box between two points (x, y), cut to the picture; the same if the mouse hardly moved."""
        (left, right), (top, bottom) = (
            sorted(min(max(float(p[axis]), 0.0), side - 1.0) for p in (start, end))
            for axis, side in ((0, self.width), (1, self.height)))
        if right - left < SMALLEST_DRAG or bottom - top < SMALLEST_DRAG:
            return self
        return replace(self, boxes=(*self.boxes, Box(left, top, right, bottom)))

    def changed(self, index: int, **values: Any) -> Sketch:
        """With other values in one box."""
        boxes = list(self.boxes)
        boxes[index] = replace(boxes[index], **values)
        return replace(self, boxes=tuple(boxes))

    def without(self, index: int) -> Sketch:
        """With one box less."""
        return replace(self, boxes=self.boxes[:index] + self.boxes[index + 1:])

    def cleared(self) -> Sketch:
        """Without boxes; the picture stays."""
        return replace(self, boxes=())

    def on(self, picture: np.ndarray | None, size: tuple[int, int] | None = None) -> Sketch:
        """An empty sketch on a picture (H, W, 3) uint8 that is edited, or, with None, for a new one of ``size``
        (H, W)."""
        height, width = (size or (self.height, self.width)) if picture is None else picture.shape[:2]
        return replace(self, width=width, height=height, boxes=(), picture=picture)

    def request(self) -> Request:
        """The sketch as a request, which the pipeline checks."""
        lines = [Line(box.text, box.quad, font=box.font, color=box.color) for box in self.boxes]
        size = {} if self.picture is not None else {"width": self.width, "height": self.height}
        return Request(self.prompt, lines, image=self.picture, glyph_font=self.glyph_font, **size)

    def described(self) -> str:
        """The drawing in words, for those who do not see it."""
        boxes = [f"line {i} “{box.text}” at x {box.left:.0f}, y {box.top:.0f}, {box.right - box.left:.0f} wide, "
                 f"{box.bottom - box.top:.0f} high" for i, box in enumerate(self.boxes, 1)]
        paper = "empty paper" if self.picture is None else "the picture to edit"
        return f"Drawing area, {paper} of {self.width} x {self.height} pixels: " + ("; ".join(boxes) or "no boxes yet")

    def drawing(self, zoom: float = 1.0) -> np.ndarray:
        """The sketch as a picture (H zoom, W zoom, 3) uint8: boxes, and the words as they are typed."""
        import cv2

        shape = round(self.height * zoom), round(self.width * zoom)
        canvas = np.full((*shape, 3), PAPER, np.uint8)
        if self.picture is not None:
            canvas = cv2.resize(self.picture, shape[::-1], interpolation=cv2.INTER_LINEAR)
        for box in self.boxes:
            _draw_box(canvas, box, zoom)
        return canvas


def _draw_box(canvas: np.ndarray, box: Box, zoom: float) -> None:
    """Frame and word of a box, in place."""
    import cv2

    polygon = np.array(box.quad) * zoom
    if box.text.strip():
        try:
            font = box.font or choose_font(box.text, guess_language(box.text))
            ink = np.zeros_like(canvas)
            draw_glyphs(ink, box.text, font, polygon)
            color = INK if box.color is None else parse_color(box.color, "the colour")
            canvas[ink[..., 0] > 127] = color
        except (ValueError, KeyError):
            pass  # no glyph for it: the pipeline says so when it is asked
    corners = np.rint(polygon).astype(int)
    cv2.rectangle(canvas, tuple(map(int, corners[0])), tuple(map(int, corners[2])), FRAME, 2)
