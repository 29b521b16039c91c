r"""UDiffText's objective (denoise, look at the right place, be readable), and how well a word is spelled.

.. math:: L = L_{DSM} + \lambda_{loc} L_{loc} + \lambda_{str} L_{str}

Paper and code: .01 and .001; the shipped configuration has L_str switched off.  L_DSM is the plain loss of an eps
network, as D(x) = x - sigma eps(c_in x, t), and L_str asks a reader slot by slot,

.. math::
    L_{DSM} = \sigma^{-2} |D(x) - x_0|^2 = |\epsilon(c_{in} x, t) - \epsilon|^2, \qquad
    L_{str} = \frac{1}{n} \sum_{k=1}^{n} -\log p_k(c_k)

For a network that predicts v the weight is 1 + sigma^-2, with which L_DSM is the plain loss of v.

Slot k must show character k of the word, so that order counts.  Nothing is asked of the slot after the word, where a
reader says that the word has ended, nor of later ones: a word with extra letters costs hardly more than a right one.
Upstream clamps the mean of each word at 1, and with that the gradient is zero for every word that is badly wrong.

SeqAcc is UDiffText's measure: the share of words that a reader reads exactly, upper and lower case being the same, each
cut out by its upright box (not the tilted one).  Upstream reads with PARSeq, which is also what the sequence loss was
computed with; here any judge of ``anytext_lib.ocr`` reads, and the loss's reader should not.

Source: UDiffText (``EpsWeighting`` of Stability's generative-models, where ``VWeighting`` stands beside it;
``calc_loss`` of ``sgm/modules/predictors/model.py``, with PARSeq as the reader; ``test.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from anytext_lib.data.lines import TextLines
from anytext_lib.diffusion import PREDICTION_TYPES
from anytext_lib.losses.step import require_finite, require_shape
from anytext_lib.losses.terms import squared_error
from anytext_lib.ocr.crops import crop_lines
from anytext_lib.udifftext.attention import MIN_SIZE, gaussian_kernel, local_attention_loss, smooth
from anytext_lib.udifftext.label_encoder import END, Characters

# losses

def denoising_loss(estimate: torch.Tensor, x0: torch.Tensor, sigma: torch.Tensor,
                   prediction_type: str = "epsilon") -> torch.Tensor:
    """Mean squared error of the denoiser's estimate, weighted so that it is that of what the network predicts.

    Args:
        estimate, x0: (B, C, h, w), the estimate that of ``denoised``. ``sigma``: (B,), positive.
        prediction_type: of the network; the weight is sigma^-2 for epsilon, 1 + sigma^-2 for v_prediction, 1 for
            sample.

    Returns:
        (B,) loss of each sample; up to rounding ``diffusion_loss`` of the network's output.

    Raises:
        ValueError: shapes differ, or an unknown prediction type.
    """
    if prediction_type not in PREDICTION_TYPES:
        raise ValueError(f"prediction_type is one of {PREDICTION_TYPES}, got {prediction_type!r}")
    inverse = sigma.to(estimate.device).square().reciprocal()
    weight = {"epsilon": inverse, "sample": torch.ones_like(inverse), "v_prediction": 1 + inverse}[prediction_type]
    return weight * squared_error(estimate, x0).flatten(1).mean(dim=1)


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
                           torch.tensor(ids).to(slots.device, non_blocking=True))


@dataclass(frozen=True)
class UDiffTextTerms:
    """Unweighted terms of each sample, (B,); ``sequence`` is None where it is switched off. ``loss`` is a scalar."""

    diffusion: torch.Tensor
    local: torch.Tensor
    sequence: torch.Tensor | None
    loss: torch.Tensor

    def parts(self, weights: Mapping[str, float]) -> dict[str, torch.Tensor]:
        """Detached values (B,) with their weight in the loss, and without ({name}_raw) where it is not 1."""
        named = {"diff": self.diffusion, "local": self.local, "str": self.sequence}
        found = {key: weights.get(key, 1.0) * value.detach() for key, value in named.items() if value is not None}
        return found | {f"{key}_raw": value.detach() for key, value in named.items()
                        if value is not None and key in weights}

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
        prediction_type: of the network, see ``denoising_loss``.
    """

    local_weight: float = 0.01
    sequence_weight: float = 0.0
    clamp: float | None = None
    kernel_size: int = 3
    sigma: float = 1.0
    min_size: int = MIN_SIZE
    prediction_type: str = "epsilon"

    def __call__(self, estimate: torch.Tensor, x0: torch.Tensor, sigma: torch.Tensor, maps: Iterable[torch.Tensor],
                 segments: torch.Tensor, valid: torch.Tensor, word_logits: torch.Tensor | None = None,
                 words: Sequence[str] = ()) -> UDiffTextTerms:
        """All terms, in float32 under autocast too.

        Args:
            estimate, x0, sigma: see ``denoising_loss``. ``maps``, ``segments``, ``valid``: ``local_attention_loss``.
            word_logits, words: see ``sequence_loss``; one word a sample. Needed if ``sequence_weight`` > 0.

        Raises:
            ValueError: shapes do not agree, or the reader's logits are missing.
            NonFiniteError: the estimate is not finite.
        """
        with torch.autocast(estimate.device.type, enabled=False):
            require_finite({"denoising term: estimate": estimate})
            diffusion = denoising_loss(estimate, x0, sigma, self.prediction_type)
            local = local_attention_loss(maps, segments, valid, self.kernel_size, self.sigma, self.min_size)
            loss, sequence = diffusion.mean() + self.local_weight * local.mean(), None
            if self.sequence_weight > 0:
                if word_logits is None:
                    raise ValueError("sequence_weight > 0 needs word_logits, a reader's scores of the decoded words")
                sequence = sequence_loss(word_logits, list(words), self.clamp)
                loss = loss + self.sequence_weight * sequence.mean()
            return UDiffTextTerms(diffusion, local, sequence, loss)


