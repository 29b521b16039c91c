r"""The CTC loss: the probability that the recogniser reads the wanted text, under any alignment.

.. math:: ctc_l = -\frac{1}{T} \log \sum_{\pi \in B^{-1}(text)} \prod_{\tau=1}^{T} p_\tau(\pi_\tau), \quad T = 40

Divided by the number of frames, not by the length of the text.  Source: Graves et al. 2006; AnyText2
``cldm/recognizer.py`` (``get_ctcloss``).  Upstream's loss is infinite where the text cannot fit into the frames;
here such a line costs nothing, pulls nothing, and is counted by ``too_long``.

A text names a few of the 6625 classes, and the lattice needs no other.  The gradient has a closed form,

.. math:: \frac{\partial\, ctc_l}{\partial z_\tau(k)} = \frac{p_\tau(k) - q_\tau(k)}{T}

with q the probability that an alignment of the text stands on class k in frame tau.  So the logits are read once, and
the gradient is the only other tensor of their size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

BLANK = 0


def ctc_loss(logits: torch.Tensor, targets: Sequence[Sequence[int]]) -> torch.Tensor:
    """CTC loss of each line, divided by the number of frames.

    Args:
        logits: (L, T, K) scores before the softmax, class 0 is the blank.
        targets: L sequences of class ids in 1..K-1; an empty one stands for an empty line.

    Returns:
        (L,) loss of each line; 0 with zero gradient where the text does not fit T frames.

    Raises:
        ValueError: numbers of lines differ, or an id is the blank or beyond the classes.
    """
    if logits.ndim != 3 or len(targets) != len(logits):
        raise ValueError(f"logits of shape (L, T, K) and {len(targets)} targets do not agree: {tuple(logits.shape)}")
    count, frames, classes = logits.shape
    for i, ids in enumerate(targets):
        if any(not BLANK < c < classes for c in ids):
            raise ValueError(f"target {i} has a class id outside 1..{classes - 1}: {list(ids)}")
    if count == 0:
        return logits.new_zeros(0)
    return Lattice.apply(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets) / frames


class Lattice(torch.autograd.Function):
    """-log of the probability of each target, (L,), by the lattice of the classes that it names."""

    @staticmethod
    def forward(ctx, logits: torch.Tensor, targets: Sequence[Sequence[int]]) -> torch.Tensor:
        """(L,) of logits (L, T, K); 0 where the target does not fit."""
        named = [sorted({BLANK, *ids}) for ids in targets]  # BLANK = 0 comes first
        most = max(map(len, named))
        classes = torch.tensor([row + [BLANK] * (most - len(row)) for row in named], device=logits.device)
        classes = classes[:, None].expand(-1, logits.shape[1], -1)  # (L, T, most)
        log_probs = torch.stack([line.log_softmax(dim=-1).gather(1, here)  # one line at a time fits the cache
                                 for line, here in zip(logits, classes, strict=True)])
        flat = torch.tensor([row.index(c) for row, ids in zip(named, targets, strict=True) for c in ids],
                            dtype=torch.long, device=logits.device)
        with torch.enable_grad():
            log_probs.requires_grad_(True)
            loss = F.ctc_loss(log_probs.transpose(0, 1), flat, torch.full((len(targets),), logits.shape[1]),
                              torch.tensor([len(ids) for ids in targets]), blank=BLANK, reduction="none")
        p_less_q = torch.autograd.grad(loss, log_probs, torch.ones_like(loss))[0]  # what torch calls the gradient
        ctx.fits = loss != torch.inf
        ctx.save_for_backward(logits, classes, log_probs.detach().exp() - p_less_q)
        return torch.where(ctx.fits, loss, 0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: torch.Tensor):
        """softmax(logits) less the share of the alignments that go through each class and frame."""
        logits, classes, aligned = ctx.saved_tensors
        back = torch.empty_like(logits)
        for i, fits in enumerate(ctx.fits.tolist()):
            if fits:
                torch.softmax(logits[i], dim=-1, out=back[i]).scatter_add_(1, classes[i], -aligned[i]).mul_(gradient[i])
            else:
                back[i] = 0
        return back, None


def frames_needed(ids: Sequence[int]) -> int:
    """Frames that a text takes at least: one a character, and one blank between two equal neighbours."""
    return len(ids) + sum(a == b for a, b in zip(ids, ids[1:], strict=False))


def too_long(targets: Sequence[Sequence[int]], frames: int = 40) -> list[int]:
    """Indices of the targets that no alignment fits into ``frames``."""
    return [i for i, ids in enumerate(targets) if frames_needed(ids) > frames]
