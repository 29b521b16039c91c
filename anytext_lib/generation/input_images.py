"""Pictures and painted masks, in whatever form they were given: files, arrays or ``PIL.Image``.

A mask is white on black.  As well are taken, since users have them: any paint on a transparent layer; holes that were
erased in an opaque picture; dark paint on a light ground (AnyText2's own application saves such); coloured and grey
paint; class numbers 0, 1, 2, ... as of segmentation tools; 1, 8 and 16 bit; soft brushes; what JPEG makes of all these.
A photograph with something painted on it is refused, for what is paint there is a guess.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.data import pictures
from anytext_lib.generation.request import RequestError, RequestWarning

LEAST = 32  # grey levels of 255 by which paint differs from its ground, unless there are but a few colours
FEW = 8  # colours: no brush was soft and nothing was compressed, so that every difference counts
BAND = 0.02  # of the shorter side: the frame in which the ground is looked for
LIGHT, LIGHT_SHARE = 128, 0.7  # so much of the frame is so light where the ground is light
DARKEST_GROUND, FLAT, FLAT_SHARE = 96, 32, 0.6  # else it is a photograph: see ``_check_flat``
MOST_AREAS = 50  # more are no painting either
REMEDY = "paint the region white on black, in a picture of its own that has the size of the picture"


def read_picture(source: Any, what: str) -> np.ndarray:
    """(H, W, 3) uint8, RGB, upright, of a file, a ``PIL.Image`` or an array (H, W) or (H, W, 3) uint8; how files are
    read, see ``anytext_lib.data.pictures``.

    Args:
        what: what the picture is for, for the message of an error.

    Raises:
        RequestError: it cannot be read, or is no such array.
    """
    named = f" {source}" if isinstance(source, str | os.PathLike) else ""
    try:
        if named:
            return pictures.read_picture(Path(source))
        if hasattr(source, "convert"):  # PIL.Image
            return np.array(pictures.upright_rgb(source))
    except pictures.PictureError as error:
        raise RequestError(f"{what}: cannot read{named}: {error}") from error
    array = np.asarray(source)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.ndim == 3 and array.shape[2] != 3 \
            or 0 in array.shape:
        raise RequestError(f"{what}: a picture is an array (H, W, 3) of uint8 (0..255), got {array.dtype} "
                           f"{array.shape}")
    return np.array(np.repeat(array[..., None], 3, axis=2) if array.ndim == 2 else array)


def source_record(source: Any) -> dict:
    """Where a picture comes from, to be found again: {"path", "sha256"}, the hash of its pixels; the path is None for
    an array."""
    path = str(Path(source).resolve()) if isinstance(source, str | os.PathLike) else None
    return {"path": path, "sha256": pixel_hash(read_picture(source, "picture"))}


def pixel_hash(picture: np.ndarray) -> str:
    """SHA-256 of a picture's shape and pixels."""
    return hashlib.sha256(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()


def read_mask(source: Any, what: str) -> np.ndarray:
    """(H, W) bool of a painted mask: True where there is paint.

    Args:
        source: (H, W) bool, floating point in [0, 1] or integers; (H, W, 3 or 4) uint8; a ``PIL.Image``; a file.
        what: what the mask is for, for the message of an error.

    Warns:
        RequestWarning: the mask is dark on light, or a hole, and was taken so.

    Raises:
        RequestError: it cannot be read, or looks like a photograph.
    """
    pixels, lossy = _pixels(source, what)
    if pixels.shape[2] == 4 and _alpha_tells(pixels[..., 3:]):
        pixels = np.repeat(pixels[..., 3:], 3, axis=2)
        words = "opaque, with transparent holes: the holes are"
    else:
        pixels, words = pixels[..., :3], "dark on light: the dark areas are"
    light = _light_ground(pixels)
    levels = _levels(pixels, light)
    if np.ptp(levels) == 0:
        return np.full(levels.shape, light)  # all black: empty; all white: the whole picture
    if not lossy and _colours(pixels) <= FEW:
        painted = levels > levels.min()
    elif np.ptp(levels) < LEAST:
        painted = np.zeros(levels.shape, bool)
    else:
        painted = levels > (float(levels.min()) + float(levels.max())) / 2
        _check_flat(levels, painted, light, what)
    if light and painted.any():
        warnings.warn(f"{what} is {words} taken as painted", RequestWarning, stacklevel=2)
    return painted


def is_mask(region: Any) -> bool:
    """Whether a region is a painted mask and not a list of corners."""
    if isinstance(region, str | os.PathLike) or hasattr(region, "convert"):
        return True
    try:
        shape = np.shape(region)
    except ValueError:  # ragged: corners with one number missing
        return False
    return len(shape) == 3 or len(shape) == 2 and shape[1] > 2


def _pixels(source: Any, what: str) -> tuple[np.ndarray, bool]:
    """((H, W, 3 or 4) float32 in 0..255, whether it was compressed with losses)."""
    from PIL import Image

    lossy = False
    if isinstance(source, str | os.PathLike):
        read_picture(source, what)  # tells whether it can be read, and is not too large
        with Image.open(Path(source)) as picture:
            lossy = picture.format in ("JPEG", "MPO", "WEBP")
            source = _array(picture)
    elif hasattr(source, "convert"):
        source = _array(source)
    array = np.asarray(source)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape or array.shape[2] not in (1, 3, 4) or array.dtype.kind not in "buif":
        raise RequestError(f"{what}: a painted mask is (H, W), white where text goes, got {array.shape} {array.dtype}")
    values = array.astype(np.float32)
    if not np.isfinite(values).all() or values.min() < 0:
        raise RequestError(f"{what}: its values are not finite or below 0: {REMEDY}")
    if array.dtype.kind in "bf" and values.max() <= 1:
        values *= 255
    elif values.max() > 255:
        values /= values.max() / 255 if array.dtype.kind == "f" else 257  # 16 bit
    return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values, lossy


def _array(picture) -> np.ndarray:
    """A ``PIL.Image``, upright, with alpha where it has some; 16 bit stay what they are."""
    from PIL import ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        return np.array(picture.convert("RGBA"))
    if picture.mode.startswith(("I", "F")):
        return np.array(picture)
    return np.array(picture.convert("L" if picture.mode in ("1", "L") else "RGB"))


def _light_ground(pixels: np.ndarray) -> bool:
    """Whether the frame of a picture (H, W, 3) is light."""
    return bool((pixels[_frame(pixels)].min(axis=1) >= LIGHT).mean() >= LIGHT_SHARE)


def _alpha_tells(alpha: np.ndarray) -> bool:
    """Whether an alpha channel (H, W, 1) shows regions: not one level, nor a mere border around a picture."""
    border = _light_ground(alpha) and (alpha[_frame(alpha, 1)] < LIGHT).mean() > 0.5
    return bool(np.ptp(alpha) >= LEAST and not border)


def _frame(pixels: np.ndarray, width: int | None = None) -> np.ndarray:
    """Which pixels of a picture (H, W, ...) are in its frame of some pixels, (H, W) bool."""
    width = width or max(1, round(BAND * min(pixels.shape[:2])))
    frame = np.ones(pixels.shape[:2], bool)
    frame[width:-width, width:-width] = False
    return frame


def _levels(pixels: np.ndarray, light: bool) -> np.ndarray:
    """How far each pixel is from the ground, (H, W) in 0..255; coloured paint on white counts where none is dark."""
    if not light:
        return pixels.max(axis=2)
    dark = 255 - pixels.max(axis=2)
    return dark if np.ptp(dark) >= LEAST else 255 - pixels.min(axis=2)


def _colours(pixels: np.ndarray) -> int:
    values = pixels.round().astype(np.int64)
    return len(np.unique(values[..., 0] << 20 | values[..., 1] << 10 | values[..., 2]))


def _check_flat(levels: np.ndarray, painted: np.ndarray, light: bool, what: str) -> None:
    """Raise RequestError unless ground and paint are two flat colours, the ground near black, or white."""
    import cv2

    ground, paint = float(np.median(levels[~painted])), float(np.median(levels[painted]))
    flat = float(((abs(levels - ground) <= FLAT) | (abs(levels - paint) <= FLAT)).mean())
    areas = cv2.connectedComponents(painted.astype(np.uint8))[0] - 1
    paper = "white" if light else "black"
    if light and painted[_frame(painted)].mean() > 1 - LIGHT_SHARE:
        seen = "its frame is neither black nor white"
    elif ground > DARKEST_GROUND:
        seen = f"its ground is {ground:.0f} grey levels of 255 away from {paper}"
    elif flat < FLAT_SHARE:
        seen = f"only {100 * flat:.0f}% of its pixels are near the level of the ground or of the paint"
    elif areas > MOST_AREAS:
        seen = f"it has {areas} areas that do not touch"
    else:
        return
    raise RequestError(f"{what} looks like a photograph, or one with something painted on it, and not like a mask "
                       f"({seen}): {REMEDY}")
