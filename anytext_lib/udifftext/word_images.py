"""Words with near-identical companions, and pictures of them: the data of the label encoder's pre-training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from anytext_lib.data.batch import to_tensor
from anytext_lib.data.fonts import fonts_for
from anytext_lib.errors import OptionError
from anytext_lib.scenes.lettering import render_line
from anytext_lib.scenes.words import LETTERS, draw_word, split_of

SIZE = (48, 160)
"""Height and width of the pictures in pixels: seven letters at the height that PP-OCRv3 reads."""
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def near_word(word: str, rng: np.random.Generator) -> str:
    """A word one mistake away: a letter exchanged, two neighbours swapped, a letter dropped or doubled.

    Its length stays within that of the course's words; the spelling of the letter's place (upper or lower) is kept.
    """
    while True:
        i = int(rng.integers(len(word)))
        letter = ALPHABET[rng.integers(26)]
        changed = (word[:i] + (letter.upper() if word[i].isupper() else letter) + word[i + 1 :],
                   word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :],
                   word[:i] + word[i + 1 :], word[: i + 1] + word[i:])[rng.integers(4)]
        if changed.lower() != word.lower() and LETTERS[0] <= len(changed) <= LETTERS[1]:
            return changed


def draw_families(count: int, split: str, near: int, rng: np.random.Generator) -> list[list[str]]:
    """Families of words that differ everywhere: a word of a split first, then ``near`` words one mistake away.

    Args:
        split: see ``data.scene_words``; companions belong to the same split by their hash, so that no held-out word is
            trained on. Half of the words of "train" are made up.

    Raises:
        ValueError: the split has fewer words than asked for.
    """
    families, taken, failed = [], set(), 0
    while len(families) < count:
        family = [draw_word(rng, split, 0.5 if split == "train" else 0.0)]
        if family[0].lower() in taken:
            failed += 1
            if failed > 3000:
                raise OptionError(f"the split {split!r} has no {count} different words: it gave {len(families)}")
            continue
        failed = 0
        taken.add(family[0].lower())
        while len(family) <= near:
            companion = near_word(family[0], rng)
            if split_of(companion) == split and companion.lower() not in taken:
                taken.add(companion.lower())
                family.append(companion)
        families.append(family)
    return families


def draw_word_images(words: Sequence[str], rng: np.random.Generator, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """A picture of each word (N, 3, H, W) in [-1, 1]: any font of the course, dark on light, some tilt and noise."""
    pictures = []
    for word in words:
        names = fonts_for(word)
        ink, ground = rng.uniform(0, 90, 3), rng.uniform(180, 255, 3)
        pictures.append(render_line(word, names[rng.integers(len(names))], size, color=ink, background=ground,
                                    rotation=rng.uniform(-2, 2), offset=tuple(rng.uniform(-2, 2, 2)),
                                    blur=rng.uniform(0, 0.7), noise=rng.uniform(0, 8), seed=int(rng.integers(2**31))))
    return to_tensor(pictures)


@torch.no_grad()
def encode_images(images: torch.Tensor, encode: Callable[[torch.Tensor], torch.Tensor],
                  batch_size: int = 32) -> torch.Tensor:
    """Tokens (N, T, D) of pictures (N, 3, H, W) by a frozen encoder such as ``PPOCRv3Recognizer.features``."""
    return torch.cat([encode(part) for part in images.split(batch_size)])
