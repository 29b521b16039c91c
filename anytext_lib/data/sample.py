"""Build a training sample from a picture and its annotation.

Source: AnyText2 ``t3_dataset.py`` (``T3DataSet.__getitem__``).  Nothing of the annotation is changed, polygons are
scaled with the picture, and a picture without lines has no line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anytext_lib.data.anyword import NO_COLOUR, AnnotatedImage, Annotation
from anytext_lib.data.batch import Sample
from anytext_lib.data.fonts import MissingGlyphError, check_fonts, choose_font
from anytext_lib.data.glyphs import LINE_SIZE, draw_glyphs, render_glyph_line
from anytext_lib.data.hints import MAX_WORDS, draw_jitter, font_hint, image_caption, position_mask, text_caption
from anytext_lib.data.lines import BadLineError, line_quad, polygon_mask
from anytext_lib.data.texts import cut, normal_text, split_chinese
from anytext_lib.errors import OptionError


@dataclass(frozen=True)
class SampleConfig:
    """How samples are made; names and defaults are upstream's where it has them.

    A value out of range raises a OptionError, a font that is none an UnknownFontError.

    Attributes:
        max_lines: most lines of a sample; of more, a random choice is kept and the rest goes to the invalid mask.
        max_chars: longer texts are cut, before a letter with its marks.
        mask_ratio: probability of an editing sample; the others are generation samples.
        font_hint_prob: probability that a line has a font hint. ``font_hint_area``: least and most of a line that is
            kept. ``font_hint_randaug``: whether its content is moved (see ``font_hint``).
        color_prob: probability that a sample carries the colour of a line, where it is known.
        wm_thresh: pictures with a higher watermark score are left out (by the data set); 1.0 keeps all.
        rand_font: draw glyphs in a random font of those that can write the text.
        glyph_scale: size of ``Sample.glyphs`` over that of the picture, 1 or 2.
        image_size: (H, W) in pixels, or one number for both; pictures are resized to it.
        font: name or file of the font used where it can write the text, without ``rand_font``; None takes the first.
            A FontWarning tells of the first text that it cannot write.
        fonts: names or files of fonts by language (one or several), which are asked before those of the course.
        max_words: most words of the image caption. ``cap_watermark``: whether it tells of watermarks, if scores exist.
        position_jitter: whether position masks are sometimes grown or shrunk.
    """

    max_lines: int = 5
    max_chars: int = 20
    mask_ratio: float = 0.5
    font_hint_prob: float = 0.8
    color_prob: float = 1.0
    font_hint_area: tuple[float, float] = (0.7, 1.0)
    font_hint_randaug: bool = True
    wm_thresh: float = 1.0
    rand_font: bool = False
    glyph_scale: int = 1
    image_size: tuple[int, int] | int = (512, 512)
    font: str | None = None
    fonts: dict[str, str | list[str]] | None = None
    max_words: int = MAX_WORDS
    cap_watermark: bool = True
    position_jitter: bool = True

    def __post_init__(self):
        size = (self.image_size,) * 2 if isinstance(self.image_size, int) else tuple(self.image_size)
        object.__setattr__(self, "image_size", size)
        object.__setattr__(self, "font_hint_area", tuple(self.font_hint_area))
        if len(size) != 2 or not all(isinstance(v, int) and v >= 16 for v in size):
            raise OptionError(f"image_size is (height, width) of at least 16 pixels each, got {self.image_size}")
        for name in ("max_lines", "max_chars", "max_words"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is a number of at least 1, got {getattr(self, name)}")
        for name in ("mask_ratio", "font_hint_prob", "color_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"{name} is a probability in [0, 1], got {getattr(self, name)}")
        low, high = self.font_hint_area if len(self.font_hint_area) == 2 else (1, 0)
        if not 0 < low <= high <= 1:
            raise OptionError(f"font_hint_area is (least, most) with 0 < least <= most <= 1, got "
                                  f"{self.font_hint_area}")
        if self.glyph_scale not in (1, 2):
            raise OptionError(f"glyph_scale is 1 or 2, got {self.glyph_scale}")
        object.__setattr__(self, "fonts", check_fonts(self.font, self.fonts))


@dataclass(frozen=True)
class _Line:
    """A line that can be trained on; ``polygon`` is in pixels of the sample."""

    text: str
    language: str
    polygon: np.ndarray
    quad: np.ndarray
    glyph_line: np.ndarray
    position: np.ndarray
    color: tuple
    font: str


def build_sample(image: np.ndarray, record: AnnotatedImage, config: SampleConfig, rng: np.random.Generator) -> Sample:
    """Make a sample; the same arguments and state of ``rng`` give the same sample.

    Args:
        image: (h, w, 3) uint8, RGB, of any size; the polygons of ``record`` are in its pixels.

    Raises:
        ValueError: ``image`` is not such an array.
    """
    _check_image(image)
    editing = bool(rng.random() < config.mask_ratio)
    source = image.shape[:2]
    image = _resized(image, config.image_size)
    lines, others, dropped = _choose_lines(record, source, config, rng)
    size = config.image_size
    positions = np.stack([line.position for line in lines]) if lines else np.zeros((0, *size), np.uint8)
    caption = image_caption(record.caption, rng, config.max_words, record.wm_score if config.cap_watermark else None)
    return Sample(
        image=image, masked_image=_masked(image, positions, editing),
        caption=caption, text_caption=text_caption(len(lines), rng),
        texts=[line.text for line in lines], languages=[line.language for line in lines],
        quads=np.array([line.quad for line in lines], np.float32).reshape(-1, 4, 2),
        glyph_lines=np.array([line.glyph_line for line in lines], np.uint8).reshape(-1, *LINE_SIZE),
        glyphs=_glyphs(lines, size, config.glyph_scale), positions=positions,
        colors=np.array([line.color for line in lines], np.float32).reshape(-1, 3),
        font_hint=_font_hints(image, lines, config, rng),
        invalid_mask=_union([] if editing else others, size),
        editing=editing, name=record.name, dropped=tuple(dropped))


def _choose_lines(record, source, config, rng) -> tuple[list[_Line], list[np.ndarray], list[str]]:
    """Lines to train on in the order of the file, polygons of all others, and why lines were dropped."""
    scale = np.array(config.image_size[::-1]) / source[::-1]
    candidates = [i for i, annotation in enumerate(record.annotations) if annotation.valid]
    if len(candidates) > config.max_lines:
        candidates = [candidates[j] for j in rng.permutation(len(candidates))]
    lines, dropped = {}, []
    for i in candidates:
        if len(lines) == config.max_lines:
            break
        annotation = record.annotations[i]
        try:
            lines[i] = _make_line(annotation, (annotation.polygon + 0.5) * scale - 0.5, config, rng)
        except (BadLineError, MissingGlyphError) as error:
            dropped.append(f"{record.name}: annotations[{i}] {annotation.text!r}: {error}")
    others = [(a.polygon + 0.5) * scale - 0.5 for i, a in enumerate(record.annotations) if i not in lines]
    return [lines[i] for i in sorted(lines)], others, dropped


def _make_line(annotation: Annotation, polygon: np.ndarray, config: SampleConfig, rng: np.random.Generator) -> _Line:
    text = cut(normal_text(annotation.text), config.max_chars)
    if not text.strip():
        raise BadLineError("the text is blank: give it a text, or mark the line valid: false")
    language = split_chinese(annotation.language, text)
    font = choose_font(text, language, rng if config.rand_font else None, config.font, config.fonts)
    position = position_mask(polygon, config.image_size)
    quad = line_quad(position)
    if config.position_jitter and (steps := draw_jitter(rng)):
        jittered = position_mask(polygon, config.image_size, steps)
        try:
            position, quad = jittered, line_quad(jittered)
        except BadLineError:  # shrunk to a thread: it stays as it was
            pass
    told = annotation.color is not None and rng.random() < config.color_prob
    return _Line(text, language, polygon, quad.numpy(), render_glyph_line(text, font), position,
                 annotation.color if told else NO_COLOUR, font)


def _glyphs(lines: list[_Line], size: tuple[int, int], scale: int) -> np.ndarray:
    canvas = np.zeros((size[0] * scale, size[1] * scale, 3), np.uint8)
    for line in lines:
        draw_glyphs(canvas, line.text, line.font, (line.polygon + 0.5) * scale - 0.5, line.color)
    return canvas


def _font_hints(image, lines, config, rng) -> np.ndarray:
    hint = np.zeros(config.image_size, np.uint8)
    for line in lines:
        if rng.random() < config.font_hint_prob:
            np.maximum(hint, font_hint(image, line.polygon, rng, config.font_hint_area, config.font_hint_randaug),
                       out=hint)
    return hint


def _masked(image: np.ndarray, positions: np.ndarray, editing: bool) -> np.ndarray:
    """Editing: black in the regions of the lines; generation: black everywhere."""
    if not editing:
        return np.zeros_like(image)
    masked = image.copy()
    masked[positions.any(axis=0)] = 0
    return masked


def _union(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    for polygon in polygons:
        try:
            np.maximum(mask, polygon_mask(polygon, size) // 255, out=mask)
        except BadLineError:  # nothing to mask: `anytext data check` reports such polygons
            continue
    return mask


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    if image.shape[:2] == size:
        return image.copy()
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _check_image(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"a picture is a uint8 array of shape (h, w, 3), RGB, got {found}")
    if 0 in image.shape:
        raise ValueError(f"the picture is empty: {image.shape}")
