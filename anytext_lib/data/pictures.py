"""Picture files: their names below a data root, and the one way in which the library turns them into pixels.

Pixels are those that a viewer shows, because polygons are drawn there:

- turned upright as its EXIF orientation says; of a picture with several frames or pages the first;
- transparent parts over white; palettes, grey, CMYK and the like as RGB;
- 16-bit grey divided by 257; 32-bit integers in 0..65535 likewise; floating point in [0, 1] times 255.

At most ``MOST_PIXELS`` pixels are decoded; a larger picture, which may be a decompression bomb, is refused by its head.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from anytext_lib.errors import AnyTextError

MOST_PIXELS = 51_000_000  # what a camera of 50 megapixels takes: 0.15 GB in RGB, up to 0.8 GB while it is decoded
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM")
"""Formats that are read. Those that run another program or describe drawings (EPS, PDF, WMF) are not."""
_TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
          7: "TRANSVERSE", 8: "ROTATE_90"}  # EXIF orientation to what shows the picture upright
_ORIENTATION = 0x0112
_LONGEST_NAME = 255  # bytes of a part of a path, the most that common file systems take


class PictureError(AnyTextError, ValueError):
    """A picture cannot be read; the message says why and what to do, and does not name the file."""


class PictureNameError(AnyTextError, ValueError):
    """A name cannot be that of a picture below the data root; the message goes on after the name of the field."""


def read_picture(source: bytes | str | os.PathLike) -> np.ndarray:
    """The picture in a file, or in the bytes of one, as the module says: (H, W, 3) uint8, RGB, upright.

    Raises:
        PictureError: there is no such file, it is no picture, damaged, too large, or has values without a known range.
    """
    with _opened(source) as picture:
        return np.array(upright_rgb(picture))


def picture_size(source: bytes | str | os.PathLike) -> tuple[int, int]:
    """(width, height) of the upright picture in pixels, from the head of the file.

    Raises:
        PictureError: as ``read_picture``, as far as the head tells.
    """
    with _opened(source) as picture:
        turned = picture.format != "TIFF" and _orientation(picture) >= 5  # Pillow turns the size of a TIFF itself
        return picture.size[::-1] if turned else picture.size


def decode_picture(source: bytes | str | os.PathLike) -> tuple[np.ndarray | None, str]:
    """(``read_picture`` of ``source``, ''), or (None, why it cannot be read), for callers that count failures."""
    try:
        return read_picture(source), ""
    except PictureError as error:
        return None, str(error)


def upright_rgb(picture):
    """A ``PIL.Image`` of any mode as one in RGB, upright, as the module says; the given one is left as it is.

    Raises:
        PictureError: its values have no known range, or it is too large.
    """
    from PIL import Image

    check_size(*picture.size)
    picture.load()
    turn = _TURNS.get(_orientation(picture))
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = Image.fromarray(_eight_bits(np.asarray(picture), picture.mode))
    if picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        paper = Image.new("RGB", picture.size, (255, 255, 255))
        paper.paste(picture, mask=picture.getchannel("A"))
        picture = paper
    picture = picture.convert("RGB")
    return picture.transpose(Image.Transpose[turn]) if turn else picture


def check_size(width: int, height: int) -> None:
    """Raise PictureError if a picture has more than ``MOST_PIXELS`` pixels."""
    if width * height > MOST_PIXELS:
        raise PictureError(f"it has {width} x {height} pixels, and at most {MOST_PIXELS // 10**6} million are read; "
                           "make it smaller")


@contextlib.contextmanager
def _opened(source: bytes | str | os.PathLike) -> Iterator:
    """A ``PIL.Image`` that is not decoded yet; whatever a damaged file makes Pillow raise becomes a PictureError."""
    from PIL import Image, UnidentifiedImageError

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is lower, and an error
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else Path(source), formats=FORMATS) as file:
            check_size(*file.size)
            yield file
    except PictureError:
        raise
    except FileNotFoundError:
        raise PictureError("there is no such file; restore the picture, or correct its name") from None
    except UnidentifiedImageError:
        raise PictureError(f"it is not a picture of a known format ({', '.join(FORMATS)}); save it as PNG or "
                           "JPEG") from None
    except Image.DecompressionBombError:
        raise PictureError(f"it has more than the {MOST_PIXELS // 10**6} million pixels that are read; make it "
                           "smaller") from None
    except MemoryError:
        raise PictureError("there is not enough memory for it; make it smaller") from None
    except Exception as error:  # decoders answer damaged files with errors of many kinds
        raise PictureError(f"it cannot be decoded ({type(error).__name__}: {error}); restore the picture, or save "
                           "it anew as PNG or JPEG") from error


def _orientation(picture) -> int:
    """EXIF orientation 1..8; 1, as stored, where the file says none or its EXIF data are damaged."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data raise errors of many kinds, and say nothing
        return 1


def _eight_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """(H, W) uint8 of a grey picture with more bits a pixel."""
    low, high = float(values.min()), float(values.max())  # NaN if one value is
    if mode.startswith("I;16"):
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if mode == "I" and (low == high == 0 or 0 <= low and 255 < high <= 65535):
        return ((values + 128) // 257).astype(np.uint8)
    if mode == "F" and 0 <= low and high <= 1:
        return (values * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    known = "[0, 1]" if mode == "F" else "0..65535, some above 255"
    kind = "floating-point numbers" if mode == "F" else "integers"
    raise PictureError(f"its {kind} go from {low:g} to {high:g}, and such pictures are read with values in {known}; "
                       "save it with 8 bits a channel")


def clean_name(name: str) -> str:
    """The name of a picture relative to its folder, with ``/`` between folders (Windows writes ``\\``).

    Raises:
        PictureNameError: it is empty, absolute, an address, leads out by ``..``, or no file can have it.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name):
        raise PictureNameError(f"is an address, {name!r}: download the picture and give its path below data_root")
    clean = name.replace("\\", "/")
    if clean.startswith("/") or re.match(r"[A-Za-z]:", clean):
        raise PictureNameError(f"is an absolute path, {name!r}: give the path below data_root, and set data_root")
    if ".." in clean.split("/"):
        raise PictureNameError(f"leads out of data_root, {name!r}: give a path below it, or set data_root to the "
                               "folder that holds all pictures")
    try:
        lengths = [len(part.encode("utf-8")) for part in clean.split("/")]
    except UnicodeEncodeError:
        lengths = [_LONGEST_NAME + 1]
    if not clean or not clean.isprintable() or max(lengths) > _LONGEST_NAME:
        raise PictureNameError("must be the path of the picture below data_root, in printable characters and at most "
                               f"{_LONGEST_NAME} bytes between slashes, got {name[:60]!r}")
    return clean


def locate(root: Path, name: str) -> Path:
    """Path of the picture ``name`` (from ``clean_name``): ``root / name``, or its NFC or NFD form if that exists.

    macOS lists file names in the form NFD, and other systems keep what they were given.
    """
    path = root / name
    if name.isascii() or path.exists():
        return path
    forms = (root / unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return next((other for other in forms if other.exists()), path)


def require_inside(root: Path, path: Path) -> None:
    """Raise PictureError if ``path`` leads out of ``root`` by a symbolic link."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # a circle of links
        raise PictureError(f"it cannot be found ({error}): restore the picture") from error
    if not target.is_relative_to(root.resolve()):
        raise PictureError(f"it is a link to {target}, outside of {root}: put the picture into that folder, or set "
                           "data_root to the folder that holds all pictures")
