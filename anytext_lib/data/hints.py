"""Captions, position masks and font hints: the conditions of a sample besides its glyphs, with their randomness.

Source: AnyText2 ``t3_dataset.py`` (``draw_font_hint`` for the hints).
"""

from __future__ import annotations

import re

import numpy as np

from anytext_lib.data.lines import polygon_mask
from anytext_lib.data.texts import normal_text

PLACEHOLDER = "*"  # its token embedding is replaced by that of a line of text
MAX_WORDS = 128
PHRASES = ("Text says ", "Image with words ", "The picture reads ", "Captions are ", "Texts are ", "Text: ")
WATERMARKED = 0.5  # images with a higher score are said to have watermarks

# a word without spaces is one word; of Chinese, Japanese and Korean each character is one
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
                   r"\uf900-\ufaff]+")
_SENTENCE = re.compile(r"[^.!?\u3002\uff01\uff1f]*[.!?\u3002\uff01\uff1f]*\s*")

# (share of the masks, number of 3 x 3 dilations; negative: erosions)
JITTER = ((0.70, 0), (0.10, 1), (0.10, -1), (0.05, 2), (0.05, -2))
SMALLEST_TO_ERODE = 20.0  # pixels, shorter side of the minimum-area rectangle

ROTATION, SHIFT, SCALE = 10.0, 10.0, (0.9, 1.1)  # degrees; pixels of an image of 512; factor
_WINDOW, _OFFSET = 11, 2  # adaptive threshold: pixels, grey levels
_BRIGHTEST = 230  # of 255: grains of noise that are speckles in a hollow hint


def text_caption(lines: int, rng: np.random.Generator) -> str:
    """A phrase with one ``*`` for each line, e.g. 'Texts are * , * . '; the empty string without lines."""
    phrase = PHRASES[int(rng.integers(len(PHRASES)))]
    return phrase + " , ".join([PLACEHOLDER] * lines) + " . " if lines else ""


def image_caption(caption: str, rng: np.random.Generator, max_words: int = MAX_WORDS,
                  wm_score: float | None = None) -> str:
    """Prepare the caption of an image for the model.

    A ``*`` becomes a space, because it would be taken for a line.  A caption that is too long keeps its first
    sentence and as many others, drawn at random and left in their order, as there is room for.

    Args:
        max_words: most words; a Chinese, Japanese or Korean character counts as one.
        wm_score: adds 'with watermarks' above one half, 'no watermarks' up to it; None adds nothing.
    """
    caption = normal_text(caption).replace(PLACEHOLDER, " ").strip()
    if wm_score is not None:
        caption = f"{caption} {'with' if wm_score > WATERMARKED else 'no'} watermarks".strip()
    if count_words(caption) <= max_words:
        return caption
    sentences = [s for s in _SENTENCE.findall(caption) if s.strip()]
    room, kept = max_words - count_words(sentences[0]), {0}
    for i in 1 + rng.permutation(len(sentences) - 1):
        if room <= 0:
            break
        kept.add(int(i))
        room -= count_words(sentences[i])
        if room < 0:  # this one is cut
            sentences[i] = _first_words(sentences[i], room + count_words(sentences[i]))
    return _first_words("".join(_spaced(sentences[i]) for i in sorted(kept)), max_words)


def count_words(text: str) -> int:
    """Words of a text; a Chinese, Japanese or Korean character counts as one."""
    return sum(1 for _ in _WORD.finditer(text))


def _first_words(text: str, count: int) -> str:
    words = list(_WORD.finditer(text))
    return text[: words[count - 1].end()].strip() if count < len(words) else text.strip()


def _spaced(sentence: str) -> str:
    return sentence if sentence.endswith((" ", "\u3002", "\uff01", "\uff1f")) else sentence + " "


def position_mask(polygon: np.ndarray, size: tuple[int, int], steps: int = 0) -> np.ndarray:
    """Fill a polygon and grow or shrink it.

    Args:
        polygon: (P, 2) in pixels. ``size``: (H, W).
        steps: how many times to dilate (or, below zero, to erode) with 3 x 3 pixels.  Polygons whose minimum-area
            rectangle has a side under 20 pixels are not eroded, and no mask is eroded away.

    Returns:
        (H, W) uint8 in {0, 1}.

    Raises:
        BadLineError: fewer than three points, or a coordinate that is not finite.
    """
    import cv2

    mask = polygon_mask(polygon, size) // 255
    kernel = np.ones((3, 3), np.uint8)
    if steps > 0:
        return cv2.dilate(mask, kernel, iterations=steps)
    if steps < 0 and min(cv2.minAreaRect(np.asarray(polygon, np.float32))[1]) >= SMALLEST_TO_ERODE:
        eroded = cv2.erode(mask, kernel, iterations=-steps)
        return eroded if eroded.any() else mask
    return mask


