r"""The OCR perceptual loss: the reader's features of the predicted line against those of the true line.

.. math:: ocr_l = \frac{1}{T D} \sum_{\tau, d} (f(\hat x_l) - f(x_l))^2, \quad T = 40, D = 64

f is the neck of PP-OCRv3, after its SVTR encoder and before the last linear layer.  Source: AnyText2
``ldm/models/diffusion/ddpm.py`` (``p_losses``) and ``cldm/recognizer.py``.
"""

from __future__ import annotations

import torch


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
