"""Decode pictures, with the reason when it cannot be done."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np


def decode_picture(source: bytes | str | os.PathLike) -> tuple[np.ndarray | None, str]:
    """((H, W, 3) uint8 RGB, '') of a picture file or its bytes, or (None, why it cannot be decoded)."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else Path(source)) as picture:
            return np.array(picture.convert("RGB")), ""
    except UnidentifiedImageError:
        return None, "it is not a picture of a known format"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return None, str(error)


def picture_size(path: str | os.PathLike, decode: bool = True) -> tuple[tuple[int, int] | None, str]:
    """((width, height), '') of a picture file, or (what is known of its size, why it cannot be read).

    Without ``decode`` only the head of the file is read.
    """
    from PIL import Image, UnidentifiedImageError

    size = None
    try:
        with Image.open(path) as picture:
            size = picture.size
            if decode:
                picture.convert("RGB")
    except UnidentifiedImageError:
        return None, "it is not a picture of a known format"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return size, str(error)
    return size, ""
