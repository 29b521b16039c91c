"""A small hand-made batch for tests of the model: two images, three lines, unless told otherwise."""

from __future__ import annotations

import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.data.lines import TextLines

BOXES = ((0, 4, 4, 60, 20), (0, 40, 34, 80, 20), (1, 10, 20, 50, 24))  # image, x, y, width, height


def make_batch(boxes=BOXES, images: int = 2, size: tuple[int, int] = (64, 128), editing=(), seed: int = 0,
               captions=None) -> AnyTextBatch:
    """Random pixels and glyphs; a caption names no line, a text caption has one ``*`` for each line of its image."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    index = [box[0] for box in boxes]
    positions, quads = torch.zeros(len(boxes), 1, height, width), torch.zeros(len(boxes), 4, 2)
    for i, (_, x, y, w, h) in enumerate(boxes):
        positions[i, 0, y : y + h, x : x + w] = 1
        quads[i] = torch.tensor([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    pictures = torch.rand(images, 3, height, width, generator=generator) * 2 - 1
    masked = torch.full_like(pictures, -1.0)
    for row in editing:
        masked[row] = pictures[row]
    flags = torch.zeros(images, dtype=torch.bool)
    flags[list(editing)] = True
    lines = TextLines(index, quads, [f"word {i}" for i in range(len(boxes))], ["Latin"] * len(boxes))
    stars = ["Texts are " + " , ".join("*" * index.count(row)) for row in range(images)]
    return AnyTextBatch(
        images=pictures, masked_images=masked, captions=captions or ["a sign", "two words on a wall"][:images],
        text_captions=stars, lines=lines,
        glyph_lines=(torch.rand(len(boxes), 1, 80, 512, generator=generator) > 0.9).float(),
        glyphs=(torch.rand(images, 1, height, width, generator=generator) > 0.8).float(), positions=positions,
        colors=torch.full((len(boxes), 3), 500.0), font_hints=(
            torch.rand(images, 1, height, width, generator=generator) > 0.7).float(),
        invalid_mask=torch.zeros(images, 1, height, width), editing=flags,
        names=[f"{row}.png" for row in range(images)], indices=torch.arange(images))
