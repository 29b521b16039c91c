"""The words of the mini model: a split by hash, so that held-out words never occur in training, and invented words."""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict

import numpy as np

from anytext_lib.data.words import CHINESE_WORDS, LATIN_WORDS

SPLITS = {"train": range(4, 20), "validation": range(3, 4), "test": range(0, 3)}  # twentieths of the hash
LETTERS = (3, 7)  # fewest and most letters of a word
SPELLINGS = (0.35, 0.4, 0.25)  # shares of lower, Title and UPPER, as in ``draw_text``


def split_of(word: str) -> str:
    """The split of a word, whatever its spelling: 'train', 'validation' (5%) or 'test' (15%)."""
    place = int.from_bytes(hashlib.sha256(word.lower().encode()).digest()[:8]) % 20
    return next(name for name, places in SPLITS.items() if place in places)


@functools.cache
def words_of(split: str) -> tuple[str, ...]:
    """The real words of a split, 3 to 7 letters each, in the order of ``LATIN_WORDS``.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}: choose one of {', '.join(SPLITS)}")
    return tuple(word for word in LATIN_WORDS if LETTERS[0] <= len(word) <= LETTERS[1] and split_of(word) == split)


def draw_word(rng: np.random.Generator, split: str, invented: float = 0.0) -> str:
    """A word of a split in one of three spellings (lower, Title, UPPER).

    Args:
        invented: probability of a made-up word instead, for 'train' only: its letters follow one another as in the
            words of the split, and it falls into the same split by its hash.
    """
    words = words_of(split)
    word = _invent(rng, split) if rng.random() < invented else words[rng.integers(len(words))]
    return (word, word[0].upper() + word[1:], word.upper())[rng.choice(3, p=SPELLINGS)]


@functools.cache
def chinese_words_of(split: str) -> tuple[str, ...]:
    """The Chinese words of two characters of a split, in the order of ``CHINESE_WORDS``; ValueError as ``words_of``."""
    words_of(split)
    return tuple(word for word in CHINESE_WORDS if len(word) == 2 and split_of(word) == split)


def draw_chinese(rng: np.random.Generator, split: str, invented: float = 0.0) -> str:
    """A Chinese word of two characters of a split.

    Args:
        invented: probability of two characters of any such words instead, for 'train' only, that fall into the split by
            their hash: so every character of a held-out word is met in training.
    """
    if rng.random() >= invented:
        words = chinese_words_of(split)
        return words[rng.integers(len(words))]
    characters = _chinese_characters()
    while True:
        word = "".join(characters[i] for i in rng.integers(len(characters), size=2))
        if split_of(word) == split:
            return word


@functools.cache
def _chinese_characters() -> str:
    return "".join(dict.fromkeys("".join(word for split in SPLITS for word in chinese_words_of(split))))


def _invent(rng: np.random.Generator, split: str) -> str:
    """A random walk over pairs of letters, until its length is right and its hash says ``split``."""
    follows = _pairs(split)
    while True:
        letters, length = "", int(rng.integers(LETTERS[0], LETTERS[1] + 1))
        while len(letters) < length:
            choices = follows.get(letters[-1:]) or follows[""]
            letters += choices[rng.integers(len(choices))]
        if split_of(letters) == split and letters not in _all_words():
            return letters


@functools.cache
def _pairs(split: str) -> dict[str, str]:
    """For each letter ('' for the start) the letters that follow it, one for each pair and one for each letter."""
    follows: dict[str, str] = defaultdict(str)
    for word in words_of(split):
        for before, after in zip(" " + word.lower(), word.lower(), strict=False):
            follows[before.strip()] += after
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return {before: after + alphabet for before, after in follows.items()}


@functools.cache
def _all_words() -> frozenset[str]:
    return frozenset(word.lower() for word in LATIN_WORDS)
