"""Features of the true lines, kept between epochs: the recogniser reads the same picture only once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from anytext_lib.data.lines import TextLines
from anytext_lib.training.cache import TensorCache


class ReferenceCache(TensorCache):
    """Features of lines by picture and place; one line takes 10 KiB (40 x 64 float32).

    A line is found again only where it has the same picture, the same box and the same text; position masks that are
    jittered anew in every epoch, or rendered scenes without end, therefore make the cache useless, never wrong.
    """

    def features(self, read: Callable, images: torch.Tensor, lines: TextLines, pictures: Sequence[int]) -> torch.Tensor:
        """Features (L, T, D) of the true lines, on the device of ``images``.

        Args:
            read: (images, lines) -> features (L, T, D), as ``Instruments.features``.
            images: (B, 3, H, W) in [-1, 1]. ``lines``: readable lines.
            pictures: B numbers that tell the pictures of the data set apart; negative ones are never kept.
        """
        keys = [self._key(lines, i, pictures) for i in range(len(lines))]
        return self.rows(keys, lambda rows: read(images, lines.select(rows)), images.device)

    @staticmethod
    def _key(lines: TextLines, i: int, pictures: Sequence[int]) -> tuple | None:
        picture = int(pictures[int(lines.image_index[i])])
        return None if picture < 0 else (picture, lines.texts[i], lines.quads[i].numpy().tobytes())
