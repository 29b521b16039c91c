r"""The OCR perceptual loss: the reader's features of the predicted line against those of the true line.

.. math:: ocr_l = \frac{1}{T D} \sum_{\tau, d} (f(\hat x_l) - f(x_l))^2, \quad T = 40, D = 64

f is the neck of PP-OCRv3, after its SVTR encoder and before the last linear layer.  Source: AnyText2
``ldm/models/diffusion/ddpm.py`` (``p_losses``) and ``cldm/recognizer.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from anytext_lib.errors import AnyTextError


class LayerError(AnyTextError, ValueError):
    """The recogniser has no layer of this name."""


def ocr_loss(features: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of features, line by line.

    Args:
        features: (L, T, D) of the predicted lines; gradients flow to it.
        reference: (L, T, D) of the true lines; a constant, no gradient flows to it.

    Returns:
        (L,) loss of each line, before any weight.

    Raises:
        ValueError: shapes differ.
    """
    if features.shape != reference.shape:
        raise ValueError(f"features {tuple(features.shape)} and reference {tuple(reference.shape)} differ in shape: "
                         "both need one row for each line, in the same order")
    dtype = torch.promote_types(features.dtype, torch.float32)
    return (features.to(dtype) - reference.detach().to(dtype)).square().flatten(1).mean(dim=1)


def layered_ocr_loss(maps: Mapping[str, torch.Tensor], reference: Mapping[str, torch.Tensor], layers: Sequence[str],
                     mean_squares: Mapping[str, float] | None = None) -> torch.Tensor:
    r"""The OCR loss on several layers of the recogniser in the place of its neck alone.

    .. math:: multi_l = \frac{1}{S} \sum_{s=1}^{S} \frac{\operatorname{mean} (f_s(\hat x_l) - f_s(x_l))^2}{\mu_s}

    with mu_s the mean square of layer s on true lines, so that no layer is heard only because its numbers are large.
    Early layers know strokes and where they are, the neck knows the line.  FLUX-Text (2025) takes several scales.

    Args:
        maps, reference: (L, ...) of every layer, of the predicted and of the true lines (constants), as from
            ``recognizer.feature_maps``.
        layers: names, such as "block3", "block7", "block11", "neck".
        mean_squares: mu_s; None takes it from ``reference``.

    Returns:
        (L,) loss of each line, before any weight.

    Raises:
        LayerError: there is no layer of a name.
    """
    if unknown := [name for name in layers if name not in maps]:
        raise LayerError(f"the recogniser has no layer {unknown[0]!r}: choose from {', '.join(maps)}")
    scales = mean_squares or {name: reference[name].detach().square().mean() for name in layers}
    losses = [ocr_loss(maps[name], reference[name]) / scales[name] for name in layers]
    return torch.stack(losses).mean(dim=0)
