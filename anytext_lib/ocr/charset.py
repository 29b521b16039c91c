"""The classes of a CTC recogniser and the characters that they stand for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from anytext_lib.data.texts import normal_text

BLANK = 0


class Reading(NamedTuple):
    """What was read from one crop.

    ``confidence`` is in [0, 1]: the mean probability of the characters read, 0 if nothing was read.
    """

    text: str
    confidence: float


@dataclass(frozen=True)
class Charset:
    """Class 0 is the blank of CTC, 1 to N the ``characters`` in order, N + 1 the space.

    PP-OCR has N = 6623, hence 6625 classes.  A character that it does not know becomes the last class, the space:
    this is what AnyText2's training targets do (``cldm/recognizer.py``, ``get_text_ids``), so a text with unknown
    characters can never be read back exactly; ``unknown`` tells.  Texts are taken in their one normal form
    (``normal_text``): composed and decomposed letters (NFC, NFD) give the same classes, invisible characters
    (zero-width spaces, soft hyphens) none, and every other kind of space is the space.
    """

    characters: tuple[str, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        if not self.characters:
            raise ValueError("a character set needs at least one character")
        object.__setattr__(self, "characters", tuple(self.characters))
        index = {character: i for i, character in enumerate(self.characters, start=1)}
        object.__setattr__(self, "_index", {**index, " ": self.space})

    @classmethod
    def from_metadata(cls, lines: str) -> Charset:
        """From the ``character`` entry in the metadata of PP-OCR's ONNX files: one character a line."""
        return cls(tuple(lines.split("\n")))

    def __len__(self) -> int:
        """Number of classes, with blank and space."""
        return len(self.characters) + 2

    @property
    def space(self) -> int:
        """Class of the space and of every unknown character: the last one."""
        return len(self.characters) + 1

    def encode(self, text: str) -> list[int]:
        """Class of each character of ``text`` in its normal form; unknown characters become the last class."""
        return self.classes(normal_text(text))

    def classes(self, text: str) -> list[int]:
        """Class of each character of ``text`` as it stands: what upstream's NED compares."""
        return [self._index.get(character, self.space) for character in text]

    def unknown(self, text: str) -> list[str]:
        """The characters of ``text`` in its normal form that have no class of their own, each once, in order."""
        return list(dict.fromkeys(character for character in normal_text(text) if character not in self._index))

    def symbol(self, index: int) -> str:
        """The character of a class; '' for the blank."""
        if not 0 <= index < len(self):
            raise IndexError(f"class {index} is not one of the {len(self)} classes 0..{len(self) - 1}")
        if index == BLANK:
            return ""
        return " " if index == self.space else self.characters[index - 1]

    def decode(self, ids: Iterable[int]) -> str:
        """Greedy CTC decoding of one class per frame: merge repeats, then drop blanks."""
        ids = np.asarray([int(i) for i in ids], dtype=np.int64)
        return "".join(self.symbol(int(i)) for i in ids[kept_frames(ids)])

    def read_probabilities(self, probabilities: np.ndarray) -> list[Reading]:
        """Greedy readings of a batch: (L, frames, classes) probabilities -> L readings."""
        best, peak = probabilities.argmax(axis=-1), probabilities.max(axis=-1)
        return [self._reading(ids, p) for ids, p in zip(best, peak, strict=True)]

    def _reading(self, ids: np.ndarray, peak: np.ndarray) -> Reading:
        kept = kept_frames(ids)
        return Reading(self.decode(ids), float(peak[kept].mean()) if kept.any() else 0.0)


def kept_frames(ids: np.ndarray) -> np.ndarray:
    """Which frames (T,) bool carry a character: not blank, and not a repeat of the frame before."""
    ids = np.asarray(ids)
    return (ids != BLANK) & (np.append(-1, ids[:-1])[: len(ids)] != ids)
