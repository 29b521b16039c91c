"""Checks of one line of text beyond the schema: does it lie in its picture, and can its text be drawn?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from anytext_lib.data.fonts import MissingGlyphError, characters_of, fonts_for, load_fonts
from anytext_lib.data.texts import normal_text

OVERHANG = 0.02  # how far, in parts of the longer side, a polygon may reach out of its picture: annotators' slips
LEAST_SIDE = 2.0  # pixels: a thinner polygon has no position mask (``lines.line_quad``)


def polygon_faults(polygon: list, size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    """(kind, what) for a polygon of at least three [x, y] points; ``size`` (width, height), None if not known."""
    import cv2
    from shapely.geometry import Polygon

    points = np.array(polygon, np.float64)
    if not np.isfinite(points).all():
        yield "polygon_degenerate", "the polygon has a coordinate that is not finite"
        return
    side = min(cv2.minAreaRect(points.astype(np.float32))[1])
    if side < LEAST_SIDE:
        yield "polygon_degenerate", f"the polygon is {side:.1f} pixels thin; it needs at least {LEAST_SIDE:.0f}"
    elif not Polygon(points).is_valid:
        yield "polygon_degenerate", "the sides of the polygon cross each other"
    if size is not None:
        yield from _outside(points, size)


def _outside(points: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[str, str]]:
    low, high = points.min(axis=0), points.max(axis=0)
    picture = f"the picture of {size[0]} x {size[1]} pixels"
    reach = f"x from {low[0]:g} to {high[0]:g}, y from {low[1]:g} to {high[1]:g}"
    if (high <= 0).any() or (low >= size).any():
        yield "polygon_outside", f"the polygon lies outside {picture}: {reach}"
    elif (excess := max(float((-low).max()), float((high - size).max()))) > OVERHANG * max(size):
        yield "polygon_outside", f"the polygon reaches {math.ceil(excess)} pixels out of {picture}: {reach}"


def text_faults(text: str, max_chars: int, fonts: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """(kind, what) for the text of a line that can be read, in its one form; ``fonts``: files besides the course's."""
    text = normal_text(text)
    if not text.strip():
        yield "empty_text", "the text is empty, but the line is valid"
        return
    if len(text) > max_chars:
        yield "text_too_long", f"the text {text!r} has {len(text)} characters, more than the {max_chars} that are drawn"
    try:
        fonts_for(text)
    except MissingGlyphError:
        if not any(characters_of(font).issuperset(text) for font in fonts):
            yield "no_glyph", f"no font can write {text!r}: {_gap(text, fonts)}"


def _gap(text: str, fonts: Sequence[str]) -> str:
    """What keeps every font from writing ``text``."""
    known = frozenset().union(*(characters_of(font) for font in (*load_fonts(), *fonts)))
    missing = [c for c in dict.fromkeys(text) if c not in known]
    if not missing:
        return "it has all characters in some font, but no single font has them all"
    return ", ".join(f"{c!r} (U+{ord(c):04X})" for c in missing) + (" is" if len(missing) == 1 else " are") + " in none"
