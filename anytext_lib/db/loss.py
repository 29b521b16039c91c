r"""The loss of differentiable binarisation.

.. math:: L = \alpha L_s(P) + \beta L_1(T) + Dice(B), \quad \alpha = 5, \beta = 10

P is the probability map, T the threshold map, and B their approximate binary map (section 3.2), a step function that
lets a gradient through:

.. math:: B = \frac{1}{1 + e^{-k (P - T)}}, \quad k = 50, \qquad \frac{\partial B}{\partial (P - T)} = k B (1 - B)

The terms, of one map x, its labels y and its mask m, all (B, H, W) in float32 at least:

.. math:: Dice = 1 - \frac{2 \sum m x y}{\sum m x + \sum m y + \epsilon}, \qquad
          L_1 = \frac{\sum m |x - y|}{\sum m + \epsilon}

The implementations in use agree about T and B and differ in L_s:

==============  ==========================================================================  =====  ====
preset          L_s                                                                         alpha  beta
==============  ==========================================================================  =====  ====
``paddleocr``   Dice, "balanced": a number cannot be mined, it is times n / (n + eps)           5    10
``original``    cross-entropy over positives and 3 times as many of the hardest negatives       5    10
``mmocr``       the same from logits (its smooth L1 on T has beta 0, which is plain L1)         5    10
``doctr``       focal loss from logits, mean over all pixels                                   10     1
``dicefocal``   Dice plus focal loss (weight .25 of positives), not mined; the same on B        5    10
==============  ==========================================================================  =====  ====

``dicefocal`` is PaddleOCR's newer choice (``DiceFocalLoss``, at 10e71ae), made because Dice cannot be mined.  Beside it
``DBLoss`` there takes ``DiceLoss`` only; "Euclidean" and "CrossEntropy" of ``BalanceLoss`` fail when they are called,
because they are given a mask, which they do not take.

Batches that teach nothing, with ``fallback_negatives = 0`` and any prediction:

====================  ===============  ==================  =========  ==========
batch                 balanced L_s     unbalanced Dice     L_1(T)     Dice(B)
====================  ===============  ==================  =========  ==========
no text               0                alpha               0          1
all masked            0                alpha               0          1
====================  ===============  ==================  =========  ==========

All their gradients are zero (not those of ``dicefocal``): false positives on pictures without text go unpunished.
``fallback_negatives = n`` makes L_s of a batch without text the mean cross-entropy of its n hardest pixels.  (A picture
without text in a batch *with* text is punished by mined cross-entropy and by Dice anyway.)  Masked pixels are never
punished.  Focal loss needs no such help: it counts every pixel.

Source: Liao et al. 2020; PaddleOCR ``ppocr/losses/det_db_loss.py`` (at 5ec23a4) and ``det_basic_loss.py``; MhLiao/DB
``decoders/seg_detector_loss.py`` (L1BalanceCELoss); mmocr 1.0 ``DBModuleLoss`` (``fallback_negative_num``); doctr
``DBNet.compute_loss``, whose value for a fully masked batch is 0 where here it is 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from anytext_lib.db.labels import LabelMaps
from anytext_lib.errors import OptionError

STEEPNESS = 50.0
EPS = 1e-6


# binarisation

def binarize(probability: torch.Tensor, threshold: torch.Tensor, k: float = STEEPNESS) -> torch.Tensor:
    """The approximate binary map.

    Written out, e^{50} overflows half precision (largest number 65504 = e^{11.09}): B becomes 0, its gradient NaN.  The
    sigmoid function never overflows; it is computed in float32 so that 1 - B survives as well.

    Args:
        probability, threshold: P and T in [0, 1], shapes that broadcast, any floating type.
        k: steepness; nine tenths of the way from 0 to 1 lie where P and T differ by less than 3 / k.

    Returns:
        B in [0, 1], of the type of the inputs; the gradient k B (1 - B) is computed in float32 at least.
    """
    kept = torch.promote_types(probability.dtype, threshold.dtype)
    dtype = torch.promote_types(kept, torch.float32)
    return torch.sigmoid(k * (probability.to(dtype) - threshold.to(dtype))).to(kept)


def binarization_slope(gap: torch.Tensor, k: float = STEEPNESS) -> torch.Tensor:
    """dB / d(P - T) = k B (1 - B) at the gap P - T: k / 4 = 12.5 at 0, 0.33 at 0.1."""
    b = torch.sigmoid(k * gap)
    return k * b * (1 - b)


def cross_entropy_pull(gap: torch.Tensor, target: torch.Tensor, k: float = STEEPNESS) -> torch.Tensor:
    """d CE(B, y) / d(P - T) = k (B - y): largest, k, where B is most wrong.

    The slope k B (1 - B) cancels against 1 / (B (1 - B)) of the cross-entropy: this is the paper's argument that
    binarisation amplifies the gradient of wrong pixels (its section 3.3, equations 4 and 5).
    """
    return k * (torch.sigmoid(k * gap) - target)


def dice_pull(gap: torch.Tensor, target: torch.Tensor, intersection: float, union: float,
              k: float = STEEPNESS) -> torch.Tensor:
    """d Dice(B, y) / d(P - T), with ``intersection`` = sum(B y) and ``union`` = sum(B) + sum(y) of the whole map.

    Dice = 1 - 2 I / U gives a pixel 2 (I - y U) / U^2, of one size for all pixels of a kind; the slope k B (1 - B)
    then takes it to zero where B is badly wrong.  The losses in use put Dice on B: the argument of
    ``cross_entropy_pull`` does not hold for them.
    """
    return 2 * (intersection - target * union) / union**2 * binarization_slope(gap, k)


# terms

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


def dice_focal_loss(prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, eps: float = EPS,
                    dice_weight: float = 1.0, focal_weight: float = 1.0, focal_alpha: float = 0.25,
                    focal_gamma: float = 2.0) -> torch.Tensor:
    r"""Dice loss and the mean focal loss over the mask: one number.

    .. math:: w_d \, Dice + w_f \frac{\sum m \, \alpha_y (1 - p_y)^\gamma (-\log p_y)}{\sum m + \epsilon}

    Dice looks after the shape as a whole, focal loss after each pixel, also where there is no text.  Probabilities are
    cut to [eps, 1 - eps] in the second term, as upstream, so that the logarithm is finite.

    Args:
        focal_alpha: weight of positives, 1 - focal_alpha of negatives. ``focal_gamma``: how little easy pixels count.
    """
    of_target = (prediction * target + (1 - prediction) * (1 - target)).clamp(eps, 1 - eps)
    side = focal_alpha * target + (1 - focal_alpha) * (1 - target)
    focal = side * (1 - of_target) ** focal_gamma * -of_target.log()
    return dice_weight * dice_loss(prediction, target, mask, eps) + focal_weight * masked_mean(focal, mask, eps)


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


# the loss

NUMBERS = {"DiceLoss": dice_loss, "MaskL1Loss": masked_l1_loss}  # one number for the batch
PER_PIXEL = {"BCELoss": cross_entropy, "FocalLoss": focal_loss}
DICE_FOCAL = "DiceFocalLoss"  # one number, for P and for B
PRESETS = {
    "paddleocr": {},
    "original": {"main_loss_type": "BCELoss"},
    "mmocr": {"main_loss_type": "BCELoss", "with_logits": True},
    "doctr": {"main_loss_type": "FocalLoss", "with_logits": True, "balance_loss": False, "alpha": 10.0, "beta": 1.0,
              "eps": 1e-8},
    "dicefocal": {"main_loss_type": DICE_FOCAL, "balance_loss": False},
}


class DBTerms(NamedTuple):
    """Scalars: ``loss`` = ``shrink`` + ``threshold`` + ``binary``, weighted by alpha and beta."""

    loss: torch.Tensor
    shrink: torch.Tensor
    threshold: torch.Tensor
    binary: torch.Tensor

    def log(self) -> dict[str, torch.Tensor]:
        """Detached scalars under PaddleOCR's keys."""
        names = ("loss", "loss_shrink_maps", "loss_threshold_maps", "loss_binary_maps")
        return {name: value.detach() for name, value in zip(names, self, strict=True)}


