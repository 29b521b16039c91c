"""From a request to the model's input: sizes, the picture to edit, glyphs, positions, font hints, styles, captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from anytext_lib.data.batch import Sample
from anytext_lib.data.glyphs import LINE_SIZE, draw_glyphs, render_glyph_line
from anytext_lib.data.hints import hollow_hint, outline_hint, position_mask
from anytext_lib.data.lines import BadLineError, line_quad
from anytext_lib.generation.input_images import read_picture, source_record
from anytext_lib.generation.place import PlacedLine, place_lines
from anytext_lib.generation.request import Defaults, Line, Request, RequestError, image_caption, text_caption
from anytext_lib.generation.styles import style_ink

LARGEST = 1024  # pixels: upstream's limit for either side of an image that is edited


@dataclass(frozen=True)
class Prepared:
    """A request that can be sampled.

    Attributes:
        request: with the region of every line, and with what the defaults filled in: the same again when prepared.
        sample: the input of the model, at the size at which it works.
        styles: for each line, ink (h, w) float32 in [0, 1] of the picture that it imitates, or None.
        original: the picture to edit as it was given, (H, W, 3) uint8; None when generating.
        inside: (H, W) bool, the regions on ``original``. ``hidden``: (h, w) bool, the same on the sample's image.
        source: where the picture to edit comes from, see ``input_images.source_record``.
    """

    request: Request
    sample: Sample
    styles: list[torch.Tensor | None]
    original: np.ndarray | None = None
    inside: np.ndarray | None = None
    hidden: np.ndarray | None = None
    source: dict | None = None


def picture_grid(model) -> int:
    """Pixels that width and height are multiples of: 64 for Stable Diffusion 1.5."""
    return model.latent_factor * 2 ** (len(model.unet.config.block_out_channels) - 1)


def default_size(model, defaults: Defaults) -> tuple[int, int]:
    """(H, W) of a picture for which none is asked for."""
    latents = model.unet.config.sample_size
    height, width = (latents, latents) if isinstance(latents, int) else latents
    return defaults.height or height * model.latent_factor, defaults.width or width * model.latent_factor


def prepare(request: Request, model, defaults: Defaults | None = None, tolerant: bool = False) -> Prepared:
    """Check a request and draw the model's input.

    Args:
        tolerant: see ``place_lines``.

    Raises:
        RequestError: says which line is wrong, and what to do.
    """
    defaults = defaults or Defaults()
    request = defaults.completed(request)
    original = None if request.image is None else read_picture(request.image, "the picture to edit")
    size = _working_size(request, model, defaults, original)
    source_size = size if original is None else original.shape[:2]
    lines = place_lines(request, source_size, min(size[0] / source_size[0], size[1] / source_size[1]), original,
                        tolerant)
    if original is not None and not lines:
        raise RequestError("nothing to edit: give at least one line, or quote a word in the prompt")
    caption = image_caption(request.prompt, request.added_prompt, literal=request.quoted_words != "placeholder")
    at_size = [replace(line, polygon=scaled(line.polygon, source_size, size)) for line in lines]
    sample = draw_sample(at_size, size, model.writenet.config.glyph_scale, caption, request, _fitted(original, size))
    height, width = (None, None) if original is not None else size
    told = replace(request, lines=tuple(map(_placed, lines)), mask=None, width=width, height=height)
    styles = [None if line.style is None else style_ink(line.style) for line in lines]
    if original is None:
        return Prepared(told, sample, styles)
    return Prepared(told, sample, styles, original, regions_mask(lines, source_size), regions_mask(at_size, size),
                    source_record(request.image))


def composited(made: np.ndarray, prepared: Prepared) -> np.ndarray:
    """Paste a generated picture (H, W, 3) uint8 into the regions of the given one, which stays exact outside."""
    return np.where(prepared.inside[..., None], made, prepared.original)


def _working_size(request: Request, model, defaults: Defaults, original: np.ndarray | None) -> tuple[int, int]:
    grid = picture_grid(model)
    if original is not None:
        if request.width is not None or request.height is not None:
            raise RequestError("width and height are those of the picture to edit: leave them out, or resize the "
                               "picture before")
        return _nearest_size(original.shape[:2], grid)
    height, width = default_size(model, defaults)
    height, width = request.height or height, request.width or width
    for name, value in (("width", width), ("height", height)):
        if not isinstance(value, int) or value < grid or value % grid:
            near = max(grid, round(value / grid) * grid) if isinstance(value, int | float) else grid
            raise RequestError(f"{name} is a multiple of {grid} pixels for this model, got {value!r}: take {near}")
    return height, width


def _nearest_size(size: tuple[int, int], grid: int) -> tuple[int, int]:
    """(H, W) at which a picture of ``size`` is edited: at most 1024, in multiples of ``grid``."""
    shrink = min(1.0, LARGEST / max(size))
    return tuple(max(grid, round(value * shrink / grid) * grid) for value in size)


def _fitted(picture: np.ndarray | None, size: tuple[int, int]) -> np.ndarray | None:
    import cv2

    if picture is None or picture.shape[:2] == size:
        return picture
    shrinks = picture.shape[0] >= size[0] and picture.shape[1] >= size[1]
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def scaled(polygon: np.ndarray, source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """A polygon on a picture of size ``source`` (H, W) after the picture is resized to ``target``."""
    if source == target:
        return polygon
    return (polygon + 0.5) * (np.array(target[::-1]) / source[::-1]) - 0.5


def _placed(placed: PlacedLine) -> Line:
    """The line with the regions where it was placed, and where the letters are that it imitates."""
    style = None if placed.style is None else placed.style.polygon
    return replace(placed.line, region=placed.polygon.tolist(), style_region=None if style is None else style.tolist())


# the model's input


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
