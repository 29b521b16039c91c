"""Place the lines of a request: their regions, fonts, styles and colours.

    layout      places for lines that were given none, as large as there is room for; inside and apart
    legibility  how small letters may be

Regions that were given are read in ``regions``.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from anytext_lib.data.anyword import NO_COLOUR
from anytext_lib.data.fonts import MissingGlyphError, UnknownFontError, characters_of, choose_font, typeface
from anytext_lib.data.glyphs import fit_size, glyph_box, stacked, text_box
from anytext_lib.data.texts import JOINERS, guess_language, joins, pieces
from anytext_lib.generation.input_images import is_mask
from anytext_lib.generation.regions import painted_regions, region_polygon
from anytext_lib.generation.request import Line, Request, RequestError, RequestWarning, lines_asked
from anytext_lib.generation.styles import StylePicture, read_style

MAX_CHARS = 20  # of a line, as in training
OVERLAP = 0.01  # of the smaller region: more is an error
BORDER = 1.0  # pixels by which a corner may lie outside
MARGIN = 0.05  # of the picture, along its edges
HIGHEST = 0.3  # of the square root of the picture's area: a line is not higher
GAP = 0.35  # of a line's height, between lines and between rows
_REFERENCE = 48  # pixels per em at which texts are measured
_PAD = 1.06  # room around the letters, so that they fill their box
SMALLEST_LETTERS = 7
"""Pixels per em (about the height of a region that a line fills; a capital letter is 0.7 of it) below which PP-OCRv3
reads fewer than half of eight words in four fonts, white on black: the shares read are 0.06, 0.13, 0.38, 0.72 and 1.00
at 4, 5, 6, 7 and 8 pixels.  That is for clean letters: an auto-encoder that shrinks a picture eight times loses larger
ones, too."""


@dataclass(frozen=True)
class PlacedLine:
    """A line that can be drawn.

    Attributes:
        line: as it was asked for, its text in the one form.
        text: what it says; empty: its region is erased. ``language``: as in AnyWord, guessed from the characters.
        polygon: (P, 2) float64 in pixels of the request's picture.
        glyph_font: font in which the model is shown the text. ``font``, ``style``: the font, or the letters in a
            picture, that are imitated; None if there is none.
        color: RGB in 0..255, or NO_COLOUR.
    """

    line: Line
    text: str
    language: str
    polygon: np.ndarray
    glyph_font: str
    font: str | None
    style: StylePicture | None
    color: tuple[int, int, int]


def place_lines(request: Request, size: tuple[int, int], shrink: float = 1.0, edited: np.ndarray | None = None,
                tolerant: bool = False) -> list[PlacedLine]:
    """The lines of a picture, those quoted in its prompt first.

    Args:
        size: (H, W) of the picture, in whose pixels the regions are. ``shrink``: by which it is resized for the model.
        edited: the picture to edit, (H, W, 3) uint8; None when generating.
        tolerant: take regions that overlap, leave the picture or are too small to be read, as upstream does: for
            annotations of real pictures, where nobody can move them.

    Raises:
        RequestError: names every line with a problem, and the remedy.
    """
    lines = _spread(lines_asked(request), size)
    names = [f"line {i + 1} ({line.text!r})" for i, line in enumerate(lines)]
    _raise([problem for line, name in zip(lines, names, strict=True)
            if (problem := _text_problem(line, name) or _blank_problem(line, request, edited is not None, name))])
    fonts = _each(lines, names, lambda line, name: _glyph_font(line, request.glyph_font, name))
    styles = _each(lines, names, lambda line, name: read_style(line, edited, name) if line.imitates else None)
    colors = _each(lines, names, lambda line, name: parse_color(line.color, name))
    polygons = _polygons(request, lines, names, fonts, size)
    if not tolerant:
        small = [size_problem(line.text, font, polygon, name, shrink)
                 for line, font, polygon, name in zip(lines, fonts, polygons, names, strict=True) if line.text]
        _raise([*region_problems(polygons, names, size), *filter(None, small)])
    return [PlacedLine(line, line.text, guess_language(line.text), polygon, glyph_font, line.font, style, color)
            for line, polygon, glyph_font, style, color in zip(lines, polygons, fonts, styles, colors, strict=True)]


def parse_color(color: Any, who: str) -> tuple[int, int, int]:
    """RGB in 0..255 of a colour: three numbers, "#rrggbb", "r,g,b" or a name; None gives NO_COLOUR."""
    from PIL import ImageColor

    if color is None:
        return NO_COLOUR
    try:
        if isinstance(color, str):
            found = tuple(map(int, color.split(","))) if "," in color and "(" not in color else \
                ImageColor.getrgb(color)[:3]
        else:
            found = tuple(int(value) for value in color)
    except (ValueError, TypeError):
        found = ()
    if len(found) != 3 or found != NO_COLOUR and not all(0 <= value <= 255 for value in found):
        raise RequestError(f"{who}: {color!r} is no colour: write #rrggbb, a name as darkred, or three numbers 0..255")
    return found


def check_font(font: str, who: str) -> frozenset[str]:
    """The characters of a font given by name or file; RequestError if it is none."""
    try:
        typeface(font, 16)
        return characters_of(font)
    except UnknownFontError as error:
        raise RequestError(f"{who}: {error}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise RequestError(f"{who}: {font} is no font file that can be read ({error}): give a .ttf, .otf or .ttc "
                           "file, or the name of a font of the course") from error


def _polygons(request: Request, lines: list[Line], names: list[str], fonts: list[str],
              size: tuple[int, int]) -> list[np.ndarray]:
    """Regions of all lines: their own, else those painted in the mask, else laid out automatically."""
    found = [None if line.region is None else region_polygon(line.region, size, name)
             for line, name in zip(lines, names, strict=True)]
    open_rows = [i for i, polygon in enumerate(found) if polygon is None]
    if request.mask is not None:
        regions = painted_regions(request.mask, size, request.order)
        if len(regions) < len(open_rows):
            without = ", ".join(names[i] for i in open_rows[len(regions):])
            raise RequestError(f"there are {len(open_rows)} lines for the {len(regions)} regions of the mask; none is "
                               f"left for {without}: paint more regions that do not touch, or leave lines out")
        if len(regions) > len(open_rows):
            warnings.warn(f"the mask has {len(regions)} regions for {len(open_rows)} lines: the last "
                          f"{len(regions) - len(open_rows)} in reading order stay empty", RequestWarning, stacklevel=2)
        new = regions[: len(open_rows)]
    else:
        new = lay_out([lines[i].text for i in open_rows], [fonts[i] for i in open_rows], size,
                      [polygon for polygon in found if polygon is not None])
    for i, polygon in zip(open_rows, new, strict=True):
        found[i] = polygon
    return found


def _text_problem(line: Line, who: str) -> str | None:
    if not isinstance(line.text, str):
        return f"{who}: the text is {type(line.text).__name__}, not a string: write it in quotes"
    if len(line.text) > MAX_CHARS:
        lines = " and ".join(map(repr, textwrap.wrap(line.text, MAX_CHARS)))
        return (f"{who}: the text has {len(line.text)} characters, the model reads at most {MAX_CHARS}: split it into "
                f"lines, for instance {lines}")
    if any(ord(character) < 32 for character in line.text):
        return f"{who}: the text has a line break or another control character: make it two lines"
    if line.font is not None and (line.style_image is not None or line.style_region is not None):
        return f"{who}: it has both a font and a style image or region: give one of them"
    return None


def _blank_problem(line: Line, request: Request, editing: bool, who: str) -> str | None:
    if not line.text and not editing:
        return f"{who}: the text is blank: give it at least one visible character, or leave the line out (a blank " \
               "line erases, which takes a picture to edit)"
    if not line.text and line.region is None and request.mask is None:
        return f"{who}: a blank line erases what stands in its region: give it a region, or a mask"
    return None


def _spread(lines: Sequence[Line], size: tuple[int, int]) -> list[Line]:
    """The lines, each blank one with a mask as one for each area of this mask."""
    found: list[Line] = []
    for i, line in enumerate(lines, 1):
        areas = []
        if line.text == "" and line.region is not None and is_mask(line.region):
            areas = painted_regions(line.region, size, what=f"the mask of line {i}, which is erased,")
        found += [replace(line, region=area.tolist()) for area in areas] or [line]
    return found


def _glyph_font(line: Line, wanted: str | None, who: str) -> str:
    for font in filter(None, (line.font, wanted)):
        known = check_font(font, who) | JOINERS
        missing = "".join(dict.fromkeys(c for c in line.text if c not in known))
        if missing:
            raise RequestError(f"{who}: the font {font} has no glyph for {missing!r}: choose another font, or leave "
                               "these characters out")
    if wanted is not None:
        return wanted
    try:
        return choose_font(line.text, guess_language(line.text))
    except MissingGlyphError as error:
        if line.font is not None:  # the course has no such characters, but the user's font does
            return line.font
        raise RequestError(f"{who}: {error}") from error


def _each(lines: Sequence[Line], names: Sequence[str], function) -> list:
    """``function`` of every line; the problems of all lines are raised together."""
    found, problems = [], []
    for line, name in zip(lines, names, strict=True):
        try:
            found.append(function(line, name))
        except RequestError as error:
            problems.append(str(error))
    _raise(problems)
    return found


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise RequestError("\n".join(problems))


# layout


def region_problems(polygons: Sequence[np.ndarray], names: Sequence[str], size: tuple[int, int]) -> list[str]:
    """List the faults of regions (P, 2) on a picture of ``size`` (H, W): outside it, or overlapping."""
    from shapely import Polygon, make_valid

    height, width = size
    problems = []
    for polygon, name in zip(polygons, names, strict=True):
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        if (low < -BORDER).any() or high[0] > width - 1 + BORDER or high[1] > height - 1 + BORDER:
            problems.append(f"{name}: its region (x {low[0]:.0f} to {high[0]:.0f}, y {low[1]:.0f} to {high[1]:.0f}) "
                            f"leaves the picture of {width} x {height} pixels: move it inside, or make the picture "
                            "larger")
    shapes = [make_valid(Polygon(polygon)) for polygon in polygons]
    for j in range(len(shapes)):
        for i in range(j):
            shared = shapes[i].intersection(shapes[j]).area
            if shared > OVERLAP * min(shapes[i].area, shapes[j].area):
                problems.append(f"{names[i]} and {names[j]}: their regions overlap by {shared:.0f} square pixels: move "
                                "them apart, or make one of them smaller")
    return problems


def lay_out(texts: Sequence[str], fonts: Sequence[str], size: tuple[int, int],
            occupied: Sequence[np.ndarray] = ()) -> list[np.ndarray]:
    """Boxes for ``texts``: (4, 2) float64 each, tl, tr, br, bl.

    The largest free rectangle is filled row by row, from left to right, with the number of rows at which the letters
    come out largest.

    Args:
        fonts: in which each text is drawn. ``size``: (H, W). ``occupied``: polygons (P, 2) that stay free.

    Raises:
        RequestError: there is no room at all.
    """
    if not texts:
        return []
    left, top, right, bottom = free_rectangle(size, occupied)
    aspects = np.array([_aspect(text, font) for text, font in zip(texts, fonts, strict=True)])
    room = right - left, bottom - top
    if min(room) < 2:
        raise RequestError(f"there is no free place for {list(texts)}: give regions, or make the others smaller")
    height, rows = max((_row_height(aspects, split, room), -len(split), split)
                       for split in map(lambda n: _split(aspects, n), range(1, len(texts) + 1)))[::2]
    height = min(height, HIGHEST * float(np.sqrt(size[0] * size[1])))
    boxes, y = [], top + (room[1] - height * (len(rows) + GAP * (len(rows) - 1))) / 2
    for row in rows:
        x = left + (room[0] - _row_width(aspects[row], height)) / 2
        for i in row:
            boxes.append(_box(x, y, height * aspects[i], height))
            x += height * (aspects[i] + GAP)
        y += height * (1 + GAP)
    return boxes


def free_rectangle(size: tuple[int, int], occupied: Sequence[np.ndarray] = ()) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest rectangle that meets no occupied polygon's bounding box."""
    height, width = size
    border = MARGIN * min(height, width)
    whole = border, border, width - 1 - border, height - 1 - border
    boxes = [(p[:, 0].min() - border, p[:, 1].min() - border, p[:, 0].max() + border, p[:, 1].max() + border)
             for p in occupied]
    best, area = (0.0, 0.0, 0.0, 0.0), 0.0
    for left in sorted({whole[0], *(box[2] for box in boxes)}):
        for right in sorted({whole[2], *(box[0] for box in boxes)}):
            between = [box for box in boxes if box[0] < right and box[2] > left]
            edges = sorted([(whole[1], whole[1]), *((box[1], box[3]) for box in between), (whole[3], whole[3])])
            for top, bottom in _gaps(edges):
                inside = max(left, whole[0]), max(top, whole[1]), min(right, whole[2]), min(bottom, whole[3])
                here = max(0.0, inside[2] - inside[0]) * max(0.0, inside[3] - inside[1])
                if here > area:
                    best, area = inside, here
    return best


