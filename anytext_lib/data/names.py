"""Names of pictures in annotation files: below their folder, found on the disk however they were typed."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from anytext_lib.data.pictures import PictureError
from anytext_lib.errors import AnyTextError

_LONGEST = 255  # bytes of a part of a path, the most that common file systems take


class PictureNameError(AnyTextError, ValueError):
    """A name cannot be that of a picture below the data root; the message goes on after the name of the field."""


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
        lengths = [_LONGEST + 1]
    if not clean or not clean.isprintable() or max(lengths) > _LONGEST:
        raise PictureNameError("must be the path of the picture below data_root, in printable characters and at most "
                               f"{_LONGEST} bytes between slashes, got {name[:60]!r}")
    return clean


def locate(root: Path, name: str) -> Path:
    """Where the picture ``name`` (from ``clean_name``) lies: ``root / name``, or its NFC or NFD form if that is there.

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
