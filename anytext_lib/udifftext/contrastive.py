r"""Pre-training of the label encoder: its words must find their pictures, and its tokens must not forget themselves.

.. math:: L = \frac{1}{2} \left[ CE(s\, T I^\top) + CE(s\, I T^\top) \right] + 0.1\, CE_{character} + 0.1\, CE_{place}

T and I are unit vectors of the words and of pictures of them, row i of one belonging to row i of the other, and s is a
learned scale.  From each token its character (or that there is none) and its place must be told.  The pictures are seen
by a frozen image encoder that has learnt to read; upstream ViTSTR, here PP-OCRv3 or any other that gives tokens.
Source: UDiffText, ``sgm/modules/encoders/modules.py`` (``LabelEncoder.training_step``, ``get_loss``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.udifftext.label_encoder import LabelEncoderConfig

CHARACTER_WEIGHT = PLACE_WEIGHT = 0.1


def contrastive_loss(text: torch.Tensor, image: torch.Tensor, scale: torch.Tensor | float) -> torch.Tensor:
    """Symmetric InfoNCE (Radford et al. 2021), a scalar.

    Args:
        text, image: (B, D), any length; row i of one belongs to row i of the other, and no two rows are the same word.
        scale: inverse temperature.
    """
    if text.shape != image.shape or text.ndim != 2:
        raise ValueError(f"text {tuple(text.shape)} and image {tuple(image.shape)} are (B, D) both")
    scores = scale * F.normalize(text, dim=1) @ F.normalize(image, dim=1).T
    own = torch.arange(len(text), device=text.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


class TokenPool(nn.Module):
    """(B, N, D) tokens to one vector (B, out): normalised, projected, summed with a learned weight for each place."""

    def __init__(self, tokens: int, width: int, out: int):
        super().__init__()
        self.project = nn.Linear(width, out, bias=False)
        self.mix = nn.Linear(tokens, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(self.project(normalise(x)).transpose(1, 2)).squeeze(2)


def normalise(x: torch.Tensor) -> torch.Tensor:
    """Each token with mean 0 and variance 1 (upstream's InstanceNorm1d over tokens does just this)."""
    return F.layer_norm(x, x.shape[-1:])


class FramePool(nn.Module):
    """(B, N, D) frames to one vector (B, out): two convolutions along the line, then one projection of all frames.

    A sum of projected tokens, each with a weight, hardly sees their order.  ViTSTR's tokens know which character they
    stand for, so upstream's pool is enough; the frames of a reader such as PP-OCRv3 only know what is near them.
    """

    def __init__(self, tokens: int, width: int, out: int, hidden: int = 128):
        super().__init__()
        self.along = nn.Sequential(nn.Conv1d(width, hidden, 5, padding=2), nn.GELU(),
                                   nn.Conv1d(hidden, hidden, 5, padding=2), nn.GELU())
        self.project = nn.Linear(tokens * hidden, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.project(self.along(normalise(x).transpose(1, 2)).flatten(1))


class PretrainingTerms(NamedTuple):
    """Scalars: the loss, its three unweighted parts, and the accuracies of characters and places."""

    loss: torch.Tensor
    contrast: torch.Tensor
    characters: torch.Tensor
    places: torch.Tensor
    character_accuracy: torch.Tensor
    place_accuracy: torch.Tensor


@dataclass(frozen=True)
class ImageTokens:
    """What the image encoder gives for a picture: ``count`` tokens of ``width``; whether they are mere frames."""

    count: int
    width: int
    frames: bool = True


class PretrainingHeads(nn.Module):
    """What pre-training needs around the encoder and throws away afterwards.

    Args:
        config: of the label encoder. ``image``: of the image encoder's tokens. ``width``: of the common space,
            upstream 1024.
    """

    def __init__(self, config: LabelEncoderConfig, image: ImageTokens, width: int = 1024):
        super().__init__()
        classes = len(config.characters) + 1
        self.text = TokenPool(config.max_length, config.width, width)
        self.image = (FramePool if image.frames else TokenPool)(image.count, image.width, width)
        self.characters = nn.Sequential(nn.Linear(config.width, config.width), nn.GELU(),
                                        nn.Linear(config.width, classes))
        self.places = nn.Linear(config.width, config.max_length, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def forward(self, tokens: torch.Tensor, image_tokens: torch.Tensor, classes: torch.Tensor) -> PretrainingTerms:
        """All terms for B different words.

        Args:
            tokens: (B, max_length, width), the encoder's. ``image_tokens``: (B, N, D) of a picture of each word.
            classes: (B, max_length) int64, what the encoder was given.
        """
        contrast = contrastive_loss(self.text(tokens), self.image(image_tokens), self.log_scale.exp())
        named, placed = self.characters(normalise(tokens)), self.places(normalise(tokens))
        wanted = torch.arange(classes.shape[1], device=classes.device).expand_as(classes)
        characters = F.cross_entropy(named.transpose(1, 2), classes)
        places = F.cross_entropy(placed.transpose(1, 2), wanted)
        loss = contrast + CHARACTER_WEIGHT * characters + PLACE_WEIGHT * places
        return PretrainingTerms(loss, contrast, characters, places, _share(named, classes), _share(placed, wanted))


def _share(scores: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return (scores.argmax(dim=-1) == wanted).float().mean().detach()


def retrieval_accuracy(text: torch.Tensor, image: torch.Tensor) -> tuple[float, float]:
    """Share of words whose own picture is the nearest of all, and of pictures whose own word is.

    Args:
        text, image: (N, D), row i of one belongs to row i of the other; compared by the cosine.
    """
    scores = F.normalize(text, dim=1) @ F.normalize(image, dim=1).T
    own = torch.arange(len(text), device=text.device)
    return tuple(float((scores.argmax(dim=d) == own).float().mean()) for d in (1, 0))
