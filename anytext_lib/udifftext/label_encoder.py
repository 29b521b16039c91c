"""The label encoder: a word, character by character, as the context of the UNet's cross-attention.

A transformer over at most 12 characters with sinusoidal places; unused slots hold class 0 and are attended to like any
other, as upstream has it.  Token j of the context is character j: the attention to it can be told where to look.
Source: UDiffText, ``sgm/modules/encoders/modules.py`` (``LabelEncoder``).

Upstream freezes the weights but leaves the encoder in training mode, so that dropout keeps changing the context at
inference; a frozen encoder here stays in evaluation mode whatever its owner is told.
"""

from __future__ import annotations

import json
import math
import os
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from anytext_lib.errors import AnyTextError, MissingFileError, OptionError
from anytext_lib.files import atomic_path

# characters

END = 0  # of a word, or no character
PRINTABLE = string.digits + string.ascii_letters + string.punctuation
"""The 94 printable characters, in the order of PARSeq and of upstream's label encoder."""


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


# encoder

FORMAT = "anytext_lib.LabelEncoder"


class LabelEncoderError(AnyTextError, ValueError):
    """A label does not fit, or a file holds no label encoder."""


@dataclass(frozen=True)
class LabelEncoderConfig:
    """Sizes; the defaults are the official ones (302 M parameters).

    Attributes:
        max_length: most characters of a word. ``width``: of a token, and of the UNet's context.
        layers, heads, feedforward: of the transformer. ``dropout``: in training.
        characters: what can be written.
    """

    max_length: int = 12
    width: int = 2048
    layers: int = 12
    heads: int = 8
    feedforward: int = 2048
    dropout: float = 0.1
    characters: str = PRINTABLE

    @classmethod
    def mini(cls, **changes) -> LabelEncoderConfig:
        """The size of the mini model: 128 wide, .4 M parameters."""
        return cls(**{"width": 128, "layers": 3, "heads": 4, "feedforward": 256, "dropout": 0.0, **changes})


class LabelEncoder(nn.Module):
    """Words to context (B, max_length, width).

    Attributes:
        config: ``LabelEncoderConfig``. ``characters``: ``Characters``. ``frozen``: see ``freeze``.
    """

    def __init__(self, config: LabelEncoderConfig | None = None):
        super().__init__()
        self.config = config or LabelEncoderConfig()
        self.characters, self.frozen = Characters(self.config.characters), False
        c = self.config
        self.label_embedding = nn.Embedding(len(self.characters), c.width)
        self.register_buffer("places", sinusoids(c.max_length, c.width), persistent=False)
        self.dropout = nn.Dropout(c.dropout)
        layer = nn.TransformerEncoderLayer(c.width, c.heads, c.feedforward, c.dropout, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, c.layers, enable_nested_tensor=False)

    def classes(self, labels: Sequence[str]) -> torch.Tensor:
        """(B, max_length) int64 classes of the characters, 0 behind the last.

        Raises:
            LabelEncoderError: a label is too long.
            UnknownCharacterError: a label has a character that is no class.
        """
        rows = []
        for label in labels:
            if len(label) > self.config.max_length:
                raise LabelEncoderError(f"the label {label!r} has {len(label)} characters, the encoder takes at most "
                                        f"{self.config.max_length}: shorten it, or set max_length")
            ids = self.characters.encode(label)
            rows.append(ids + [0] * (self.config.max_length - len(ids)))
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, self.config.max_length).to(
            self.places.device, non_blocking=True)

    def forward(self, labels: Sequence[str] | torch.Tensor) -> torch.Tensor:
        """Context (B, max_length, width) of B labels, or of their classes (B, max_length)."""
        classes = labels if isinstance(labels, torch.Tensor) else self.classes(labels)
        return self.encoder(self.dropout(self.label_embedding(classes) + self.places))

    def valid(self, labels: Sequence[str]) -> torch.Tensor:
        """(B, max_length) float32, 1 where there is a character."""
        return (self.classes(labels) > 0).float()

    def freeze(self) -> LabelEncoder:
        """No gradient to the weights, and evaluation mode for good: dropout stays off."""
        self.frozen = True
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> LabelEncoder:
        """As of any module, but a frozen encoder stays in evaluation mode."""
        return super().train(mode and not self.frozen)

    def save(self, path: str | os.PathLike) -> None:
        """Write weights and configuration into one safetensors file."""
        from safetensors.torch import save_file

        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        with atomic_path(path) as temporary:
            save_file(state, temporary, {"format": FORMAT, "config": json.dumps(asdict(self.config))})

    @classmethod
    def load(cls, path: str | os.PathLike) -> LabelEncoder:
        """An encoder that ``save`` wrote, frozen.

        Raises:
            FileNotFoundError: there is no such file. LabelEncoderError: it holds something else.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise MissingFileError(f"no label encoder {path}: train one, see "
                                   "anytext_lib.recipes.udifftext_label_encoder")
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                state = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError) as error:
            raise LabelEncoderError(f"{path} is no safetensors file, or cut off: {error}") from error
        if about.get("format") != FORMAT:
            raise LabelEncoderError(f"{path} holds {about.get('format', 'something else')}, not {FORMAT}")
        bad = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
        if bad:
            raise LabelEncoderError(f"{path} holds NaN or infinite values in {bad[0]}: its training had diverged")
        try:
            encoder = cls(LabelEncoderConfig(**json.loads(about["config"])))
            encoder.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise LabelEncoderError(f"{path} does not fit its own configuration: {' '.join(str(error).split())}. Copy "
                                    "it again") from error
        return encoder.freeze()


def sinusoids(length: int, width: int) -> torch.Tensor:
    """(length, width) sines and cosines of the place, by turns (Vaswani et al. 2017, 3.5)."""
    if width % 2:
        raise LabelEncoderError(f"the width of tokens is even, got {width}")
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
