"""Samples to a batch: tensors, and lines flat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from anytext_lib.data.batch import AnyTextBatch, Sample
from anytext_lib.data.lines import TextLines


def collate(samples: Sequence[Sample]) -> AnyTextBatch:
    """Join samples of one size; the lines of all images follow each other, without padding.

    Raises:
        ValueError: no sample, or samples of different sizes.
    """
    samples = list(samples)
    if not samples:
        raise ValueError("a batch needs at least one sample")
    if len({(s.image.shape, s.glyphs.shape) for s in samples}) != 1:
        found = [(s.name, s.image.shape, s.glyphs.shape) for s in samples]
        raise ValueError(f"the samples of a batch have one size, got {found}: set image_size")
    rows = [i for i, s in enumerate(samples) for _ in s.texts]
    lines = TextLines(torch.tensor(rows, dtype=torch.int64), _cat(samples, "quads"),
                      sum((s.texts for s in samples), []), sum((s.languages for s in samples), []))
    return AnyTextBatch(
        images=_pictures([s.image for s in samples]), masked_images=_pictures([s.masked_image for s in samples]),
        captions=[s.caption for s in samples], text_captions=[s.text_caption for s in samples], lines=lines,
        glyph_lines=_cat(samples, "glyph_lines")[:, None],
        glyphs=_stack([(s.glyphs[..., 0] | s.glyphs[..., 1] | s.glyphs[..., 2]) > 0 for s in samples]),
        positions=_cat(samples, "positions")[:, None], colors=_cat(samples, "colors"),
        font_hints=_stack([s.font_hint for s in samples]), invalid_mask=_stack([s.invalid_mask for s in samples]),
        editing=torch.tensor([s.editing for s in samples]), names=[s.name for s in samples],
        indices=torch.tensor([s.index for s in samples], dtype=torch.int64),
        dropped=[reason for s in samples for reason in s.dropped],
        skipped=[reason for s in samples for reason in s.skipped])


def _pictures(images: list[np.ndarray]) -> torch.Tensor:
    """(B, 3, H, W) float32 in [-1, 1]: x / 127.5 - 1, as ``to_tensor``."""
    result = torch.empty(len(images), 3, *images[0].shape[:2])
    for row, image in zip(result, images, strict=True):
        if image.any():
            row.copy_(torch.from_numpy(image).permute(2, 0, 1)).div_(127.5).sub_(1)
        else:  # the masked image of a generation sample
            row.fill_(-1)
    return result


def _stack(masks: list[np.ndarray]) -> torch.Tensor:
    """(B, 1, H, W) float32."""
    result = torch.empty(len(masks), 1, *masks[0].shape)
    for row, mask in zip(result, masks, strict=True):
        row[0].copy_(torch.from_numpy(mask))
    return result


def _cat(samples: Sequence[Sample], name: str) -> torch.Tensor:
    """Arrays of all samples one after the other, float32."""
    arrays = [getattr(s, name) for s in samples]
    result = torch.empty(sum(map(len, arrays)), *arrays[0].shape[1:])
    start = 0
    for array in arrays:
        result[start : start + len(array)].copy_(torch.from_numpy(array))
        start += len(array)
    return result
