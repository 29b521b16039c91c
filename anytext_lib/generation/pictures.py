"""Pictures that were given as files, arrays or ``PIL.Image``: read, measured, named."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.data import pictures
from anytext_lib.generation.request import RequestError


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


def source_record(source: Any) -> dict | None:
    """Where a picture comes from, to be found again: {"path", "sha256"}, the hash of its pixels; the path is None for
    an array."""
    if source is None:
        return None
    path = str(Path(source).resolve()) if isinstance(source, str | os.PathLike) else None
    return {"path": path, "sha256": pixel_hash(read_picture(source, "picture"))}


def pixel_hash(picture: np.ndarray) -> str:
    """SHA-256 of a picture's shape and pixels."""
    return hashlib.sha256(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()
