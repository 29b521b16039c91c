r"""The CTC loss by the lattice of the classes that a text names; ``ctc_loss`` of ``losses.terms``, faster.

A text names a few of the 6625 classes, and the lattice needs no other.  The gradient has a closed form,

.. math:: \frac{\partial\, ctc_l}{\partial z_\tau(k)} = \frac{p_\tau(k) - q_\tau(k)}{T}

with q the probability that an alignment of the text stands on class k in frame tau.  So the logits are read once, and
the gradient is the only other tensor of their size.  The lattice itself is small and lies on the CPU: a GPU is waited
for once, where torch's own kernel waits for each of its tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

BLANK = 0


def fast_ctc_loss(logits: torch.Tensor, targets: Sequence[Sequence[int]]) -> torch.Tensor:
    """CTC loss of each line, divided by the number of frames; arguments, result and errors as of ``ctc_loss``."""
    require_targets(logits, targets)
    if len(logits) == 0:
        return logits.new_zeros(0)
    return Lattice.apply(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets) / logits.shape[1]


def require_targets(logits: torch.Tensor, targets: Sequence[Sequence[int]]) -> None:
    """Raise ValueError unless there is a target for each line, all of class ids in 1..K-1."""
    if logits.ndim != 3 or len(targets) != len(logits):
        raise ValueError(f"logits of shape (L, T, K) and {len(targets)} targets do not agree: {tuple(logits.shape)}")
    classes = logits.shape[2]
    for i, ids in enumerate(targets):
        if any(not BLANK < c < classes for c in ids):
            raise ValueError(f"target {i} has a class id outside 1..{classes - 1}: {list(ids)}")


class Lattice(torch.autograd.Function):
    """-log of the probability of each target, (L,), by the lattice of the classes that it names."""

    @staticmethod
    def forward(ctx, logits: torch.Tensor, targets: Sequence[Sequence[int]]) -> torch.Tensor:
        """(L,) of logits (L, T, K); 0 where the target does not fit."""
        named = [sorted({BLANK, *ids}) for ids in targets]  # BLANK = 0 comes first
        most = max(map(len, named))
        classes = torch.tensor([row + [BLANK] * (most - len(row)) for row in named])
        classes = classes.to(logits.device, non_blocking=True)[:, None].expand(-1, logits.shape[1], -1)  # (L, T, most)
        log_probs = torch.stack([line.log_softmax(dim=-1).gather(1, here)  # one line at a time fits the cache
                                 for line, here in zip(logits, classes, strict=True)]).cpu()
        flat = torch.tensor([row.index(c) for row, ids in zip(named, targets, strict=True) for c in ids],
                            dtype=torch.long)
        with torch.enable_grad():
            log_probs.requires_grad_(True)
            loss = F.ctc_loss(log_probs.transpose(0, 1), flat, torch.full((len(targets),), logits.shape[1]),
                              torch.tensor([len(ids) for ids in targets]), blank=BLANK, reduction="none")
        p_less_q = torch.autograd.grad(loss, log_probs, torch.ones_like(loss))[0]  # what torch calls the gradient
        fits = loss != torch.inf
        ctx.fits = fits.tolist()
        aligned = log_probs.detach().exp() - p_less_q
        ctx.save_for_backward(logits, classes, aligned.to(logits.device, non_blocking=True))
        return torch.where(fits, loss, 0).to(logits.device, non_blocking=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: torch.Tensor):
        """softmax(logits) less the share of the alignments that go through each class and frame."""
        logits, classes, aligned = ctx.saved_tensors
        back = torch.empty_like(logits)
        for i, fits in enumerate(ctx.fits):
            if fits:
                torch.softmax(logits[i], dim=-1, out=back[i]).scatter_add_(1, classes[i], -aligned[i]).mul_(gradient[i])
            else:
                back[i] = 0
        return back, None