# SeqAcc

def same_word(read: str, wanted: str) -> bool:
    """Whether two words are equal but for case; nothing else is forgiven, spaces and punctuation included."""
    return read.lower() == wanted.lower()


def sequence_accuracy(read: Sequence[str], wanted: Sequence[str]) -> float:
    """Share of words that are ``same_word``; NaN for none.

    Raises:
        ValueError: another number of words read than wanted.
    """
    if isinstance(read, str) or isinstance(wanted, str) or len(read) != len(wanted):
        raise ValueError(f"give one word read for each word wanted, got {len(read)} and {len(wanted)}")
    return sum(map(same_word, read, wanted)) / len(wanted) if len(wanted) else float("nan")


def upright_boxes(lines: TextLines) -> TextLines:
    """The lines with their quads replaced by the upright boxes around them."""
    low, high = lines.quads.amin(dim=1), lines.quads.amax(dim=1)
    (left, top), (right, bottom) = low.unbind(1), high.unbind(1)
    quads = torch.stack([left, top, right, top, right, bottom, left, bottom], dim=1).reshape(-1, 4, 2)
    return TextLines(lines.image_index, quads, lines.texts, lines.languages, lines.skipped)


@torch.no_grad()
def measure_sequence_accuracy(images: torch.Tensor, lines: TextLines, judge) -> tuple[float, list[str]]:
    """Measure SeqAcc of pictures; returns the readings too.

    Args:
        images: (B, 3, H, W) in [-1, 1], RGB. ``lines``: the words that they are to show.
        judge: something with ``read(crops) -> list[str]``, see ``anytext_lib.ocr.judge``.
    """
    read = judge.read(crop_lines(images.float().cpu(), upright_boxes(lines))) if len(lines) else []
    return sequence_accuracy(read, lines.texts), read


# maps

def peak_hits(layer: torch.Tensor, segments: torch.Tensor, kernel_size: int = 3, sigma: float = 1.0) -> torch.Tensor:
    """Whether the strongest (smoothed) attention of each character lies in its own region, (B, J) bool.

    It is where a character's part of L_loc is negative.

    Args:
        layer: map (B, tokens, h, w), at least J tokens. ``segments``: (B, J, H, W) in {0, 1}.
    """
    own = F.interpolate(segments.to(layer), layer.shape[-2:])
    seen = smooth(layer[:, : segments.shape[1]], gaussian_kernel(kernel_size, sigma))
    return (seen * own).flatten(2).amax(dim=2) > (seen * (1 - own)).flatten(2).amax(dim=2)


def own_share(layer: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """Share of each character's attention that lies in its own region, (B, J) in [0, 1]; not smoothed."""
    own = F.interpolate(segments.to(layer), layer.shape[-2:])
    seen = layer[:, : segments.shape[1]]
    return (seen * own).sum(dim=(2, 3)) / seen.sum(dim=(2, 3)).clamp(min=1e-12)


def mean_over_characters(values: torch.Tensor, valid: torch.Tensor) -> float:
    """Mean of (B, J) over the characters that are there; NaN for none."""
    require_shape("valid", valid, tuple(values.shape))
    return float((values * valid).sum() / valid.sum())


def touched_positions(loss: torch.Tensor, maps: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """For each map, which positions of which tokens a scalar loss has a gradient at: bool, of the map's shape."""
    maps = list(maps)
    gradients = torch.autograd.grad(loss, maps, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(layer, dtype=torch.bool) if gradient is None else gradient != 0
            for layer, gradient in zip(maps, gradients, strict=True)]
