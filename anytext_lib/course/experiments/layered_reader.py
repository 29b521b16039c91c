r"""The OCR loss on several stages of the recogniser in place of its neck alone.

.. math:: multi_l = \frac{1}{S} \sum_{s=1}^{S} \frac{\operatorname{mean} (f_s(\hat x_l) - f_s(x_l))^2}{\mu_s}

with mu_s the mean square of stage s on true crops, a constant, so that no stage is heard only because its numbers are
large.  Early stages know strokes and where they are, the neck knows the line.  FLUX-Text (2025) takes several scales.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

STAGES = ("block3", "block7", "block11", "neck")


class LayeredOutput(NamedTuple):
    """``features`` (L, 1, D): all stages side by side, scaled; ``logits`` as the recogniser's."""

    features: torch.Tensor
    logits: torch.Tensor


class LayeredReader:
    """A recogniser for ``AnyText2Objective`` whose features are those of several stages.

    ``ocr_loss`` of two outputs is the formula of this module.

    Args:
        reader: a PPOCRv3Recognizer. ``crops``: true crops (L, 3, 48, W), which set the scale of the stages.
        stages: names as in ``reader.feature_maps``.
    """

    def __init__(self, reader, crops: torch.Tensor, stages: tuple[str, ...] = STAGES):
        self.reader, self.stages, self.charset = reader, stages, reader.charset
        with torch.no_grad():
            maps = reader.feature_maps(crops)
        unknown = [name for name in stages if name not in maps]
        if unknown:
            raise ValueError(f"the recogniser has no stage {unknown[0]!r}: choose from {', '.join(maps)}")
        self.mean_squares = {name: float(maps[name].square().mean()) for name in stages}

    def __call__(self, crops: torch.Tensor) -> LayeredOutput:
        """Features and logits of crops (L, 3, 48, W), differentiable."""
        maps = self.reader.feature_maps(crops)
        flat = [maps[name].flatten(1) for name in self.stages]
        total = sum(part.shape[1] for part in flat)
        scaled = [part * (total / (len(flat) * part.shape[1] * self.mean_squares[name])) ** 0.5
                  for name, part in zip(self.stages, flat, strict=True)]
        return LayeredOutput(torch.cat(scaled, dim=1)[:, None], maps["head"])
