"""What a text accuracy depends on besides the writer: the same pictures cut or hung differently, pictures made to
please one reader, and pictures with their record of birth.

Nothing here is part of a measurement; it shows how far a measurement can be moved.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anytext_lib.data.anyword import AnnotatedImage, Annotation, write_anyword
from anytext_lib.evaluation.journal import Picture
from anytext_lib.losses.terms import ocr_loss

ANNOTATIONS = "test.json"


def grow_polygon(polygon: np.ndarray, margin: float) -> np.ndarray:
    """A polygon (P, 2) with a margin on all sides, in parts of the line's height; negative ones cut into the line.

    Sides and height are those of the smallest turned rectangle around it.

    Raises:
        ValueError: nothing is left of the polygon.
    """
    import cv2

    points = np.asarray(polygon, np.float64)
    rectangle = cv2.minAreaRect(points.astype(np.float32))
    centre, sides, degrees = np.array(rectangle[0]), np.array(rectangle[1]), rectangle[2]
    grown = sides + 2 * margin * sides.min()
    if min(*sides, *grown) <= 0:
        raise ValueError(f"a margin of {margin:g} leaves nothing of a line of {sides[0]:.1f} x {sides[1]:.1f} pixels")
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    axes = np.array([[c, s], [-s, c]])  # rows: directions of the two sides
    return ((points - centre) @ axes.T * (grown / sides)) @ axes + centre


def with_margin(pictures: Sequence[Picture], margin: float) -> list[Picture]:
    """The same pictures with all lines' polygons grown by ``margin``, see ``grow_polygon``."""
    return [replace(picture, lines=tuple(replace(line, polygon=grow_polygon(line.polygon, margin))
                                         for line in picture.lines)) for picture in pictures]


def turned(image: np.ndarray, polygons: Sequence[np.ndarray], degrees: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture (H, W, 3) uint8 and its polygons turned clockwise about the centre, on a canvas that holds it all."""
    import cv2

    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    cos, sin = np.abs(matrix[0, :2])
    size = tuple(int(np.ceil(side - 1e-6)) for side in (width * cos + height * sin, width * sin + height * cos))
    matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    hung = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return hung, [np.asarray(polygon, np.float64) @ matrix[:, :2].T + matrix[:, 2] for polygon in polygons]


def write_changed(entries: Sequence[AnnotatedImage], folder: str | os.PathLike,
                  change: Callable[[np.ndarray, list[np.ndarray]], tuple[np.ndarray, list[np.ndarray]]]) -> Path:
    """A benchmark whose pictures and polygons went through ``change``; as PNG, so that nothing else happens to them.

    Returns:
        the annotation file in ``folder``.
    """
    from PIL import Image

    from anytext_lib.evaluation.journal import read_picture

    folder, rows = Path(folder), []
    folder.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        pixels, polygons = change(read_picture(entry.path), [line.polygon for line in entry.annotations])
        name = Path(entry.name).stem + ".png"
        Image.fromarray(pixels).save(folder / name)
        lines = [replace(line, polygon=polygon) for line, polygon in zip(entry.annotations, polygons, strict=True)]
        rows.append(replace(entry, path=folder / name, name=name, annotations=lines))
    write_anyword(folder / ANNOTATIONS, rows)
    return folder / ANNOTATIONS


def write_generated(output: Any, pipeline: Any, folder: str | os.PathLike) -> Path:
    """Generated pictures as a benchmark: an entry for each request, its pictures ``<stem>_0.png``, ``<stem>_1.png``.

    Every PNG holds its settings and the model's hash, so that an evaluation finds them by itself.

    Args:
        output: an ``AnyText2Output`` with arrays or ``PIL.Image``. ``pipeline``: that made it.

    Returns:
        the annotation file in ``folder``.
    """
    from anytext_lib.data.texts import guess_language
    from anytext_lib.generation.metadata import model_record, write_png

    folder, rows, counts = Path(folder), {}, {}
    folder.mkdir(parents=True, exist_ok=True)
    model = {} if pipeline.folder is None else {"model": model_record(pipeline.folder)}
    for image, record, picture in zip(output.images, output.records, output.pictures, strict=True):
        stem, request = f"item_{picture:04d}", record["request"]
        write_png(image, record | model, folder / f"{stem}_{counts.get(picture, 0)}.png")
        counts[picture] = counts.get(picture, 0) + 1
        lines = [Annotation(np.asarray(line["region"], np.float64), line["text"], guess_language(line["text"]))
                 for line in request["lines"]]
        rows[picture] = AnnotatedImage(folder / f"{stem}.png", f"{stem}.png", request["prompt"], lines)
    write_anyword(folder / ANNOTATIONS, [rows[key] for key in sorted(rows)])
    return folder / ANNOTATIONS


def please(recogniser: Any, start: torch.Tensor, wanted: torch.Tensor, steps: int, keep: Sequence[int] = (),
           learning_rate: float = 0.1) -> list[torch.Tensor]:
    """Pixels that come to please one reader: Adam on the OCR loss to the features of ``wanted``, nothing else.

    Args:
        recogniser: with ``features(crops)``, differentiable. ``start``, ``wanted``: (L, 3, 48, W) in [-1, 1].
        keep: steps at which the pictures are kept; by default the last one.

    Returns:
        the pictures (L, 3, 48, W) in [-1, 1] at each step of ``keep``.
    """
    keep = list(keep) or [steps]
    if start.shape != wanted.shape or not all(0 <= step <= steps for step in keep):
        raise ValueError(f"give a start for each picture wanted and steps to keep in 0..{steps}, got shapes "
                         f"{tuple(start.shape)} and {tuple(wanted.shape)}, steps {keep}")
    with torch.no_grad():
        target = recogniser.features(wanted)
    pixels, kept = start.detach().clone().requires_grad_(), {}
    adam = torch.optim.Adam([pixels], lr=learning_rate, betas=(0.8, 0.9))
    for step in range(steps + 1):
        x = pixels.clamp(-1, 1)
        if step in keep:
            kept[step] = x.detach().clone()
        if step < steps:
            adam.zero_grad()
            ocr_loss(recogniser.features(x), target).sum().backward()
            adam.step()
    return [kept[step] for step in keep]
