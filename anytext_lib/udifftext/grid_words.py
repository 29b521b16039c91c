"""Words on a grid: the simplest pictures in which a small UDiffText can learn to spell, within minutes on one core.

Three to five capitals of one font with equal widths, dark on a flat light ground, each letter in a cell of 20 x 28
pixels whose corner falls on the grid of the latents (4 pixels). A letter therefore looks the same to the network
wherever it stands: what remains to be learnt is what this course is about, which letter belongs into which cell.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from anytext_lib.data.batch import AnyTextBatch, to_tensor
from anytext_lib.data.fonts import pil_font
from anytext_lib.data.lines import TextLines
from anytext_lib.scenes.words import split_of, words_of
from anytext_lib.udifftext.model import UDiffTextModel, WordConditions

SIZE = (32, 112)
CELL = (28, 20)
STEP = 4
"""Height and width of the pictures and of a letter's cell, and the grid of their corners, in pixels."""
FONT, POINTS, BASELINE, INK = "JetBrainsMono", 33, 26, 30
LETTERS = (3, 5)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class GridWord:
    """A word, the corner (x, y) of its first cell in pixels, and the colour of the ground (RGB, 0..255)."""

    text: str
    corner: tuple[int, int]
    ground: tuple[int, int, int]


def real_words(split: str) -> list[str]:
    """The course's words of three to five letters of a split ("train", "validation", "test"), in capitals."""
    return [word.upper() for word in words_of(split) if LETTERS[0] <= len(word) <= LETTERS[1]]


def draw_words(count: int, split: str, seed: int, invented: float = 0.5) -> list[GridWord]:
    """Words with places and colours; the same for the same arguments.

    Args:
        invented: share of random letters instead of real words; they fall into the split by their hash, so that no
            word of "train" is held out.  With 0, every real word is drawn before one comes again.
    """
    rng, words = np.random.default_rng([seed, 41]), []
    known = real_words(split)
    order = [known[i] for _ in range(count // len(known) + 1) for i in rng.permutation(len(known))]
    for i in range(count):
        text = _invent(rng, split) if rng.random() < invented else order[i]
        room = (SIZE[1] - CELL[1] * len(text)) // STEP, (SIZE[0] - CELL[0]) // STEP
        corner = tuple(int(STEP * rng.integers(free + 1)) for free in room)
        words.append(GridWord(text, corner, tuple(int(c) for c in rng.integers(170, 256, 3))))
    return words


def _invent(rng: np.random.Generator, split: str) -> str:
    while True:
        text = "".join(ALPHABET[i] for i in rng.integers(len(ALPHABET), size=rng.integers(LETTERS[0], LETTERS[1] + 1)))
        if split_of(text) == split:
            return text


@functools.cache
def _letter(character: str) -> np.ndarray:
    """Ink (28, 20) in [0, 1] of a character in the middle of its cell."""
    from PIL import Image, ImageDraw

    cell, font = Image.new("L", CELL[::-1]), pil_font(FONT, POINTS)
    ImageDraw.Draw(cell).text((CELL[1] / 2, BASELINE), character, fill=255, font=font, anchor="ms")
    return np.asarray(cell, np.float32) / 255


def render(word: GridWord) -> np.ndarray:
    """The picture of a word, (32, 112, 3) uint8, RGB."""
    picture = np.tile(np.asarray(word.ground, np.float32), (*SIZE, 1))
    x, y = word.corner
    for j, character in enumerate(word.text):
        cell = picture[y : y + CELL[0], x + j * CELL[1] : x + (j + 1) * CELL[1]]
        cell += (INK - cell) * _letter(character)[..., None]
    return np.rint(picture).astype(np.uint8)


def grid_batch(words: Sequence[GridWord]) -> AnyTextBatch:
    """The words as a batch for ``UDiffTextModel.conditions`` and ``write_words``; AnyText2's own fields are empty."""
    count = len(words)
    quads, positions = torch.zeros(count, 4, 2), torch.zeros(count, 1, *SIZE)
    for i, word in enumerate(words):
        (x, y), width = word.corner, CELL[1] * len(word.text)
        positions[i, :, y : y + CELL[0], x : x + width] = 1
        quads[i] = torch.tensor([[x, y], [x + width, y], [x + width, y + CELL[0]], [x, y + CELL[0]]])
    images = to_tensor([render(word) for word in words])
    lines = TextLines(torch.arange(count), quads, [word.text for word in words], ["Latin"] * count)
    none = torch.zeros(count, 1, *SIZE)
    return AnyTextBatch(images, torch.where(positions > 0, -1.0, images), [""] * count, [""] * count, lines,
                        torch.zeros(count, 1, 1, 1), none, positions, torch.full((count, 3), 500.0), none, none,
                        torch.ones(count, dtype=torch.bool), [word.text for word in words], torch.arange(count))


def cell_segments(words: Sequence[GridWord], max_length: int) -> torch.Tensor:
    """Region (N, max_length, 32, 112) in {0, 1} of each character: its cell."""
    segments = torch.zeros(len(words), max_length, *SIZE)
    for i, word in enumerate(words):
        x, y = word.corner
        for j in range(len(word.text)):
            segments[i, j, y : y + CELL[0], x + j * CELL[1] : x + (j + 1) * CELL[1]] = 1
    return segments


def grid_conditions(model: UDiffTextModel, words: Sequence[GridWord],
                    labels: list[str] | None = None) -> WordConditions:
    """What the model is told of the words, with the cells as the characters' regions (``labels``: other letters)."""
    told = model.conditions(grid_batch(words), labels)
    return replace(told, segments=cell_segments(words, told.valid.shape[1]).to(told.mask))
