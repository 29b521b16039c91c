r"""The terms of DB, as functions of one map, its labels and its mask, all (B, H, W) in float32 at least.

.. math:: Dice = 1 - \frac{2 \sum m x y}{\sum m x + \sum m y + \epsilon}, \qquad
          L_1 = \frac{\sum m |x - y|}{\sum m + \epsilon}

Source: PaddleOCR ``ppocr/losses/det_basic_loss.py``; doctr for the focal loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

EPS = 1e-6


def dice_loss(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    """Dice loss of the whole batch: one number in [0, 1].

    1 with zero gradient where there is no positive pixel, or where all are masked.
    """
    intersection = (mask * prediction * target).sum()
    union = (mask * prediction).sum() + (mask * target).sum() + eps
    return 1 - 2 * intersection / union


def masked_l1_loss(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor,
                   eps: float = EPS) -> torch.Tensor:
    """Mean absolute difference over the pixels of the mask: one number; 0 where all are masked."""
    return masked_mean((prediction - target).abs(), mask, eps)


def cross_entropy(prediction: torch.Tensor, target: torch.Tensor, logits: torch.Tensor | None = None) -> torch.Tensor:
    """Binary cross-entropy of every pixel, (B, H, W): from the logits if given, else from probabilities (at most 100).
    """
    if logits is not None:
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return F.binary_cross_entropy(prediction, target, reduction="none")


def focal_loss(prediction: torch.Tensor, target: torch.Tensor, logits: torch.Tensor | None = None,
               gamma: float = 2.0, weight: float = 0.5) -> torch.Tensor:
    """Cross-entropy of every pixel times weight * (1 - p_y)^gamma, (B, H, W): easy pixels count little."""
    of_target = prediction * target + (1 - prediction) * (1 - target)
    side = weight * target + (1 - weight) * (1 - target)
    return side * (1 - of_target) ** gamma * cross_entropy(prediction, target, logits)


def masked_mean(values: torch.Tensor, mask: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    """Mean of (B, H, W) over the pixels of the mask; 0 where all are masked."""
    return (mask * values).sum() / (mask.sum() + eps)


def hard_negatives(loss: torch.Tensor, negative: torch.Tensor, count: int) -> torch.Tensor:
    """The ``count`` negatives of the batch with the largest loss: a mask like ``loss``, 1 for those chosen.

    Args:
        loss: (B, H, W). negative: 1 for the pixels to choose from, 0 for others.
    """
    chosen = torch.zeros_like(loss).flatten()
    chosen[(negative * loss).detach().flatten().topk(count).indices] = 1
    return chosen.view_as(loss) * negative


def balanced_loss(loss: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, ratio: float = 3.0,
                  fallback: int = 0, eps: float = EPS) -> torch.Tensor:
    """Hard-negative mining: mean of the loss over all positives and the hardest negatives, at most ratio a positive.

    ``loss`` is (B, H, W), or one number.  Of one number all pixels have an equal share: nothing is there to choose,
    and the result is the number times n / (n + eps).

    Args:
        fallback: negatives to take if the batch has no positive pixel; 0 makes the loss of such a batch 0.
    """
    loss = loss.expand_as(mask)
    positive, negative = target * mask, (1 - target) * mask
    positives, negatives = (int(n) for n in torch.stack([positive.sum(), negative.sum()]).tolist())
    count = int(min(negatives, positives * ratio if positives else fallback))
    taken = positive + hard_negatives(loss, negative, count)
    return (taken * loss).sum() / (positives + count + eps)
