"""Save what the application made, with all settings, so that `anytext generate --from` makes it again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.files import require_writable
from anytext_lib.generation.input_images import pixel_hash
from anytext_lib.generation.metadata import model_record, write_png
from anytext_lib.generation.request import Request


def save_picture(image: np.ndarray, record: dict[str, Any], request: Request, folder: Path,
                 model: Path | None) -> list[Path]:
    """Write an image (H, W, 3) uint8 as PNG, and beside it the pictures that it was made from and that no file holds.

    Nothing is replaced: a name that is taken gets a number.

    Args:
        record: of the image, see ``metadata.make_record``. ``request``: its pictures are arrays.
        model: the folder of the model; None: the record does not say which it was.

    Returns:
        The files, the image first.

    Raises:
        OutputError: the folder cannot be written.
    """
    require_writable(folder, "another folder in the field “save in”")
    record = copy.deepcopy(record)
    if model is not None:
        record["model"] = model_record(model)
    name = f"{'picture' if request.image is None else 'edited'}_{record['seeds'][record['place']]}"
    stem = next(stem for stem in (name, *(f"{name}_{i}" for i in range(2, 10**6)))
                if not list(folder.glob(f"{stem}.png")))
    written = [folder / f"{stem}.png"]
    arrays = {pixel_hash(each): each for each in (request.image, *(line.style_image for line in request.lines))
              if isinstance(each, np.ndarray)}
    places = [record["request"]["image"], *(line["style_image"] for line in record["request"]["lines"])]
    for source in filter(None, places):
        if source["path"] is None:
            kind = "source" if source is places[0] else "letters"
            target = folder / f"{stem}_{kind}_{source['sha256'][:8]}.png"
            if target not in written:
                _write(arrays[source["sha256"]], target)
                written.append(target)
            source["path"] = str(target.resolve())
    write_png(image, record, written[0])
    return written


def _write(array: np.ndarray, path: Path) -> None:
    from PIL import Image

    from anytext_lib.files import atomic_path

    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, format="PNG")
