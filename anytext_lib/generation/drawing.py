"""Draw the model's input: glyphs, positions, font hints, and the picture whose regions are hidden."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anytext_lib.data.batch import Sample
from anytext_lib.data.glyphs import LINE_SIZE, draw_glyphs, render_glyph_line
from anytext_lib.data.hints import hollow_hint, outline_hint, position_mask
from anytext_lib.data.lines import BadLineError, line_quad
from anytext_lib.generation.captions import text_caption
from anytext_lib.generation.place import PlacedLine
from anytext_lib.generation.request import Request, RequestError


def draw_sample(lines: Sequence[PlacedLine], size: tuple[int, int], glyph_scale: int, caption: str, request: Request,
                image: np.ndarray | None) -> Sample:
    """The input of the model.

    Args:
        lines: with polygons in pixels of the sample. ``size``: (H, W) of it. ``caption``: of the image.
        request: for its ``font_hint`` and ``revise_positions``.
        image: the picture to edit, (H, W, 3) uint8; None when generating.

    Raises:
        RequestError: a region has no area at this size.
    """
    places = [line.polygon for line in lines]
    if request.revise_positions:
        places = [revised(line, size) for line in lines]
    try:
        masks = [position_mask(place, size) for place in places]
        quads = [line_quad(mask).numpy() for mask in masks]
    except BadLineError as error:
        raise RequestError(f"a region is too small at the size at which the model works ({size[1]} x {size[0]}): "
                           f"{error}") from error
    glyphs = np.zeros((size[0] * glyph_scale, size[1] * glyph_scale, 3), np.uint8)
    for line in lines:
        if line.text:
            draw_glyphs(glyphs, line.text, line.glyph_font, (line.polygon + 0.5) * glyph_scale - 0.5, line.color)
    picture = np.zeros((*size, 3), np.uint8) if image is None else np.clip(image, 1, 255)
    masked = picture.copy()
    masked[regions_mask(lines, size)] = 0
    return Sample(
        image=picture, masked_image=masked, caption=caption, text_caption=text_caption(len(lines)),
        texts=[line.text for line in lines], languages=[line.language for line in lines],
        quads=np.array(quads, np.float32).reshape(-1, 4, 2),
        glyph_lines=np.array([_glyph_line(line) for line in lines], np.uint8).reshape(-1, *LINE_SIZE),
        glyphs=glyphs, positions=np.array(masks, np.uint8).reshape(-1, *size),
        colors=np.array([line.color for line in lines], np.float32).reshape(-1, 3),
        font_hint=draw_hint(lines, size, request.font_hint or "filled"),
        invalid_mask=np.zeros(size, np.uint8), editing=image is not None)


def regions_mask(lines: Sequence[PlacedLine], size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: where a line goes, whole regions."""
    return np.any([position_mask(line.polygon, size) for line in lines], axis=0) if lines else np.zeros(size, bool)


def revised(line: PlacedLine, size: tuple[int, int]) -> np.ndarray:
    """Corners (4, 2) of the smallest rectangle around the letters of a line, as they are drawn; the region itself of a
    line without letters.

    Upstream closes gaps of up to a tenth of the picture between the letters first, and leaves lines with wider ones as
    they are.  Source: AnyText2 ``ms_wrapper.py`` (``revise_pos``).
    """
    import cv2

    letters = np.zeros((*size, 3), np.uint8)
    if line.text:
        draw_glyphs(letters, line.text, line.glyph_font, line.polygon)
    ink = np.argwhere(letters[..., 0] > 127)[:, ::-1]
    if len(ink) < 3 or np.ptp(ink, axis=0).min() < 1:
        return line.polygon
    return cv2.boxPoints(cv2.minAreaRect(ink.astype(np.float32))).astype(np.float64)


def draw_hint(lines: Sequence[PlacedLine], size: tuple[int, int], form: str) -> np.ndarray:
    """The font hint (H, W) uint8 in {0, 1} of the lines that have a font; ``form``: see ``Request.font_hint``."""
    shown = [line for line in lines if line.font is not None and line.text]
    letters = np.zeros((*size, 3), np.uint8)
    for line in shown:
        draw_glyphs(letters, line.text, line.font, line.polygon)
    ink = (letters[..., 0] > 127).astype(np.uint8)
    if form == "outline":
        return outline_hint(ink)
    if form == "hollow":
        return hollow_hint(ink, regions_mask(shown, size), np.random.default_rng(0))
    return ink


def _glyph_line(line: PlacedLine) -> np.ndarray:
    return render_glyph_line(line.text, line.glyph_font) if line.text else np.zeros(LINE_SIZE, np.uint8)
