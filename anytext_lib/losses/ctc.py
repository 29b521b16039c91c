r"""The CTC loss: the probability that the recogniser reads the wanted text, under any alignment.

.. math:: ctc_l = -\frac{1}{T} \log \sum_{\pi \in B^{-1}(text)} \prod_{\tau=1}^{T} p_\tau(\pi_\tau), \quad T = 40

Divided by the number of frames, not by the length of the text.  Source: Graves et al. 2006; AnyText2
``cldm/recognizer.py`` (``get_ctcloss``).  Upstream's loss is infinite where the text cannot fit into the frames;
here such a line costs nothing, pulls nothing, and is counted by ``too_long``.
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
    log_probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1).transpose(0, 1)
    flat = torch.tensor([c for ids in targets for c in ids], dtype=torch.long)
    lengths = torch.tensor([len(ids) for ids in targets], dtype=torch.long)
    loss = F.ctc_loss(log_probs, flat.to(logits.device), torch.full((count,), frames), lengths, blank=BLANK,
                      reduction="none", zero_infinity=True)
    return loss / frames


def frames_needed(ids: Sequence[int]) -> int:
    """Frames that a text takes at least: one a character, and one blank between two equal neighbours."""
    return len(ids) + sum(a == b for a, b in zip(ids, ids[1:], strict=False))


def too_long(targets: Sequence[Sequence[int]], frames: int = 40) -> list[int]:
    """Indices of the targets that no alignment fits into ``frames``."""
    return [i for i, ids in enumerate(targets) if frames_needed(ids) > frames]
