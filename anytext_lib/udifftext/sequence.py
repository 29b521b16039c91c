r"""The sequence loss L_str: does a reader see the wanted characters, slot by slot?

.. math:: L_{str} = \frac{1}{n} \sum_{k=1}^{n} -\log p_k(c_k)

Slot k must show character k of the word, so that order counts.  Nothing is asked of the slot after the word, where a
reader says that the word has ended, nor of later ones: a word with extra letters costs hardly more than a right one.
Source: UDiffText, ``sgm/modules/predictors/model.py`` (``calc_loss``, with PARSeq as the reader).  Upstream clamps the
mean of each word at 1, and with that the gradient is zero for every word that is badly wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from anytext_lib.udifftext.characters import END, Characters


def sequence_loss(logits: torch.Tensor, targets: Sequence[Sequence[int]] | Sequence[str],
                  clamp: float | None = None, characters: Characters | None = None) -> torch.Tensor:
    """Mean cross-entropy over the slots of each word.

    Args:
        logits: (B, T, C) scores of a reader's slots before the softmax; class 0 ends the word.
        targets: B words, as texts, or as sequences of classes in 1..C-1.
        clamp: largest value of a word's loss, upstream 1.0; where it acts, the word pulls nothing. None clamps not.
        characters: what turns texts into classes; by default the 94 printable ones of PARSeq.

    Returns:
        (B,) loss of each word; 0 for an empty one.

    Raises:
        ValueError: numbers of words differ, a word is longer than the slots, or has a class or character unknown.
    """
    if logits.ndim != 3 or len(targets) != len(logits):
        raise ValueError(f"logits of shape (B, T, C) and {len(targets)} words do not agree: {tuple(logits.shape)}")
    characters = characters or Characters()
    rows = [characters.encode(word) if isinstance(word, str) else list(word) for word in targets]
    losses = [_word_loss(slots, ids, i) for i, (slots, ids) in enumerate(zip(logits, rows, strict=True))]
    loss = torch.stack(losses) if losses else logits.new_zeros(0)
    return loss if clamp is None else loss.clamp(max=clamp)


def _word_loss(slots: torch.Tensor, ids: list[int], row: int) -> torch.Tensor:
    count, classes = slots.shape
    if len(ids) > count:
        raise ValueError(f"word {row} has {len(ids)} characters, the reader {count} slots")
    if any(not END < c < classes for c in ids):
        raise ValueError(f"word {row} has a class outside 1..{classes - 1}: {ids}")
    if not ids:
        return slots.sum() * 0
    return F.cross_entropy(slots[: len(ids)].to(torch.promote_types(slots.dtype, torch.float32)),
                           torch.tensor(ids, device=slots.device))
