"""One training sample as arrays, a batch of samples as tensors, and the conversion between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch

from anytext_lib.data.lines import TextLines


@dataclass(frozen=True)
class Sample:
    """One image with all text conditions of AnyText2; L lines, arrays are owned by the sample.

    Attributes:
        image: (H, W, 3) uint8, RGB. ``masked_image``: (H, W, 3) uint8; editing: the image with the lines' regions
            black; generation: black everywhere.
        caption: of the image, at most 128 words. ``text_caption``: a phrase with one ``*`` for each line.
        texts, languages: L strings each; languages as in the file, 'Chinese' split into Chinese_sim and Chinese_tra.
        quads: (L, 4, 2) float32, pixels, the boxes of the position masks.
        glyph_lines: (L, 80, 512) uint8 in {0, 1}, each text alone, as large as fits.
        glyphs: (gH, gW, 3) uint8, RGB, all lines drawn into their polygons in their colours on black; gH = s H.
        positions: (L, H, W) uint8 in {0, 1}. ``colors``: (L, 3) float32 in 0..255, or 500 where not known.
        font_hint: (H, W) uint8 in {0, 1}, ink of the lines, zero if there is no hint.
        invalid_mask: (H, W) uint8 in {0, 1}. ``editing``: whether this is an editing sample.
        name: file name of the image. ``index``: its place in the data set.
        dropped: why lines were left out of the sample (no font has the text, no area); they are in the invalid mask.
        skipped: pictures that could not be read and in whose place this one was taken, with the reason.
        regions: (n, H, W) uint8 in {0, 1}, of the n characters of the one line; None where they are not known.
    """

    image: np.ndarray
    masked_image: np.ndarray
    caption: str
    text_caption: str
    texts: list[str]
    languages: list[str]
    quads: np.ndarray
    glyph_lines: np.ndarray
    glyphs: np.ndarray
    positions: np.ndarray
    colors: np.ndarray
    font_hint: np.ndarray
    invalid_mask: np.ndarray
    editing: bool = False
    name: str = ""
    index: int = -1
    dropped: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    regions: np.ndarray | None = None


@dataclass(frozen=True)
class AnyTextBatch:
    """A batch of B images of one size and their L lines, flat. Floats are float32.

    Attributes:
        images, masked_images: (B, 3, H, W) in [-1, 1], RGB. ``captions``, ``text_captions``: B strings.
        lines: L lines, image by image, in the order of the ``*`` of the text captions (image_index says whose).
        glyph_lines: (L, 1, 80, 512) in {0, 1}. ``glyphs``: (B, 1, gH, gW) in {0, 1}, union of the lines' ink.
        positions: (L, 1, H, W) in {0, 1}. ``colors``: (L, 3) in 0..255, or 500.
        font_hints: (B, 1, H, W) in {0, 1}. ``invalid_mask``: (B, 1, H, W) in {0, 1}.
        editing: (B,) bool. ``names``: B strings. ``indices``: (B,) int64.
        dropped, skipped: the reports of all samples, for training to count and show.
        regions: (B, J, H, W) in {0, 1}, of the characters of each image's one line, at most J; None unless all samples
            know them.
    """

    images: torch.Tensor
    masked_images: torch.Tensor
    captions: list[str]
    text_captions: list[str]
    lines: TextLines
    glyph_lines: torch.Tensor
    glyphs: torch.Tensor
    positions: torch.Tensor
    colors: torch.Tensor
    font_hints: torch.Tensor
    invalid_mask: torch.Tensor
    editing: torch.Tensor
    names: list[str]
    indices: torch.Tensor
    dropped: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    regions: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> AnyTextBatch:
        """The batch with its tensors on ``device``; what the host reads stays where it is: the geometry of the lines,
        ``editing`` and ``indices``."""
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return replace(moved, editing=self.editing, indices=self.indices)

    def pin_memory(self) -> AnyTextBatch:
        """The batch in page-locked memory (what a DataLoader with ``pin_memory`` calls)."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, function) -> AnyTextBatch:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: function(value) for name, value in tensors.items()
                                if isinstance(value, torch.Tensor)})


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
        skipped=[reason for s in samples for reason in s.skipped], regions=_regions(samples))


def _regions(samples: Sequence[Sample]) -> torch.Tensor | None:
    """(B, J, H, W) float32, J of the longest word; None if a sample with a line has none."""
    known = [s.regions for s in samples if s.texts]
    if not known or any(regions is None for regions in known):
        return None
    longest = max(len(regions) for regions in known if regions is not None)
    result = torch.zeros(len(samples), longest, *samples[0].image.shape[:2])
    for row, sample in zip(result, samples, strict=True):
        if sample.regions is not None:
            row[: len(sample.regions)].copy_(torch.from_numpy(sample.regions))
    return result


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


def to_tensor(image: np.ndarray | Sequence[np.ndarray]) -> torch.Tensor:
    """uint8 picture (H, W, 3), or several of one size, to float32 (B, 3, H, W) in [-1, 1], RGB.

    The scale is that of AnyText2's data: x / 127.5 - 1.
    """
    images = [image] if isinstance(image, np.ndarray) and image.ndim == 3 else list(image)
    for i, one in enumerate(images):
        if not isinstance(one, np.ndarray) or one.dtype != np.uint8 or one.ndim != 3 or one.shape[2] != 3:
            found = f"{one.dtype} {one.shape}" if isinstance(one, np.ndarray) else type(one).__name__
            raise ValueError(f"picture {i} must be a uint8 array of shape (H, W, 3), got {found}")
    if len({one.shape for one in images}) != 1:
        raise ValueError(f"the pictures of a batch have one size, got {[one.shape for one in images]}")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


def to_uint8(images: torch.Tensor) -> list[np.ndarray]:
    """(B, 3, H, W) or (3, H, W) in [-1, 1] to B arrays (H, W, 3) uint8; values outside are clipped."""
    if images.ndim == 3:
        images = images[None]
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images have shape (B, 3, H, W), got {tuple(images.shape)}")
    pixels = images.detach().float().cpu().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return list(pixels.permute(0, 2, 3, 1).contiguous().numpy())
