"""The drawing of the application: boxes and outlines with words, on paper or on a picture under edit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from anytext_lib.data.fonts import choose_font
from anytext_lib.data.glyphs import draw_glyphs
from anytext_lib.data.texts import guess_language
from anytext_lib.generation.place import parse_color
from anytext_lib.generation.regions import painted_regions, reading_order, turned_box
from anytext_lib.generation.request import Line, Request, RequestError, quoted_words

SMALLEST_DRAG = 6.0  # pixels of the picture: a shorter movement of the mouse is a click
PAPER, INK, FRAME = (246, 246, 242), (40, 40, 40), (0, 114, 178)  # RGB
HERE = "the letters that stand here"

Point = tuple[float, float]


@dataclass(frozen=True)
class Letters:
    """Letters to imitate: a picture (H, W, 3) uint8 and their region in its pixels, None for all of it."""

    picture: np.ndarray = field(repr=False, compare=False)
    region: tuple[Point, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class DrawnLine(ABC):
    """What a line has besides its region.

    Attributes:
        text: the words. ``color``: None leaves it to the model.
        font: a name, ``HERE`` (of a picture under edit), a name among ``Sketch.letters``, or None: left to the model.
        erase: nothing is written; what stands there goes.
    """

    text: str = ""
    color: str | None = None
    font: str | None = None
    erase: bool = False

    @property
    @abstractmethod
    def region(self) -> list[list[float]]:
        """Corners (x, y) in pixels of the picture."""

    def line(self, letters: Mapping[str, Letters]) -> Line:
        """The place as a line of a request; ``letters``: see ``Sketch``."""
        if self.erase:
            return Line("", self.region)
        style: dict[str, Any] = {"font": self.font}
        if self.font == HERE:
            style = {"style_region": self.region}
        elif self.font in letters:
            style = {"style_image": letters[self.font].picture, "style_region": letters[self.font].region}
        return Line(self.text, self.region, color=self.color, **style)


@dataclass(frozen=True)
class Box(DrawnLine):
    """A rectangle, in pixels of the picture before it is turned by ``angle`` degrees clockwise around its middle."""

    left: float
    top: float
    right: float
    bottom: float
    angle: float = 0.0

    @property
    def region(self) -> list[list[float]]:
        """Corners (x, y): top left, top right, bottom right, bottom left of the box before it is turned."""
        return turned_box(self.left, self.top, self.right - self.left, self.bottom - self.top, self.angle)

    def described(self) -> str:
        """The place in words."""
        turned = f", turned by {self.angle:g} degrees" if self.angle else ""
        return (f"at x {self.left:.0f}, y {self.top:.0f}, {self.right - self.left:.0f} wide, "
                f"{self.bottom - self.top:.0f} high{turned}")


@dataclass(frozen=True)
class Outline(DrawnLine):
    """A polygon of ``corners`` (x, y) in pixels of the picture."""

    corners: tuple[Point, ...]

    @property
    def region(self) -> list[list[float]]:
        """The corners."""
        return [list(corner) for corner in self.corners]

    def described(self) -> str:
        """The place in words."""
        return f"a polygon with the corners {write_corners(self.corners)}"


def read_corners(text: str) -> tuple[Point, ...]:
    """Corners of a field, as "10,20 60,20 60,40"; RequestError if it holds none."""
    try:
        corners = tuple((float(x), float(y)) for x, y in (part.split(",") for part in text.split()))
    except ValueError:
        corners = ()
    if len(corners) < 3:
        raise RequestError(f"{text!r} are no corners of a polygon: write at least three as 10,20 60,20 60,40")
    return corners


def write_corners(corners: Sequence[Point]) -> str:
    """Corners as ``read_corners`` takes them, in whole pixels."""
    return " ".join(f"{x:.0f},{y:.0f}" for x, y in corners)


@dataclass(frozen=True)
class Sketch:
    """A drawing of places and words.  Every change gives a new sketch.

    Attributes:
        width, height: of the picture in pixels. ``places``: boxes and outlines in the order of the lines.
        prompt: what the picture shows; its quoted words go to places without words. ``glyph_font``: in which the model
            is shown the words; None lets it choose.
        picture: (H, W, 3) uint8 to edit; None asks for a new one.
        letters: to imitate, by the name that stands in ``DrawnLine.font``.
        added_prompt, negative_prompt, font_hint, revise_positions: see ``Request``.
    """

    width: int
    height: int
    places: tuple[Box | Outline, ...] = ()
    prompt: str = ""
    glyph_font: str | None = None
    picture: np.ndarray | None = field(default=None, repr=False, compare=False)
    letters: Mapping[str, Letters] = field(default_factory=dict)
    added_prompt: str | None = None
    negative_prompt: str | None = None
    font_hint: Literal["filled", "hollow", "outline"] | None = None
    revise_positions: bool = False

    def dragged(self, start: Point, end: Point) -> Sketch:
        """With a box between two points (x, y), cut to the picture; the same if the mouse hardly moved."""
        (left, top), (right, bottom) = np.sort([self._inside(start), self._inside(end)], axis=0).tolist()
        if right - left < SMALLEST_DRAG or bottom - top < SMALLEST_DRAG:
            return self
        return replace(self, places=(*self.places, Box(left, top, right, bottom)))

    def outlined(self, corners: Sequence[Point]) -> Sketch:
        """With a polygon of at least three corners (x, y), cut to the picture; the same if there are fewer."""
        if len(corners) < 3:
            return self
        return replace(self, places=(*self.places, Outline(tuple(map(self._inside, corners)))))

    def painted(self, mask: Any, order: str) -> Sketch:
        """With a polygon for each area of a painted mask, in reading order; RequestError if it does not fit."""
        regions = painted_regions(mask, (self.height, self.width), order)
        if not regions:
            raise RequestError("the mask is empty: paint the regions white on black")
        new = [Outline(tuple((float(x), float(y)) for x, y in region)) for region in regions]
        return replace(self, places=(*self.places, *new))

    def changed(self, index: int, **values: Any) -> Sketch:
        """With other values in one place."""
        places = list(self.places)
        places[index] = replace(places[index], **values)
        return replace(self, places=tuple(places))

    def without(self, index: int) -> Sketch:
        """With one place less."""
        return replace(self, places=self.places[:index] + self.places[index + 1:])

    def ordered(self, order: str) -> Sketch:
        """With the places in reading order: by "rows" or by "columns"."""
        if not self.places:
            return self
        corners = [np.array(place.region) for place in self.places]
        boxes = np.array([[*c.min(axis=0), *np.ptp(c, axis=0)] for c in corners])
        return replace(self, places=tuple(self.places[i] for i in reading_order(boxes, order)))

    def cleared(self) -> Sketch:
        """Without places; the picture stays."""
        return replace(self, places=())

    def on(self, picture: np.ndarray | None, size: tuple[int, int] | None = None) -> Sketch:
        """An empty sketch on a picture (H, W, 3) uint8 that is edited, or, with None, for a new one of ``size``
        (H, W)."""
        height, width = (size or (self.height, self.width)) if picture is None else picture.shape[:2]
        return replace(self, width=width, height=height, places=(), picture=picture)

    def filled(self) -> Sketch:
        """With the quoted words of the prompt in the places that have no words, one after the other."""
        words = list(filter(None, quoted_words(self.prompt)))
        for place in self.places:
            if place.text in words and not place.erase:
                words.remove(place.text)
        open_places = [i for i, place in enumerate(self.places) if not place.text.strip() and not place.erase]
        sketch = self
        for i, word in zip(open_places, words, strict=False):
            sketch = sketch.changed(i, text=word)
        return sketch

    def request(self) -> Request:
        """The sketch as a request, which the pipeline checks."""
        size = {} if self.picture is not None else {"width": self.width, "height": self.height}
        return Request(self.prompt, [place.line(self.letters) for place in self.filled().places], image=self.picture,
                       negative_prompt=self.negative_prompt, added_prompt=self.added_prompt,
                       glyph_font=self.glyph_font, font_hint=self.font_hint, revise_positions=self.revise_positions,
                       **size)

    def described(self) -> str:
        """The drawing in words, for those who do not see it."""
        places = [f"line {i} {'erases' if place.erase else f'“{place.text}”'} {place.described()}"
                  for i, place in enumerate(self.places, 1)]
        paper = "empty paper" if self.picture is None else "the picture to edit"
        return f"Drawing area, {paper} of {self.width} x {self.height} pixels: " + ("; ".join(places) or "no boxes yet")

    def drawing(self, zoom: float = 1.0) -> np.ndarray:
        """The sketch as a picture (H zoom, W zoom, 3) uint8: regions, and the words as they are typed."""
        import cv2

        shape = round(self.height * zoom), round(self.width * zoom)
        canvas = np.full((*shape, 3), PAPER, np.uint8)
        if self.picture is not None:
            canvas = cv2.resize(self.picture, shape[::-1], interpolation=cv2.INTER_LINEAR)
        for place in self.filled().places:
            _draw_place(canvas, place, None if place.font in (HERE, *self.letters) else place.font, zoom)
        return canvas

    def _inside(self, point: Point) -> Point:
        x, y = (min(max(float(value), 0.0), side - 1.0)
                for value, side in zip(point, (self.width, self.height), strict=True))
        return x, y


def _draw_place(canvas: np.ndarray, place: Box | Outline, font: str | None, zoom: float) -> None:
    """Frame and word of a place, in place, in ``font`` or in one that has the letters; a cross where something is
    erased."""
    import cv2

    polygon = np.array(place.region) * zoom
    if place.text.strip() and not place.erase:
        try:
            font = font or choose_font(place.text, guess_language(place.text))
            ink = np.zeros_like(canvas)
            draw_glyphs(ink, place.text, font, polygon)
            color = INK if place.color is None else parse_color(place.color, "the colour")
            canvas[ink[..., 0] > 127] = color
        except (ValueError, KeyError):
            pass  # no glyph for it: the pipeline says so when it is asked
    corners = np.rint(polygon).astype(np.int32)
    cv2.polylines(canvas, [corners], True, FRAME, 2)
    if place.erase:
        for start, end in ((0, 2), (1, len(corners) - 1)):
            cv2.line(canvas, tuple(map(int, corners[start])), tuple(map(int, corners[end])), FRAME, 1)