def _gaps(edges: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """What intervals, sorted by their start, leave free between the first and the last."""
    gaps, reached = [], edges[0][1]
    for low, high in edges[1:]:
        if low > reached:
            gaps.append((reached, low))
        reached = max(reached, high)
    return gaps


def _aspect(text: str, font: str) -> float:
    left, _, right, _ = text_box(text, font, _REFERENCE)
    _, top, _, bottom = text_box("Hg" + text, font, _REFERENCE)
    return _PAD * max(1, right - left) / max(1, bottom - top)


def _split(aspects: np.ndarray, rows: int) -> list[list[int]]:
    """Lines in reading order on ``rows`` rows, each filled to about its share of the whole length."""
    ends = np.cumsum(aspects) - aspects / 2
    place = np.minimum((ends / aspects.sum() * rows).astype(int), rows - 1)
    return [found for row in range(rows) if (found := np.flatnonzero(place == row).tolist())]


def _row_height(aspects: np.ndarray, rows: list[list[int]], room: tuple[float, float]) -> float:
    across = min(room[0] / _row_width(aspects[row], 1.0) for row in rows)
    return min(across, room[1] / (len(rows) + GAP * (len(rows) - 1)))


def _row_width(aspects: np.ndarray, height: float) -> float:
    return height * float(aspects.sum() + GAP * (len(aspects) - 1))


def _box(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float64)


# legibility


def letter_size(text: str, font: str, polygon: np.ndarray) -> int:
    """Pixels per em of the largest letters with which ``text`` fits into a polygon (P, 2)."""
    return fit_size(text, font, glyph_box(polygon))


def size_problem(text: str, font: str, polygon: np.ndarray, who: str, shrink: float = 1.0) -> str | None:
    """Return the message about a region whose letters come out too small to be read, with the size that it needs.

    Args:
        polygon: (P, 2) in pixels of a picture that is made ``shrink`` times as large before the model sees it.
    """
    size = letter_size(text, font, np.asarray(polygon) * shrink)
    if size >= SMALLEST_LETTERS:
        return None
    box = glyph_box(polygon)
    width, height = (box.height, box.width) if box.vertical else (box.width, box.height)
    needed = _needed(text, font, stacked(text, box))
    wanted = [np.ceil(side / shrink) for side in (needed[::-1] if box.vertical and joins(text) else needed)]
    return (f"{who}: its region of {width:.0f} x {height:.0f} pixels has room for letters of {size} pixels per em "
            f"only{'' if shrink == 1 else ' at the size at which the model works'}; below {SMALLEST_LETTERS} the "
            f"recogniser reads fewer than half of the words. Make the region at least {wanted[0]:.0f} x "
            f"{wanted[1]:.0f} pixels, or the text shorter")


def _needed(text: str, font: str, vertical: bool) -> tuple[float, float]:
    """Width and height of a box in which ``text`` has the smallest letters."""
    boxes = [text_box(part, font, SMALLEST_LETTERS) for part in (pieces(text) if vertical else [text])]
    widths, heights = [b[2] - b[0] for b in boxes], [b[3] - b[1] for b in boxes]
    if vertical:
        return max(SMALLEST_LETTERS + 2, *widths, *heights), sum(heights) + 1
    return widths[0] + 1, max(SMALLEST_LETTERS + 2, heights[0] + 1)
