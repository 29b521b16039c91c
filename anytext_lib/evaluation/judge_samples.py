"""Judge a model by its samples: sample images for given conditions, and read the lines on them."""

from __future__ import annotations

import warnings

import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.data.lines import BadLineWarning
from anytext_lib.evaluation import TextScores, score_texts
from anytext_lib.generation import sample_images
from anytext_lib.models.freezing import eval_mode
from anytext_lib.ocr.crops import crop_lines, readable_rows


def read_lines(images: torch.Tensor, batch: AnyTextBatch, readers: dict) -> tuple[list[str], dict[str, list[str]]]:
    """Wanted texts of the lines that can be cut out, and what each reader makes of them on ``images``.

    Args:
        images: (B, 3, H, W) in [-1, 1]. ``readers``: objects with ``read(crops) -> list[str]``, by name.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadLineWarning)
        lines = batch.lines.select(readable_rows(batch.lines, images, "skip"))
    if len(lines) == 0:
        return [], {name: [] for name in readers}
    crops = crop_lines(images.float(), lines)
    return lines.texts, {name: reader.read(crops) for name, reader in readers.items()}


def score_samples(model, batches, readers: dict, steps: int = 20, guidance: float = 1.0, seed: int = 0,
                  eta: float = 0.0) -> dict[str, TextScores]:
    """Sen.Acc and NED of each reader on images sampled for the conditions of ``batches``.

    The noise of an image depends on ``seed`` and its index in the data set.
    """
    wanted: list[str] = []
    read: dict[str, list[str]] = {name: [] for name in readers}
    with eval_mode(model):
        for batch in batches:
            places = [int(i) if i >= 0 else k for k, i in enumerate(batch.indices.tolist())]
            images = sample_images(model, batch, steps, guidance, seed, eta, places=places)
            texts, found = read_lines(images, batch, readers)
            wanted += texts
            for name in readers:
                read[name] += found[name]
    return {name: score_texts(texts, wanted) for name, texts in read.items()}
