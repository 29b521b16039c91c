"""One line of text on its own picture, with one knob a factor, and pictures to tensors and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from anytext_lib.data.lettering import draw_ink, letter_height, line_extent, place_mask

FILL_HEIGHT, FILL_WIDTH = 0.88, 0.94  # how much of the picture a line may take when its size is chosen for it


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


def to_tensor(image: np.ndarray | Sequence[np.ndarray]) -> torch.Tensor:
    """uint8 picture (H, W, 3), or several of one size, to float32 (B, 3, H, W) in [-1, 1], RGB.

    The scale is that of AnyText2's data: x / 127.5 - 1.
    """
    images = [image] if isinstance(image, np.ndarray) and image.ndim == 3 else list(image)
    for i, one in enumerate(images):
        if not isinstance(one, np.ndarray) or one.dtype != np.uint8 or one.ndim != 3 or one.shape[2] != 3:
            found = f"{one.dtype} {one.shape}" if isinstance(one, np.ndarray) else type(one).__name__
            raise ValueError(f"picture {i} must be a uint8 array of shape (H, W, 3), got {found}")
    if len({one.shape for one in images}) != 1:
        raise ValueError(f"the pictures of a batch have one size, got {[one.shape for one in images]}")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def to_uint8(images: torch.Tensor) -> list[np.ndarray]:
    """(B, 3, H, W) or (3, H, W) in [-1, 1] to B arrays (H, W, 3) uint8; values outside are clipped."""
    if images.ndim == 3:
        images = images[None]
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images have shape (B, 3, H, W), got {tuple(images.shape)}")
    pixels = images.detach().float().cpu().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).contiguous().numpy())


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
