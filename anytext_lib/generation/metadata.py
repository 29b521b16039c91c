"""All settings of an image, inside its PNG file, so that it can be made again bit for bit."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anytext_lib.files import atomic_path, file_hash
from anytext_lib.generation.denoise import describe
from anytext_lib.generation.input_images import pixel_hash, read_picture, source_record
from anytext_lib.generation.request import Line, Request, RequestError, Settings, from_mapping
from anytext_lib.models.storage import CONFIG

FORMAT = "anytext_lib.picture/1"
KEY = "anytext"  # of the text chunk of the PNG file
NEEDED = ("request", "settings", "scheduler", "seeds", "place", "alone", "computed")


def make_record(pipeline, items: Sequence, settings: Settings, batch: Sequence, place: int) -> dict[str, Any]:
    """Everything that image ``place`` of a batch depends on, fit for JSON.

    Images that are sampled together may differ in the last bit from the same ones alone: so the record holds the seeds
    of the whole batch, and whether it was of one request only.

    Args:
        items: the prepared requests of the batch, one for each image. ``batch``: its jobs.
    """
    item = items[place]
    return {
        "format": FORMAT, "request": request_record(item), "settings": asdict(settings),
        "scheduler": describe(pipeline.scheduler), "seeds": [job.seed for job in batch], "place": place,
        "alone": all(other is item for other in items),
        **({"adaptation": pipeline.adapter.adaptation.record()} if pipeline.adapter.reports else {}),
        "computed": computed(pipeline),
    }


def computed(pipeline) -> dict[str, Any]:
    """Device, precision and versions that a pipeline computes with."""
    device = pipeline.placement.device
    return {"device": _device_name(device), "dtype": str(pipeline.model.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads() if device.type == "cpu" else None,
            "offload": pipeline.placement.offload is not None, "torch": torch.__version__,
            "diffusers": _version("diffusers")}


def request_record(item) -> dict[str, Any]:
    """A prepared request as plain data; pictures by path and hash."""
    request = item.request
    found = {field.name: getattr(request, field.name) for field in fields(Request)
             if field.name not in ("lines", "mask", "image")}
    found["glyph_font"] = _absolute(request.glyph_font)
    lines = [{field.name: getattr(line, field.name) for field in fields(Line)} for line in request.lines]
    for line in lines:
        line["font"] = _absolute(line["font"])
        if line["style_image"] is not None:
            line["style_image"] = source_record(line["style_image"])
        if line["color"] is not None and not isinstance(line["color"], str):
            line["color"] = [int(value) for value in line["color"]]
    return found | {"lines": lines, "image": item.source}


def restore_request(record: dict[str, Any], image: str | os.PathLike | None = None) -> Request:
    """The request of a record; RequestError if one of its pictures is not there any more, or has changed.

    Args:
        image: where the picture to edit lies now.
    """
    values = dict(record)
    lines = []
    for i, line in enumerate(values.pop("lines")):
        style = _found_again(line["style_image"], None, f"line {i + 1} ({line['text']!r}): its style image")
        lines.append(from_mapping(Line, line | {"style_image": style}, "the image's settings"))
    source = _found_again(values.pop("image"), image, "the picture that was edited")
    return from_mapping(Request, values | {"lines": lines, "image": source}, "the image's settings")


def write_png(image, record: dict[str, Any], path: str | os.PathLike) -> None:
    """Write an image, (H, W, 3) uint8 or ``PIL.Image``, as PNG with its record."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(KEY, json.dumps(record, ensure_ascii=False), zip=True)
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=info)


def read_record(path: str | os.PathLike) -> dict[str, Any]:
    """The record of a PNG file; RequestError if it has none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            picture.load()
            text = getattr(picture, "text", {}).get(KEY)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise RequestError(f"cannot read the picture {path}: {error}") from error
    if text is None:
        raise RequestError(f"{path} holds no settings: it was not written by `anytext generate` or `anytext edit`, or "
                           "another program has saved it since")
    try:
        record = json.loads(text)
        form, missing = record.get("format"), [name for name in NEEDED if name not in record]
    except (ValueError, AttributeError) as error:
        raise RequestError(f"{path}: its settings are damaged ({error}): take the file as it was written") from error
    if form != FORMAT or missing:
        raise RequestError(f"{path} has settings of the form {form!r}{' without ' * bool(missing)}{', '.join(missing)}"
                           f", this version reads {FORMAT!r}")
    return record


def model_record(folder: str | os.PathLike) -> dict[str, str]:
    """A model's folder and the hash of its configuration, weights and tokenizer (not of its defaults)."""
    root = Path(folder).resolve()
    files = [root / CONFIG, *sorted([*root.glob("*/*.safetensors"), *root.glob("tokenizer/*")])]
    return {"folder": str(root), "sha256": _joined_hash(
        tuple((str(path.relative_to(root)), str(path), path.stat().st_mtime_ns) for path in files))}


def differences(record: dict[str, Any], pipeline) -> list[str]:
    """List the differences between a pipeline and the one that made an image; with any, bits may differ."""
    now = computed(pipeline)
    found = [f"{name} was {old!r} and is {now[name]!r} now" for name, old in record["computed"].items()
             if now.get(name) != old]
    if not record["alone"]:
        found.append("it was sampled together with other requests")
    return found


def _absolute(font: str | None) -> str | None:
    """A font file by its full path; a name stays a name."""
    return os.path.abspath(font) if font is not None and os.path.isfile(font) else font


def _found_again(source: dict | None, moved: str | os.PathLike | None, what: str) -> Path | None:
    if source is None:
        return None
    path = moved or source["path"]
    if path is None:
        raise RequestError(f"{what} was given as an array, which is not stored: save it as a file and make the picture "
                           "from that")
    if not Path(path).is_file():
        raise RequestError(f"{what} is not at {path} any more: put it back, or name its new place")
    if pixel_hash(read_picture(path, what)) != source["sha256"]:
        raise RequestError(f"{what}, {path}, has changed since: find the old version, or make a new picture")
    return Path(path)


@functools.lru_cache(maxsize=16)
def _joined_hash(files: tuple[tuple[str, str, int], ...]) -> str:
    joined = hashlib.sha256()
    for name, path, _ in files:
        joined.update(f"{name} {file_hash(path)}\n".encode())
    return joined.hexdigest()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
