r"""How far an arm's gradient points away from its baseline's, and the weights that make arms equally strong.

AdamW does not see how long a gradient is.  With g the baseline's gradient and d that of a term, split into a part along
g and one orthogonal to it, the objective with weight w has the strength

.. math::
    s = \frac{w\,o}{1 + w\,p}, \qquad p = \frac{\langle d, g \rangle}{\langle g, g \rangle}, \quad
    o = \frac{\lVert d - p\,g \rVert}{\lVert g \rVert}

the tangent of its angle to g.  It cannot be above o / p if p > 0, however large the weight: a term that points along g
only makes g longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from anytext_lib.losses import Objective, Step, Term


def gradient(loss: torch.Tensor, trained: Sequence[torch.Tensor], keep: bool = True) -> torch.Tensor:
    """(P,) gradient of a scalar with respect to all that is trained; 0 for a loss that does not depend on it."""
    if not loss.requires_grad:
        return torch.cat([torch.zeros_like(p).flatten() for p in trained])
    found = torch.autograd.grad(loss, trained, allow_unused=True, retain_graph=keep)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten()
                      for p, g in zip(trained, found, strict=True)])


@dataclass(frozen=True)
class Pull:
    """Inner products of the gradients of n terms, the baseline's first.

    Attributes:
        batches: n x n, of the gradients of all batches laid end to end. ``mean``: n x n, of their means.
    """

    batches: Sequence[Sequence[float]]
    mean: Sequence[Sequence[float]]

    def cosine(self, weights: Sequence[float], of_mean: bool = False) -> float:
        """Cosine of the weighted sum of all terms with the first one; 1 for a sum that is 0."""
        gram = torch.tensor(self.mean if of_mean else self.batches, dtype=torch.float64)
        w = torch.tensor(weights, dtype=torch.float64)
        length = float((w @ gram @ w).clamp(min=0)) ** 0.5 * float(gram[0, 0]) ** 0.5
        return float(gram[0] @ w) / length if length else 1.0

    def same(self, weights: Sequence[float], limit: float) -> bool:
        """Whether the cosine is above ``limit``, batch by batch and in the mean over the batches."""
        return min(self.cosine(weights), self.cosine(weights, True)) > limit

    def matched(self, strength: float) -> list[float] | None:
        """The weights of all terms but the first, which has 1, that give a strength; None if no weight reaches it.

        The orthogonal parts of several terms are made equally long before they are added.
        """
        gram = torch.tensor(self.batches, dtype=torch.float64)
        own = gram[0, 0]
        orthogonal = (gram.diagonal() - gram[0].square() / own).clamp(min=0)[1:]
        if not own > 0 or bool((orthogonal <= 1e-12 * gram.diagonal()[1:]).any()):
            return None
        units = (own / orthogonal).sqrt()  # each term alone: an orthogonal part as long as g
        along = float(units @ gram[0, 1:] / own)
        square = float(units @ gram[1:, 1:] @ units / own)
        across = math.sqrt(max(0.0, square - along**2))
        if across <= strength * along or across == 0:
            return None
        return (units * strength / (across - strength * along)).tolist()


def pull(steps: Sequence[Callable[[], Step]], terms: Sequence[Term], trained: Sequence[torch.Tensor]) -> Pull:
    """Gradients of the terms, each at weight 1, on some steps.

    Args:
        steps: each makes one answer of the network. ``trained``: parameters.
    """
    count = len(terms)
    gram = torch.zeros(count, count, dtype=torch.float64)
    total = torch.zeros(count, sum(p.numel() for p in trained))
    for make in steps:
        step = make()
        vectors = torch.stack([gradient(Objective([term])(step).loss, trained, i < count - 1).cpu()
                               for i, term in enumerate(terms)])
        gram += (vectors.double() @ vectors.double().T)
        total += vectors / len(steps)
    return Pull(gram.tolist(), (total.double() @ total.double().T).tolist())
