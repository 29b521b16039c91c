"""Regions of single characters, from the box of their word: what the attention maps are held against.

Upstream takes them from a segmentation network; here a word's box is divided as the letters' widths in a plain font
divide it.  A letter may reach into its neighbour's part by a pixel or two, less than a position of a map.
"""

from __future__ import annotations

from itertools import accumulate

import torch

from anytext_lib.data.fonts import pil_font
from anytext_lib.data.lines import TextLines, polygon_mask
from anytext_lib.errors import AnyTextError

FONT = "OpenSans"


class ManyWordsError(AnyTextError, ValueError):
    """An image has more than one word."""


def labels_of(lines: TextLines, batch_size: int) -> list[str]:
    """The word of each image, "" where there is none.

    Raises:
        ManyWordsError: UDiffText writes one word at a time.
    """
    labels = [""] * batch_size
    for image, text in zip(lines.image_index.tolist(), lines.texts, strict=True):
        if labels[image]:
            raise ManyWordsError(f"image {image} has the words {labels[image]!r} and {text!r}, UDiffText writes one: "
                                 "set max_lines to 1")
        labels[image] = text
    return labels


def divisions(text: str) -> list[float]:
    """Where the characters of a word begin and end, len(text) + 1 shares of its width, from 0 to 1."""
    widths = [max(pil_font(FONT, 100).getlength(character), 1.0) for character in text]
    return [edge / sum(widths) for edge in accumulate(widths, initial=0.0)]


def character_quads(quad: torch.Tensor, text: str) -> torch.Tensor:
    """Boxes (n, 4, 2) of the n characters of a word with the box ``quad`` (4, 2): tl, tr, br, bl."""
    edges = torch.tensor(divisions(text), dtype=quad.dtype)[:, None]
    tl, tr, br, bl = quad
    top, bottom = tl + edges * (tr - tl), bl + edges * (br - bl)  # (n + 1, 2)
    return torch.stack([top[:-1], top[1:], bottom[1:], bottom[:-1]], dim=1)


def character_segments(lines: TextLines, batch_size: int, size: tuple[int, int],
                       max_length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Regions (B, max_length, H, W) in {0, 1} of the characters, and (B, max_length) which there are; on the CPU.

    Args:
        lines: one word an image at most, of at most ``max_length`` characters. ``size``: (H, W) in pixels.
    """
    labels_of(lines, batch_size)
    segments, valid = torch.zeros(batch_size, max_length, *size), torch.zeros(batch_size, max_length)
    for image, quad, text in zip(lines.image_index.tolist(), lines.quads, lines.texts, strict=True):
        for j, box in enumerate(character_quads(quad, text)[:max_length]):
            segments[image, j] = torch.as_tensor(polygon_mask(box.numpy(), size) > 0)
            valid[image, j] = 1
    return segments, valid
