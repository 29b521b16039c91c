"""The characters that UDiffText knows, as classes: 94 printable ones, and 0 for the end of a word or for no character.

The order is that of PARSeq and of upstream's label encoder (Python's ``string.printable`` without white space).
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import torch

from anytext_lib.errors import AnyTextError, OptionError

END = 0
PRINTABLE = string.digits + string.ascii_letters + string.punctuation


class UnknownCharacterError(AnyTextError, ValueError):
    """A text has characters that are no class."""


class Characters:
    """Texts to classes 1..N and back.

    Args:
        characters: the N characters, each once; by default ``PRINTABLE``.
    """

    def __init__(self, characters: str = PRINTABLE):
        if len(set(characters)) != len(characters) or not characters:
            raise OptionError(f"a character set names each character once, and at least one, got {characters!r}")
        self.characters = characters
        self._class = {character: i + 1 for i, character in enumerate(characters)}

    def __len__(self) -> int:
        """Number of classes, the 0 included."""
        return len(self.characters) + 1

    def encode(self, text: str) -> list[int]:
        """Classes of the characters.

        Raises:
            UnknownCharacterError: it names them. (Upstream's label encoder takes them for padding.)
        """
        unknown = "".join(dict.fromkeys(c for c in text if c not in self._class))
        if unknown:
            raise UnknownCharacterError(f"{text!r} has characters that are no class: {unknown!r}. Leave them out, or "
                                        "give a character set that has them")
        return [self._class[c] for c in text]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of classes up to the first 0."""
        text = ""
        for i in ids:
            if i == END:
                break
            text += self.characters[i - 1]
        return text

    def read(self, logits: torch.Tensor) -> list[str]:
        """The most likely text of each row of (B, T, N + 1) scores."""
        return [self.decode(row) for row in logits.argmax(dim=-1).tolist()]