class DBLoss(torch.nn.Module):
    """DB loss; by default PaddleOCR's.

    Args:
        balance_loss: mine hard negatives in L_s (``balanced_loss``); False takes the number itself, or the mean over
            the mask of a loss per pixel (upstream returns the map there, and fails).
        main_loss_type: L_s: "DiceLoss", "BCELoss", "MaskL1Loss" (PaddleOCR's names), "FocalLoss", or PaddleOCR's
            "DiceFocalLoss", which is also taken for B in the place of Dice.
        alpha, beta: weights of L_s and of the threshold map.
        ohem_ratio: most negatives a positive that are mined.
        eps: keeps divisions finite.
        with_logits: take L_s from logits, which ``forward`` then needs.
        fallback_negatives: pixels of a batch without text that are punished, 0 none (upstream).
        dice_weight, focal_weight, focal_alpha, focal_gamma: of "DiceFocalLoss", see ``dice_focal_loss``.

    Raises:
        ValueError: an option is out of range or does not go with another.
    """

    def __init__(self, balance_loss: bool = True, main_loss_type: str = "DiceLoss", alpha: float = 5.0,
                 beta: float = 10.0, ohem_ratio: float = 3.0, eps: float = 1e-6, *, with_logits: bool = False,
                 fallback_negatives: int = 0, dice_weight: float = 1.0, focal_weight: float = 1.0,
                 focal_alpha: float = 0.25, focal_gamma: float = 2.0):
        super().__init__()
        names = [*NUMBERS, *PER_PIXEL, DICE_FOCAL]
        if main_loss_type not in names:
            raise ValueError(f"there is no main_loss_type {main_loss_type!r}; there are {', '.join(names)}")
        if balance_loss and main_loss_type == DICE_FOCAL:
            raise ValueError("DiceFocalLoss is one number, of which nothing can be mined: set balance_loss to False "
                             "(PaddleOCR takes no notice of it)")
        if with_logits and main_loss_type not in PER_PIXEL:
            raise ValueError(f"{main_loss_type} is a function of probabilities: with_logits goes with "
                             f"{' and '.join(PER_PIXEL)}")
        for name, value in {"alpha": alpha, "beta": beta, "ohem_ratio": ohem_ratio,
                            "fallback_negatives": fallback_negatives, "dice_weight": dice_weight,
                            "focal_weight": focal_weight, "focal_gamma": focal_gamma}.items():
            if not value >= 0:
                raise ValueError(f"{name} is at least 0, got {value}")
        self.balance_loss, self.main_loss_type, self.alpha, self.beta = balance_loss, main_loss_type, alpha, beta
        self.ohem_ratio, self.eps, self.with_logits = ohem_ratio, eps, with_logits
        self.fallback_negatives = fallback_negatives
        self.focal = {"dice_weight": dice_weight, "focal_weight": focal_weight, "focal_alpha": focal_alpha,
                      "focal_gamma": focal_gamma}

    @classmethod
    def from_preset(cls, name: str, **changes) -> DBLoss:
        """"paddleocr", "original", "mmocr", "doctr" or "dicefocal", with single options changed."""
        if name not in PRESETS:
            raise OptionError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **changes})

    def forward(self, maps: torch.Tensor, labels: LabelMaps, logits: torch.Tensor | None = None) -> DBTerms:
        """Loss of a batch.

        Args:
            maps: (B, 3, H, W) of P, T and B in [0, 1], any floating type; computed in float32 at least.
            labels: label maps (B, H, W).
            logits: (B, H, W) of P before the sigmoid, for ``with_logits``.

        Raises:
            ValueError: shapes do not agree, a value lies outside [0, 1] or is NaN, or logits are missing.
        """
        self._check(maps, labels, logits)
        with torch.autocast(maps.device.type, enabled=False):
            dtype = torch.promote_types(maps.dtype, torch.float32)
            p, t, b = maps.to(dtype).unbind(dim=1)
            labels = labels.to(device=maps.device, dtype=dtype, non_blocking=True)
            shrink = self.alpha * self.shrink_term(p, labels, logits.to(dtype) if self.with_logits else None)
            threshold = self.beta * masked_l1_loss(t, labels.threshold_map, labels.threshold_mask, self.eps)
            binary = (dice_focal_loss(b, labels.shrink_map, labels.shrink_mask, self.eps, **self.focal)
                      if self.main_loss_type == DICE_FOCAL else
                      dice_loss(b, labels.shrink_map, labels.shrink_mask, self.eps))
        return DBTerms(shrink + threshold + binary, shrink, threshold, binary)

    def shrink_term(self, p: torch.Tensor, labels: LabelMaps, logits: torch.Tensor | None = None) -> torch.Tensor:
        """L_s of probabilities (B, H, W), before alpha."""
        target, mask = labels.shrink_map, labels.shrink_mask
        if self.fallback_negatives and not (target * mask).any():
            return balanced_loss(cross_entropy(p, target, logits), target, mask, 0, self.fallback_negatives, self.eps)
        if self.main_loss_type == DICE_FOCAL:
            return dice_focal_loss(p, target, mask, self.eps, **self.focal)
        if self.main_loss_type in NUMBERS:
            value = NUMBERS[self.main_loss_type](p, target, mask, self.eps)
            return balanced_loss(value, target, mask, self.ohem_ratio, 0, self.eps) if self.balance_loss else value
        value = PER_PIXEL[self.main_loss_type](p, target, logits)
        if self.balance_loss:
            return balanced_loss(value, target, mask, self.ohem_ratio, 0, self.eps)
        return masked_mean(value, mask, self.eps)

    def _check(self, maps: torch.Tensor, labels: LabelMaps, logits: torch.Tensor | None) -> None:
        if maps.ndim != 4 or maps.shape[1] != 3 or not maps.is_floating_point():
            raise ValueError(f"maps are floating-point (B, 3, H, W): P, T and B; got {maps.dtype} {tuple(maps.shape)}")
        wanted = (maps.shape[0], *maps.shape[2:])
        named = dict(zip(labels._fields[:4], labels[:4], strict=True))
        named |= {"logits": logits} if self.with_logits else {}
        for name, value in named.items():
            if value is None:
                raise ValueError("this loss takes P from logits (with_logits): give forward the logits as well")
            if tuple(value.shape) != wanted:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, the maps ask for {wanted}")
        low, high = torch.stack(maps.detach().aminmax()).tolist()
        if not (low >= 0 and high <= 1):
            raise ValueError(f"P, T and B are probabilities in [0, 1], got values from {low:g} to {high:g}: pass them "
                             "through a sigmoid first, B through binarize(P, T)")
