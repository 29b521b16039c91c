"""From a request to the model's input: sizes, the picture to edit, glyphs, positions, styles, captions; and remarks.

``notes`` says what a model was not trained for among the things that are asked of it (see ``card.Capabilities``).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from anytext_lib.data.batch import Sample
from anytext_lib.data.glyphs import LINE_SIZE, draw_glyphs, render_glyph_line
from anytext_lib.data.hints import font_hint, position_mask
from anytext_lib.data.lines import BadLineError, line_quad
from anytext_lib.generation.captions import image_caption, join_lines, text_caption
from anytext_lib.generation.card import Capabilities, Defaults
from anytext_lib.generation.input_images import read_picture, source_record
from anytext_lib.generation.place import PlacedLine, place_lines
from anytext_lib.generation.regions import scaled
from anytext_lib.generation.request import Request, RequestError, Settings

LARGEST = 1024  # pixels: upstream's limit for either side of an image that is edited
HUE = 40  # of 255: how far the channels of a colour must be apart for it to have a hue


@dataclass(frozen=True)
class Prepared:
    """A request that can be sampled.

    Attributes:
        request: with the region of every line, and with what the defaults filled in: the same again when prepared.
        sample: the input of the model, at the size at which it works.
        styles: for each line, ink (h, w) float32 in [0, 1] of the picture that it imitates, or None.
        original: the picture to edit as it was given, (H, W, 3) uint8; None when generating.
        inside: (H, W) bool, the regions on ``original``.
        source: where the picture to edit comes from, see ``input_images.source_record``.
    """

    request: Request
    sample: Sample
    styles: list[torch.Tensor | None]
    original: np.ndarray | None = None
    inside: np.ndarray | None = None
    source: dict | None = None


def picture_grid(model) -> int:
    """Pixels that width and height are multiples of: 64 for Stable Diffusion 1.5."""
    return model.latent_factor * 2 ** (len(model.unet.config.block_out_channels) - 1)


def default_size(model, defaults: Defaults) -> tuple[int, int]:
    """(H, W) of a picture for which none is asked for."""
    latents = model.unet.config.sample_size
    height, width = (latents, latents) if isinstance(latents, int) else latents
    return defaults.height or height * model.latent_factor, defaults.width or width * model.latent_factor


def prepare(request: Request, model, defaults: Defaults | None = None) -> Prepared:
    """Check a request and draw the model's input.

    Raises:
        RequestError: says which line is wrong, and what to do.
    """
    defaults = defaults or Defaults()
    request = defaults.completed(request)
    original = None if request.image is None else read_picture(request.image, "the picture to edit")
    size = _working_size(request, model, defaults, original)
    source_size = size if original is None else original.shape[:2]
    lines = place_lines(request, source_size, min(size[0] / source_size[0], size[1] / source_size[1]))
    if original is not None and not lines:
        raise RequestError("nothing to edit: give at least one line, or quote a word in the prompt")
    caption = image_caption(request.prompt, request.added_prompt, literal=request.quoted_words == "literal")
    sample = _sample([replace(line, polygon=scaled(line.polygon, source_size, size)) for line in lines], size,
                     model.writenet.config.glyph_scale, caption, _fitted(original, size))
    height, width = (None, None) if original is not None else size
    told = replace(request, lines=_placed(request, lines), mask=None, width=width, height=height)
    styles = [style_ink(line.style) for line in lines]
    if original is None:
        return Prepared(told, sample, styles)
    inside = np.any([position_mask(line.polygon, source_size) for line in lines], axis=0)
    return Prepared(told, sample, styles, original, inside, source_record(request.image))


def style_ink(picture: np.ndarray | None) -> torch.Tensor | None:
    """Strokes (h, w) float32 in {0, 1} of a picture (h, w, 3) uint8 of a line, as the font hint of training has them:
    what is darker than its neighbourhood."""
    if picture is None:
        return None
    height, width = picture.shape[:2]
    whole = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
    return torch.from_numpy(font_hint(picture, whole, np.random.default_rng(0), (1.0, 1.0)).astype(np.float32))


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


def _sample(lines: list[PlacedLine], size: tuple[int, int], glyph_scale: int, caption: str,
            image: np.ndarray | None) -> Sample:
    """The input of the model; polygons are in pixels of the sample."""
    try:
        masks = [position_mask(line.polygon, size) for line in lines]
        quads = [line_quad(mask).numpy() for mask in masks]
    except BadLineError as error:
        raise RequestError(f"a region is too small at the size at which the model works ({size[1]} x {size[0]}): "
                           f"{error}") from error
    positions = np.array(masks, np.uint8).reshape(-1, *size)
    hints = np.zeros((*size, 3), np.uint8)
    glyphs = np.zeros((size[0] * glyph_scale, size[1] * glyph_scale, 3), np.uint8)
    for line in lines:
        draw_glyphs(glyphs, line.text, line.glyph_font, (line.polygon + 0.5) * glyph_scale - 0.5, line.color)
        if line.font is not None:
            draw_glyphs(hints, line.text, line.font, line.polygon)
    picture = np.zeros((*size, 3), np.uint8) if image is None else np.clip(image, 1, 255)
    masked = picture.copy()
    masked[positions.any(axis=0)] = 0
    return Sample(
        image=picture, masked_image=masked, caption=caption, text_caption=text_caption(len(lines)),
        texts=[line.text for line in lines], languages=[line.language for line in lines],
        quads=np.array(quads, np.float32).reshape(-1, 4, 2),
        glyph_lines=np.array([render_glyph_line(line.text, line.glyph_font) for line in lines],
                             np.uint8).reshape(-1, *LINE_SIZE),
        glyphs=glyphs, positions=positions, colors=np.array([line.color for line in lines], np.float32).reshape(-1, 3),
        font_hint=(hints[..., 0] > 127).astype(np.uint8), invalid_mask=np.zeros(size, np.uint8),
        editing=image is not None)


def _placed(request: Request, lines: list[PlacedLine]) -> tuple:
    """The request's lines, quoted words among them, each with the region where it was placed."""
    joined = join_lines(request.prompt, request.lines)
    return tuple(replace(line, region=placed.polygon.tolist()) for line, placed in zip(joined, lines, strict=True))


