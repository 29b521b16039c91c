"""The letters of the true picture as a term of the objective: more weight on the strokes than on their ground."""

from __future__ import annotations

import numpy as np
import torch

from anytext_lib.data.batch import AnyTextBatch, to_uint8
from anytext_lib.losses.step import Step
from anytext_lib.losses.terms import region_loss
from anytext_lib.recipes.abilities import letters
from anytext_lib.training.cache import TensorCache, digests


class LetterMask:
    """(B,) what a greater weight on the letters of the true picture adds, see ``region_loss``; masks are kept.

    `anytext fit --terms '[{name: anytext_lib.experiments.letter_mask.LetterMask, weight: 4}]'`.
    """

    def __init__(self) -> None:
        self.cache = TensorCache(256)

    def mask(self, batch: AnyTextBatch) -> torch.Tensor:
        """(B, 1, H, W) in {0, 1}: the letters of all lines, see ``abilities.letters``."""
        return self.cache.rows(digests(batch.images), lambda rows: torch.stack([self._draw(batch, i) for i in rows]),
                               batch.images.device)

    @staticmethod
    def _draw(batch: AnyTextBatch, image: int) -> torch.Tensor:
        picture, page = to_uint8(batch.images[image:image + 1].cpu())[0], torch.zeros(1, *batch.images.shape[-2:])
        for line in (batch.lines.image_index == image).nonzero().flatten().tolist():
            quad = batch.lines.quads[line].numpy()
            found = letters(picture, quad)
            if found is not None:
                left, top = np.maximum(np.floor(quad.min(0)).astype(int), 0)
                part = page[0, top:top + found.mask.shape[0], left:left + found.mask.shape[1]]
                part += torch.from_numpy(found.mask).to(page)
        return page.clamp(max=1)

    def __call__(self, step: Step) -> torch.Tensor:
        return region_loss(step.output, step.target, self.mask(step.batch), step.batch.invalid_mask)