def draw_jitter(rng: np.random.Generator) -> int:
    """A number of dilations or erosions for ``position_mask``, by the shares of ``JITTER``."""
    shares, steps = zip(*JITTER, strict=True)
    return int(steps[rng.choice(len(steps), p=shares)])


def font_hint(image: np.ndarray, polygon: np.ndarray, rng: np.random.Generator, area: tuple[float, float] = (0.7, 1.0),
              augment: bool = False) -> np.ndarray:
    """Strokes of one line.

    Args:
        image: (H, W, 3) uint8, RGB. ``polygon``: (P, 2) in pixels.
        area: how much of the line is kept, drawn uniformly between the two; the rest is erased in one piece, across
            the line.
        augment: move the content of the line by up to 10 degrees, 10 pixels (of 512) and 10% of its size.

    Returns:
        (H, W) uint8 in {0, 1}, zero outside the polygon.
    """
    import cv2

    height, width = image.shape[:2]
    inside = np.clip(np.asarray(polygon, np.float64), 0, (width - 1, height - 1))
    region = polygon_mask(inside, (height, width)) // 255
    x, y, w, h = cv2.boundingRect(np.rint(inside).astype(np.int32))
    crop = image[y : y + h, x : x + w]
    if augment:
        crop = _augment(crop, rng, SHIFT * min(height, width) / 512)
    grey = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY)
    strokes = cv2.adaptiveThreshold(grey, 1, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY_INV, _WINDOW, _OFFSET)
    kept = rng.uniform(*area)
    if kept < 1:
        cv2.fillPoly(region, [_erased(inside, 1 - kept, rng)], 0)
    hint = np.zeros((height, width), np.uint8)
    hint[y : y + h, x : x + w] = strokes * region[y : y + h, x : x + w]
    return hint


def outline_hint(ink: np.ndarray) -> np.ndarray:
    """The letters of a rendered hint as a line one pixel wide around them, one pixel away: 5 x 5 less 3 x 3 dilation.

    Args:
        ink: (H, W) uint8 in {0, 1}.

    Source: AnyText2 ``eval/anytext2_singleGPU.py``, its mode "Hollow".
    """
    import cv2

    return cv2.dilate(ink, np.ones((5, 5), np.uint8)) - cv2.dilate(ink, np.ones((3, 3), np.uint8))


def hollow_hint(ink: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The letters of a rendered hint as a photograph would show them: with holes, on a speckled ground, outlined.

    Speckles cover a tenth of ``inside``.  Letters lose them and the ground gets them; where a 3 x 3 dilation of the
    letters reaches beyond a 2 x 2 one there is ink.

    Args:
        ink: (H, W) uint8 in {0, 1}. ``inside``: (H, W) bool, the regions of the lines whose font is shown.

    Source: AnyText2 ``ms_wrapper.py`` (``font_hollow``), whose speckles come from a picture of noise and cover all of
    the hint, lines without a font too.
    """
    import cv2

    grain = rng.integers(0, 256, ink.shape).astype(np.uint8)
    grain[grain < _BRIGHTEST] = 0
    speckles = cv2.adaptiveThreshold(grain, 1, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, _WINDOW, _OFFSET)
    edge = cv2.dilate(ink, np.ones((3, 3), np.uint8)) - cv2.dilate(ink, np.ones((2, 2), np.uint8))
    return np.where(ink > 0, (1 - speckles) | edge, speckles | edge) * inside.astype(np.uint8)


def _augment(crop: np.ndarray, rng: np.random.Generator, shift: float) -> np.ndarray:
    """Turn, move and scale in one go; what comes in from outside repeats the border."""
    import cv2

    h, w = crop.shape[:2]
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), rng.uniform(-ROTATION, ROTATION), rng.uniform(*SCALE))
    matrix[:, 2] += rng.uniform(-shift, shift, 2)
    return cv2.warpAffine(crop, matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _erased(polygon: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Corners (4, 2) int32 of ``share`` of the minimum-area rectangle: a piece of its long side, all of the short."""
    import cv2

    box = cv2.boxPoints(cv2.minAreaRect(polygon.astype(np.float32))).astype(np.float64)
    sides = np.roll(box, -1, axis=0) - box
    if np.hypot(*sides[0]) < np.hypot(*sides[1]):
        box, sides = np.roll(box, -1, axis=0), np.roll(sides, -1, axis=0)
    start = rng.uniform(0, 1 - share)  # along sides[0]; sides[1] leads across
    corners = [box[0] + t * sides[0] + across * sides[1]
               for t, across in ((start, 0), (start + share, 0), (start + share, 1), (start, 1))]
    return np.rint(corners).astype(np.int32)
