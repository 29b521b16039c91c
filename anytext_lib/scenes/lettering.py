"""Draw one line of text: its ink as a supersampled mask, the mask put anywhere by a homography, a picture of it alone.

Coordinates are those of OpenCV: the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anytext_lib.data.fonts import check_coverage, font_face, pil_font
from anytext_lib.data.texts import needs_shaping, normal_text

SUPERSAMPLE = 3
FILL_HEIGHT, FILL_WIDTH = 0.88, 0.94  # how much of the picture a line may take when its size is chosen for it


@dataclass(frozen=True)
class Ink:
    """The ink of a line of text, drawn ``scale`` times larger than it will appear.

    Attributes:
        fill: (h, w) float32 in [0, 1], coverage of the letters.
        outline: (h, w), coverage of the letters with an outline around them; equal to ``fill`` without one.
        box: (left, top, right, bottom) of the letters' ink in pixels of ``fill``, edges (not centres).
        origin: (x, y) of the start of the baseline in pixels of ``fill``.
        scale: size of ``fill`` over the size on the picture.
    """

    fill: np.ndarray
    outline: np.ndarray
    box: tuple[float, float, float, float]
    origin: tuple[float, float]
    scale: int

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the ink on the picture, in pixels."""
        left, top, right, bottom = self.box
        return (right - left) / self.scale, (bottom - top) / self.scale


@functools.lru_cache(maxsize=64)
def letter_height(font: str) -> float:
    """Height of a capital H (Chinese fonts: of 国) in ems: sizes are given by it, so that fonts look equally large."""
    sample = "国" if "Chinese" in font_face(font).languages else "H"
    _, top, _, bottom = pil_font(font, 200).getbbox(sample, anchor="ls")
    return (bottom - top) / 200


@functools.lru_cache(maxsize=64)
def line_extent(font: str) -> tuple[float, float]:
    """How far letters reach above and below the baseline, in ems, taken over tall and deep ones."""
    sample = "国图" if "Chinese" in font_face(font).languages else "HÅÉÇlbgjpy("
    _, top, _, bottom = pil_font(font, 200).getbbox(sample, anchor="ls")
    return -top / 200, bottom / 200


def draw_ink(text: str, font: str, height: float, outline: float = 0.0, spacing: float = 0.0,
             scale: int = SUPERSAMPLE) -> Ink:
    """Draw ``text`` as a mask.

    Args:
        font: name of a font of the course.
        height: height of a capital (Chinese: of a character) in pixels of the picture.
        outline: width of the outline in pixels of the picture.
        spacing: extra space between characters, in parts of ``height``.

    Raises:
        MissingGlyphError: the font lacks a character.
        ValueError: the text has no ink or needs shaping, or the height is not a positive number.
    """
    from PIL import Image, ImageDraw

    text = normal_text(text)
    check_coverage(text, font)
    if needs_shaping(text):
        raise ValueError(f"scenes are lettered without shaping, which {text!r} needs (letters that join, stack, take "
                         "marks or run from right to left): draw it with anytext_lib.data.draw_glyphs")
    if not (np.isfinite(height) and height > 0):
        raise ValueError(f"the height of the letters is a positive number of pixels, got {height}")
    face = pil_font(font, height * scale / letter_height(font))
    width = max(0.0, float(outline)) * scale
    pieces = _pieces(text, face, spacing * height * scale)
    boxes = [face.getbbox(piece, anchor="ls") for _, piece in pieces]
    extent = [(x + b[0], b[1], x + b[2], b[3]) for (x, _), b in zip(pieces, boxes, strict=True) if b[2] > b[0]]
    if not extent:
        raise ValueError(f"the text {text!r} has no ink to draw: give at least one visible character")
    pad = int(np.ceil(width)) + 2 * scale
    left, top = min(e[0] for e in extent) - pad, min(e[1] for e in extent) - pad
    canvas = (int(np.ceil(max(e[2] for e in extent) + pad - left)), int(np.ceil(max(e[3] for e in extent) + pad - top)))

    def mask(stroke: float) -> np.ndarray:
        image = Image.new("L", canvas)
        pen = ImageDraw.Draw(image)
        for x, piece in pieces:
            pen.text((x - left, -top), piece, fill=255, font=face, anchor="ls", stroke_width=stroke)
        return np.asarray(image, np.float32) / 255

    fill = mask(0)
    rows, columns = np.flatnonzero(fill.max(axis=1) > 0.5), np.flatnonzero(fill.max(axis=0) > 0.5)
    if not len(rows):
        raise ValueError(f"the text {text!r} has no ink at a height of {height} pixels: give a larger height")
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return Ink(fill, mask(width) if width else fill, tuple(map(float, box)), (-float(left), -float(top)), scale)


def _pieces(text: str, face, gap: float) -> list[tuple[float, str]]:
    """The whole text at 0, or its characters with their own starts if there is extra space between them."""
    if not gap:
        return [(0.0, text)]
    pieces, x = [], 0.0
    for character in text:
        pieces.append((x, character))
        x += face.getlength(character) + gap
    return pieces


def box_corners(box: tuple[float, float, float, float]) -> np.ndarray:
    """Corners (4, 2) float64, tl, tr, br, bl, of a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def transform(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a homography (3, 3) to points (N, 2)."""
    moved = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ matrix.T
    return moved[:, :2] / moved[:, 2:]


