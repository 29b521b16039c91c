r"""UDiffText's whole objective: denoise, look at the right place, be readable.

.. math:: L = L_{DSM} + \lambda_{loc} L_{loc} + \lambda_{str} L_{str}

Paper and code: .01 and .001; the shipped configuration has L_str switched off.  L_DSM is the plain loss of an eps
network, as D(x) = x - sigma eps(c_in x, t):

.. math:: \sigma^{-2} |D(x) - x_0|^2 = |\epsilon(c_{in} x, t) - \epsilon|^2

Source: UDiffText (``EpsWeighting`` of Stability's generative-models).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from anytext_lib.losses.step import require_finite
from anytext_lib.losses.terms import squared_error
from anytext_lib.udifftext.localisation import MIN_SIZE, local_attention_loss
from anytext_lib.udifftext.sequence import sequence_loss


def denoising_loss(estimate: torch.Tensor, x0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """sigma^-2 times the mean squared error of the denoiser's estimate.

    Args:
        estimate, x0: (B, C, h, w), the estimate that of ``denoised``. ``sigma``: (B,), positive.

    Returns:
        (B,) loss of each sample; up to rounding ``diffusion_loss`` of the network's eps.

    Raises:
        ValueError: shapes differ.
    """
    return squared_error(estimate, x0).flatten(1).mean(dim=1) / sigma.to(estimate.device).square()


@dataclass(frozen=True)
class UDiffTextTerms:
    """Unweighted terms of each sample, (B,); ``sequence`` is None where it is switched off. ``loss`` is a scalar."""

    diffusion: torch.Tensor
    local: torch.Tensor
    sequence: torch.Tensor | None
    loss: torch.Tensor

    def log(self, prefix: str) -> dict[str, torch.Tensor]:
        """Detached means: {prefix}/diff, /local, /str (if there is one) and /loss."""
        named = {"diff": self.diffusion, "local": self.local, "str": self.sequence, "loss": self.loss}
        return {f"{prefix}/{key}": value.detach().mean() for key, value in named.items() if value is not None}


@dataclass(frozen=True)
class UDiffTextObjective:
    """The weights and settings of the objective; see the three losses.

    Attributes:
        local_weight: lambda_loc; 0 switches the term off (it is still computed: it is what one watches).
        sequence_weight: lambda_str; 0 needs no reader.
        clamp: largest sequence loss of a word, upstream 1.0, or None; a clamped word pulls nothing.
        kernel_size, sigma, min_size: of the maps of attention.
    """

    local_weight: float = 0.01
    sequence_weight: float = 0.0
    clamp: float | None = None
    kernel_size: int = 3
    sigma: float = 1.0
    min_size: int = MIN_SIZE

    def __call__(self, estimate: torch.Tensor, x0: torch.Tensor, sigma: torch.Tensor, maps: Iterable[torch.Tensor],
                 segments: torch.Tensor, valid: torch.Tensor, word_logits: torch.Tensor | None = None,
                 words: Sequence[str] = ()) -> UDiffTextTerms:
        """All terms.

        Args:
            estimate, x0, sigma: see ``denoising_loss``. ``maps``, ``segments``, ``valid``: ``local_attention_loss``.
            word_logits, words: see ``sequence_loss``; one word a sample. Needed if ``sequence_weight`` > 0.

        Raises:
            ValueError: shapes do not agree, or the reader's logits are missing.
            NonFiniteError: the estimate is not finite.
        """
        require_finite({"denoising term: estimate": estimate})
        diffusion = denoising_loss(estimate, x0, sigma)
        local = local_attention_loss(maps, segments, valid, self.kernel_size, self.sigma, self.min_size)
        loss, sequence = diffusion.mean() + self.local_weight * local.mean(), None
        if self.sequence_weight > 0:
            if word_logits is None:
                raise ValueError("sequence_weight > 0 needs word_logits, a reader's scores of the decoded words")
            sequence = sequence_loss(word_logits, list(words), self.clamp)
            loss = loss + self.sequence_weight * sequence.mean()
        return UDiffTextTerms(diffusion, local, sequence, loss)