# what the model was not trained for


def notes(item: Prepared, settings: Settings, capabilities: Capabilities, styles: bool = True,
          option: str = "--") -> list[str]:
    """What a model was not trained for among the things that are asked of it: a sentence each, none if all is well.

    Args:
        styles: False for a model that was built without styles; the pipeline warns of that itself.
        option: what stands before the name of a setting where one can choose it.
    """
    found = [*_line_notes(item, capabilities, styles), *_picture_notes(item, capabilities)]
    if capabilities.editing is False and item.original is not None:
        found.append("this model was not trained to edit: " + _editing_words(settings, option))
    return found


def _line_notes(item: Prepared, can: Capabilities, styles: bool) -> Iterator[str]:
    request, sample = item.request, item.sample
    named = [f"line {i + 1} ({line.text!r})" for i, line in enumerate(request.lines)]
    lines = list(zip(named, request.lines, sample.languages, sample.colors, strict=True))
    if can.languages is not None:
        odd = [who for who, line, language, _ in lines if not _knows(can.languages, language, line.text)]
        if odd:
            yield f"{_listed(odd)}: this model was trained on {_listed(can.languages)} only, and will not write that"
    if can.max_chars is not None and (long := [who for who, line, *_ in lines if len(line.text) > can.max_chars]):
        yield f"{_listed(long)}: this model was trained on lines of at most {can.max_chars} characters; longer ones " \
              "are often misspelt"
    if can.colors in ("none", "brightness"):
        asked = [who for who, line, _, color in lines
                 if line.color is not None and (can.colors == "none" or max(color) - min(color) > HUE)]
        told = "colours change nothing" if can.colors == "none" else \
            "it follows how light a colour is, and its hue hardly"
        if asked:
            yield f"the colour of {_listed(asked)}: this model was not trained for it: {told}"
    if can.fonts is False and styles:
        asked = [who for who, line, *_ in lines if line.font is not None or line.style_image is not None]
        if asked:
            yield f"the font of {_listed(asked)}: this model was not trained to imitate fonts"


def _picture_notes(item: Prepared, can: Capabilities) -> Iterator[str]:
    request, (height, width) = item.request, item.sample.image.shape[:2]
    if can.max_lines is not None and len(request.lines) > can.max_lines:
        yield f"{len(request.lines)} lines: this model was trained on pictures with at most {can.max_lines}"
    if can.sizes is not None and (width, height) not in can.sizes:
        trained = _listed([f"{w} x {h}" for w, h in can.sizes])
        yield f"the picture has {width} x {height} pixels: this model was trained on {trained}"
    if can.prompts is not None and "English" in can.prompts and _other_script(image_caption(request.prompt)):
        yield f"the prompt: this model was trained on prompts in {_listed(can.prompts)} only; say it so"


def _editing_words(settings: Settings, option: str) -> str:
    blend = f"{option}blend keeps the surroundings at every step"
    composite = f"{option}composite puts the pixels outside of the regions back exactly"
    if settings.blend:
        return "letters and ground may not fit their surroundings" + ("" if settings.composite else f"; {composite}")
    if settings.composite:
        return f"what is inside the regions will hardly fit; {blend}"
    return f"it paints the whole picture anew; {blend}, {composite}"


def _knows(languages: Sequence[str], language: str, text: str) -> bool:
    if language == "Latin" and _other_script(text):  # Cyrillic, Arabic, ...: AnyWord has no name that we can guess
        return False
    return language in languages or language.startswith("Chinese") and "Chinese" in languages


def _other_script(text: str) -> bool:
    """Whether a text has letters of another script than Latin."""
    return any(char.isalpha() and not unicodedata.name(char, "").startswith(("LATIN", "FULLWIDTH LATIN"))
               for char in text)


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