def place_mask(mask: np.ndarray, matrix: np.ndarray, size: tuple[int, int], scale: int = SUPERSAMPLE) -> np.ndarray:
    """Put a supersampled mask on a picture, anti-aliased.

    Args:
        mask: (h, w) float32 in [0, 1].
        matrix: (3, 3), from edge coordinates of the mask (first pixel spans 0..1) to edge coordinates of the picture.
        size: (H, W) of the picture.

    Returns:
        (H, W) float32 in [0, 1].
    """
    import cv2

    corners = transform(box_corners((0, 0, mask.shape[1], mask.shape[0])), matrix)
    low = np.maximum(np.floor(corners.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + 1, (size[1], size[0]))
    result = np.zeros(size, np.float32)
    if (high <= low).any():
        return result
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # from pixel centres to edges
    zoom = np.array([[scale, 0, -scale * low[0]], [0, scale, -scale * low[1]], [0, 0, 1.0]])
    full = np.linalg.inv(half) @ zoom @ matrix @ half
    wide = tuple(int(v) for v in (high - low) * scale)
    warped = cv2.warpPerspective(mask, full, wide, flags=cv2.INTER_LINEAR)
    result[low[1] : high[1], low[0] : high[0]] = cv2.resize(warped, tuple(int(v) for v in high - low),
                                                            interpolation=cv2.INTER_AREA)
    return result


def render_line(text: str, font: str = "OpenSans", size: tuple[int, int] = (48, 320), *,
                text_height: float | None = None, color: Sequence[float] = (25, 25, 25),
                background: Sequence[float] | np.ndarray = (235, 235, 230), offset: tuple[float, float] = (0.0, 0.0),
                rotation: float = 0.0, align: str = "left", spacing: float = 0.0, blur: float = 0.0,
                noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Draw one line of text; equal arguments give equal bytes, and each argument changes one thing only.

    The line stands on the same baseline whatever its letters are, so exchanging a letter moves no other line part
    above or below it.

    Args:
        text: what to write. ``font``: a name of ``load_fonts()``.
        size: (H, W) of the picture in pixels.
        text_height: height of a capital H (Chinese fonts: of 国) in pixels; None takes the largest at which the line
            fits.  Give it to keep the size when texts or fonts change.
        color: RGB in 0..255. ``background``: RGB in 0..255, or a picture (H, W, 3).
        offset: shift (dx, dy) in pixels, fractions allowed. ``rotation``: degrees clockwise around the centre.
        align: "left" (3% of the width from the edge) or "center". ``spacing``: extra space between characters, in
            parts of the text height.
        blur: Gaussian sigma in pixels, of the finished picture. ``noise``: sigma in grey levels of Gaussian noise
            added after the blur, drawn with ``seed``.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        MissingGlyphError: the font lacks a character. ValueError: an argument is out of range, or the text is wider
        than the picture at the height asked for.
    """
    height, width = _check_line(size, align, blur, noise)
    if text_height is None:
        text_height = _largest_fit(text, font, (height, width), spacing)
    ink = draw_ink(text, font, text_height, spacing=spacing)
    if ink.size[0] > width:
        raise ValueError(f"{text!r} in {font} is {ink.size[0]:.0f} pixels wide at a text height of {text_height:g}, "
                         f"but the picture only {width}: lower text_height, or leave it out")
    alpha = place_mask(ink.fill, _line_matrix(ink, font, text_height, (height, width), align, offset, rotation),
                       (height, width))[..., None]
    canvas = _canvas(background, (height, width))
    picture = canvas + (np.asarray(color, np.float32) - canvas) * alpha
    return finish(picture, blur, noise, np.random.default_rng(seed))


def finish(picture: np.ndarray, blur: float, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Blur a float picture (H, W, 3) in 0..255 (sigma in pixels), add noise (sigma in grey levels), round to uint8."""
    import cv2

    if blur > 0:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    if noise > 0:
        picture = picture + rng.normal(0, noise, picture.shape).astype(np.float32)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _check_line(size, align, blur, noise) -> tuple[int, int]:
    if len(size) != 2 or min(size) < 8:
        raise ValueError(f"size is (height, width) of at least 8 x 8 pixels, got {size}")
    if align not in ("left", "center"):
        raise ValueError(f'align is "left" or "center", got {align!r}')
    for name, value in (("blur", blur), ("noise", noise)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} is a sigma of at least 0, got {value}")
    return int(size[0]), int(size[1])


def _largest_fit(text: str, font: str, size: tuple[int, int], spacing: float) -> float:
    above, below = line_extent(font)
    by_height = FILL_HEIGHT * size[0] * letter_height(font) / (above + below)
    wide = draw_ink(text, font, by_height, spacing=spacing).size[0]
    return by_height * min(1.0, FILL_WIDTH * size[1] / wide)


def _line_matrix(ink, font, text_height, size, align, offset, rotation) -> np.ndarray:
    """From the mask to the picture: scale, stand on the baseline, turn around the centre, shift."""
    height, width = size
    above, below = line_extent(font)
    em = text_height / letter_height(font)
    baseline = height / 2 + (above - below) / 2 * em
    left = 0.03 * width if align == "left" else (width - ink.size[0]) / 2
    k = 1 / ink.scale
    lay = np.array([[k, 0, left - ink.box[0] * k], [0, k, baseline - ink.origin[1] * k], [0, 0, 1.0]])
    c, s = np.cos(np.deg2rad(rotation)), np.sin(np.deg2rad(rotation))
    centre = np.array([width, height]) / 2
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    turn[:2, 2] = centre - turn[:2, :2] @ centre + np.asarray(offset, float)
    return turn @ lay


def _canvas(background, size) -> np.ndarray:
    behind = np.asarray(background, np.float32)
    if behind.shape not in ((3,), (*size, 3)):
        raise ValueError(f"background is an RGB colour or a picture of shape {(*size, 3)}, got shape {behind.shape}")
    return np.broadcast_to(behind, (*size, 3)).astype(np.float32)
