"""One word into one picture: what `anytext udifftext write` does, for pictures of any size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isqrt

import numpy as np
import torch

from anytext_lib.data.batch import AnyTextBatch, to_tensor, to_uint8
from anytext_lib.data.lines import BadLineError, TextLines, line_quad
from anytext_lib.data.texts import normal_text
from anytext_lib.errors import AnyTextError
from anytext_lib.udifftext.euler import Sampling, Watch, write_words
from anytext_lib.udifftext.model import UDiffTextModel

COARSEST = 16  # of the positions of the latents, a map that is looked at has at least one in so many


class WordPictureError(AnyTextError, ValueError):
    """Picture, mask and word do not go together; the message says why and what to do."""


@dataclass(frozen=True)
class WordPicture:
    """What was written.

    Attributes:
        image: (H, W, 3) uint8, RGB, of the size of the picture that was given.
        sample: (1, 3, h, w) in [-1, 1], what the model made, at its own size. ``lines``: the word in it.
        focus: L_aae after the last step, see ``attention_focus_loss``. ``noise``: which candidate was taken.
    """

    image: np.ndarray
    sample: torch.Tensor
    lines: TextLines
    focus: float
    noise: int


def word_batch(picture: np.ndarray, mask: np.ndarray, word: str) -> AnyTextBatch:
    """A picture (H, W, 3) uint8, the mask (H, W) bool of the word's place and the word as a batch of one.

    Raises:
        WordPictureError: the mask is empty or a thread.
    """
    try:
        quad = line_quad(mask)
    except BadLineError as error:
        raise WordPictureError(f"the mask has no area for {word!r}: paint where the word is to stand") from error
    images, place = to_tensor(picture), torch.from_numpy(mask)[None, None].float()
    none = torch.zeros_like(place)
    lines = TextLines([0], quad[None], [normal_text(word)], ["Latin"])
    return AnyTextBatch(images, torch.where(place > 0, -1.0, images), [""], [""], lines, torch.zeros(1, 1, 1, 1), none,
                        place, torch.full((1, 3), 500.0), none, none, torch.ones(1, dtype=torch.bool), [""],
                        torch.zeros(1, dtype=torch.int64))


def write_word(model: UDiffTextModel, picture: np.ndarray, mask: np.ndarray, word: str,
               sampling: Sampling | None = None, seed: int = 100, size: tuple[int, int] | None = None,
               composite: bool = False, watch: Watch | None = None) -> WordPicture:
    """Write a word where a mask says.

    The picture is resized to what the model takes, its proportions are not kept (as upstream), and what comes out is
    resized back.

    Args:
        model: in evaluation mode. ``picture``: (H, W, 3) uint8, RGB. ``mask``: (H, W) bool, True where the word goes.
        sampling: see there; its ``min_size`` is replaced by that of the size in use, upstream's 16 at 512 x 512.
        size: (height, width) to write at, multiples of ``model.grid``; None takes the model's own, else the picture's,
            rounded.
        composite: put the pixels outside of the mask back.

    Raises:
        WordPictureError: mask, word or size do not fit. LabelEncoderError, UnknownCharacterError: the model cannot
            write the word.
    """
    import cv2

    if not word:
        raise WordPictureError("the word is empty: say what is to be written")
    if mask.shape != picture.shape[:2]:
        raise WordPictureError(f"the mask has {mask.shape[1]} x {mask.shape[0]} pixels, the picture "
                               f"{picture.shape[1]} x {picture.shape[0]}: give a mask of the picture's size")
    size = writing_size(model, picture.shape[:2], size)
    shrinks = picture.shape[0] >= size[0] and picture.shape[1] >= size[1]
    small = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    place = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0
    batch = word_batch(small, place, word).to(model.unet.device)
    least = isqrt(size[0] * size[1] // model.latent_factor**2 // COARSEST)
    written = write_words(model, batch, replace(sampling or Sampling(), min_size=max(1, least)), seed=seed, watch=watch)
    found = cv2.resize(to_uint8(written.images)[0], picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    image = np.where(mask[..., None], found, picture) if composite else found
    noise = 0 if written.choice is None else int(written.choice.chosen[0])
    return WordPicture(image, written.images.cpu(), batch.lines, float(written.focus[-1, 0]), noise)


def writing_size(model: UDiffTextModel, size: tuple[int, int], wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width to write at, see ``write_word``; ``size``: of the picture."""
    grid = model.grid
    wanted = wanted or model.config.get("image_size")
    if wanted is None:
        height, width = (max(grid, round(side / grid) * grid) for side in size)
        return height, width
    height, width = wanted
    if height < grid or width < grid or height % grid or width % grid:
        raise WordPictureError(f"pictures of {width} x {height} pixels do not suit the model: width and height are "
                               f"multiples of {grid}")
    return height, width
