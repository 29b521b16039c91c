r"""The losses of AnyText2, and what makes any loss a term of an objective.

Each is a function of a few lines under its formula: first of tensors (``diffusion_loss``, ``region_weighted_loss``,
``ocr_loss``, ``ctc_loss``), then of a ``Step`` (``simple``, ``region``, ``ocr``, ``ctc``).  An objective sums terms,

.. math:: L = \frac{1}{B} \sum_b \sum_k \omega_k\, w_k(t_b)\, E_{k,b}

E_k is (B,), or one value for each of the K lines that were read; a sample then counts the mean over its lines of
language weight times value, and 0 if it has none.  A new loss is a new function:

    def brightness(step):                       # (B,)
        return step.x0.mean(dim=(1, 2, 3)).square()

    Objective([Term("simple", simple), Term("brightness", brightness, weight=0.1)])

and `anytext fit --terms '[{name: my_package.my_module.brightness, weight: 0.1}]'` trains with it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F

from anytext_lib.errors import AnyTextError
from anytext_lib.losses.fast_ctc import BLANK, fast_ctc_loss, require_targets
from anytext_lib.losses.step import Step, require_shape
from anytext_lib.losses.weights import LossWeightSchedule, Weighting, make_weighting

UNKNOWN = ("space", "skip_characters", "skip_lines")


class TermError(AnyTextError, ValueError):
    """A term that does not exist, or that is described wrongly."""


class LayerError(AnyTextError, ValueError):
    """The recogniser has no layer of this name."""


# of tensors

def diffusion_loss(model_output: torch.Tensor, target: torch.Tensor,
                   invalid_mask: torch.Tensor | None = None) -> torch.Tensor:
    r"""Masked mean squared error of each sample.

    .. math:: sim_b = \frac{1}{C h w} \sum_{c,y,x} (1 - m_b) (prediction - target)^2

    The mean divides by all elements, masked ones too: masking also shrinks the loss.
    Source: AnyText2 ``ldm/models/diffusion/ddpm.py`` (``p_losses``), where the mask acts on this term only.

    Args:
        model_output, target: (B, C, h, w), any floating type; computed in float32 at least.
        invalid_mask: (B, 1, H, W) in [0, 1], 1 = text that must not be learnt (annotated as invalid, or beyond the
            lines in use); resized to h x w by nearest neighbour.  None masks nothing.

    Returns:
        (B,) loss of each sample.

    Raises:
        ValueError: shapes do not agree.
    """
    error = squared_error(model_output, target)
    if invalid_mask is not None:
        error = error * (1 - resize_mask(invalid_mask, error))
    return error.flatten(1).mean(dim=1)


def squared_error(model_output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(model_output - target)^2, elementwise, in float32 at least."""
    if model_output.shape != target.shape:
        raise ValueError(f"model_output {tuple(model_output.shape)} and target {tuple(target.shape)} differ in shape")
    dtype = torch.promote_types(model_output.dtype, torch.float32)
    return (model_output.to(dtype) - target.to(dtype)).square()


def resize_mask(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A mask (B, 1, H, W) at the resolution of ``like`` (B, C, h, w), by nearest neighbour: (B, 1, h, w)."""
    require_shape("mask", mask, (like.shape[0], 1, None, None))
    return F.interpolate(mask.to(like), size=like.shape[-2:])


def region_weighted_loss(model_output: torch.Tensor, target: torch.Tensor, region_mask: torch.Tensor,
                         weight: float = 5.0, invalid_mask: torch.Tensor | None = None) -> torch.Tensor:
    r"""Mean squared error of each sample, counted ``weight`` times inside the text.

    .. math:: L_b = \frac{1}{C h w} \sum_{c,y,x} (1 + (\lambda - 1) r_b) (1 - m_b) (prediction - target)^2

    The cheap baseline that every OCR loss must beat: no decoder, no recogniser, only more weight where text stands.
    FLUX-Text (2025) keeps such a term beside its feature losses.

    Args:
        model_output, target: (B, C, h, w).
        region_mask: (B, 1, H, W) in [0, 1], 1 = text; resized to h x w by nearest neighbour.
        weight: factor inside the region; 1 gives ``diffusion_loss``.
        invalid_mask: as in ``diffusion_loss``.

    Returns:
        (B,) loss of each sample, not renormalised: more text gives a larger loss.

    Raises:
        ValueError: shapes do not agree, or the weight is negative.
    """
    if weight < 0:
        raise ValueError(f"the weight of the text region must not be negative, got {weight}")
    error = squared_error(model_output, target)
    error = error * (1 + (weight - 1) * resize_mask(region_mask, error))
    if invalid_mask is not None:
        error = error * (1 - resize_mask(invalid_mask, error))
    return error.flatten(1).mean(dim=1)


def region_loss(model_output: torch.Tensor, target: torch.Tensor, region_mask: torch.Tensor,
                invalid_mask: torch.Tensor | None = None) -> torch.Tensor:
    r"""What the weight adds: mean of r (1 - m) times the squared error, (B,).

    ``region_weighted_loss(..., weight)`` is ``diffusion_loss + (weight - 1) region_loss``; arguments as there.
    """
    error = squared_error(model_output, target)
    error = error * resize_mask(region_mask, error)
    if invalid_mask is not None:
        error = error * (1 - resize_mask(invalid_mask, error))
    return error.flatten(1).mean(dim=1)


def ocr_loss(features: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    r"""The OCR perceptual loss: mean squared difference of the reader's features, line by line.

    .. math:: ocr_l = \frac{1}{T D} \sum_{\tau, d} (f(\hat x_l) - f(x_l))^2, \quad T = 40, D = 64

    f is the neck of PP-OCRv3, after its SVTR encoder and before the last linear layer.
    Source: AnyText2 ``ldm/models/diffusion/ddpm.py`` (``p_losses``) and ``cldm/recognizer.py``.

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


def layered_ocr_loss(maps: Mapping[str, torch.Tensor], reference: Mapping[str, torch.Tensor], layers: Sequence[str],
                     mean_squares: Mapping[str, float] | None = None) -> torch.Tensor:
    r"""The OCR loss on several layers of the recogniser in place of its neck alone.

    .. math:: multi_l = \frac{1}{S} \sum_{s=1}^{S} \frac{\operatorname{mean} (f_s(\hat x_l) - f_s(x_l))^2}{\mu_s}

    with mu_s the mean square of layer s on true lines, so that no layer dominates because its numbers are large.
    Early layers know strokes and where they are, the neck knows the line.  FLUX-Text (2025) takes several scales.

    Args:
        maps, reference: (L, ...) of every layer, of the predicted and of the true lines (constants), as from
            ``recognizer.feature_maps``.
        layers: names, such as "block3", "block7", "block11", "neck".
        mean_squares: mu_s; None takes it from ``reference``.

    Returns:
        (L,) loss of each line, before any weight.

    Raises:
        LayerError: there is no layer of a name.
    """
    if unknown := [name for name in layers if name not in maps]:
        raise LayerError(f"the recogniser has no layer {unknown[0]!r}: choose from {', '.join(maps)}")
    scales = mean_squares or {name: reference[name].detach().square().mean() for name in layers}
    losses = [ocr_loss(maps[name], reference[name]) / scales[name] for name in layers]
    return torch.stack(losses).mean(dim=0)


def ctc_loss(logits: torch.Tensor, targets: Sequence[Sequence[int]]) -> torch.Tensor:
    r"""CTC loss of each line: -log of the probability that the recogniser reads the text, under any alignment.

    .. math:: ctc_l = -\frac{1}{T} \log \sum_{\pi \in B^{-1}(text)} \prod_{\tau=1}^{T} p_\tau(\pi_\tau), \quad T = 40

    Divided by the number of frames, not by the length of the text.  Source: Graves et al. 2006; AnyText2
    ``cldm/recognizer.py`` (``get_ctcloss``).  Upstream's loss is infinite where the text cannot fit into the frames;
    here such a line costs nothing, pulls nothing, and is counted by ``too_long``.

    Args:
        logits: (L, T, K) scores before the softmax, class 0 is the blank.
        targets: L sequences of class ids in 1..K-1; an empty one stands for an empty line.

    Returns:
        (L,) loss of each line; 0 with zero gradient where the text does not fit T frames.

    Raises:
        ValueError: numbers of lines differ, or an id is the blank or beyond the classes.
    """
    require_targets(logits, targets)
    if not targets:
        return logits.new_zeros(0)
    log_probs = logits.log_softmax(dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32)).transpose(0, 1)
    flat = torch.tensor([c for ids in targets for c in ids], dtype=torch.long, device=logits.device)
    frames, lengths = torch.full((len(targets),), len(log_probs)), torch.tensor([len(ids) for ids in targets])
    return F.ctc_loss(log_probs, flat, frames, lengths, BLANK, reduction="none", zero_infinity=True) / len(log_probs)


def frames_needed(ids: Sequence[int]) -> int:
    """Frames that a text takes at least: one a character, and one blank between two equal neighbours."""
    return len(ids) + sum(a == b for a, b in zip(ids, ids[1:], strict=False))


def too_long(targets: Sequence[Sequence[int]], frames: int = 40) -> list[int]:
    """Indices of the targets that no alignment fits into ``frames``."""
    return [i for i, ids in enumerate(targets) if frames_needed(ids) > frames]


# of steps

def per_line(function: Any) -> Any:
    """Mark a function of a Step that gives one value for each line that was read, (K,)."""
    function.per_line = True
    return function


def watching(watch: Callable) -> Callable[[Any], Any]:
    """Mark a function of a Step that needs a pass of the network recorded by ``watch``, see ``Term.watch``."""
    def mark(function: Any) -> Any:
        function.watch = watch
        return function
    return mark


def simple(step: Step) -> torch.Tensor:
    """(B,) masked mean squared error of the prediction, see ``diffusion_loss``."""
    return diffusion_loss(step.output, step.target, step.batch.invalid_mask)


def region(step: Step, where: Callable[[Step], torch.Tensor] = lambda step: step.text_region) -> torch.Tensor:
    """(B,) what a greater weight inside the text adds, see ``region_loss``; ``where``: r (B, 1, H, W) in [0, 1]."""
    return region_loss(step.output, step.target, where(step), step.batch.invalid_mask)


@per_line
def ocr(step: Step, layers: Sequence[str] = (), mean_squares: Mapping[str, float] | None = None) -> torch.Tensor:
    """(K,) distance of the recogniser's features, see ``ocr_loss``; with ``layers``, see ``layered_ocr_loss``."""
    if layers:
        maps, reference = step.layers
        return layered_ocr_loss(maps, reference, layers, mean_squares)
    return ocr_loss(step.seen.features, step.truth)


@per_line
def ctc(step: Step, fast: bool = True, unknown: str = "space") -> torch.Tensor:
    """(K,) -log of the probability that the text is read: ``fast_ctc_loss``, or ``ctc_loss``, of equal values.

    Args:
        unknown: what becomes of characters that the recogniser's dictionary lacks: "space", as upstream (the loss then
            teaches the model to leave a gap there); "skip_characters": the line is to be read without them, one of
            which nothing is left is left out; "skip_lines": lines with such a character are left out.  A line that is
            left out costs nothing and pulls nothing; it still counts among its picture's lines.

    Raises:
        TermError: no such choice.
    """
    if unknown not in UNKNOWN:
        raise TermError(f"unknown characters of the term ctc: choose one of {', '.join(UNKNOWN)}, got {unknown!r}")
    loss = fast_ctc_loss if fast else ctc_loss
    if unknown == "space":
        return loss(step.seen.logits, step.targets)
    charset, texts = step.instruments.recognizer.charset, step.lines.texts
    known = [charset.known(text) for text in texts]
    kept = [i for i, text in enumerate(texts) if known[i].strip() and (unknown == "skip_characters"
                                                                       or not charset.unknown(text))]
    rows = torch.tensor(kept, dtype=torch.int64, device=step.seen.logits.device)
    found = loss(step.seen.logits[rows], [charset.encode(known[i]) for i in kept])
    return found.new_zeros(len(texts)).index_add(0, rows, found)


TERMS: dict[str, Callable[..., torch.Tensor]] = {"simple": simple, "region": region, "ocr": ocr, "ctc": ctc}
"""Terms by the names that `anytext fit --terms` knows; others by the path of their function."""


@dataclass(frozen=True)
class Term:
    """One loss of an objective.

    Attributes:
        name: in logs. ``function``: Step -> (B,), or (K,) for a function marked with ``per_line``.
        weight: a number, or one that depends on the optimizer step; at weight 0 the term is watched: computed
            without gradient, and no part of the loss.
        weighting: factor for each noise level, see ``losses.weights``; None for none.

    Raises:
        TermError: the weight is no finite number.
    """

    name: str
    function: Callable[[Step], torch.Tensor]
    weight: float | LossWeightSchedule = 1.0
    weighting: Weighting | None = None

    def __post_init__(self):
        if not isinstance(self.weight, LossWeightSchedule) and not math.isfinite(self.weight):
            raise TermError(f"the weight of term {self.name} is a finite number, got {self.weight}")

    def weight_at(self, step: int | None) -> float:
        """The weight at an optimizer step; None for the final one."""
        if not isinstance(self.weight, LossWeightSchedule):
            return self.weight
        return float(self.weight.value) if step is None else self.weight(step)

    @property
    def per_line(self) -> bool:
        """Whether the function gives a value for each line."""
        return getattr(getattr(self.function, "func", self.function), "per_line", False)

    @property
    def watch(self) -> Callable | None:
        """``watch(network)``, a context in which a pass of the network is recorded for this term; or None.

        It yields a dict for ``Step.watched``.  A function that needs it has it as an attribute.
        """
        return getattr(getattr(self.function, "func", self.function), "watch", None)


def make_term(choice: str | Mapping[str, Any] | Term, weighting: Weighting | None = None) -> Term:
    """A term from its description.

    Args:
        choice: a name, or {"name": ..., "weight": 0.003, "weighting": "min_snr", ...}, the weight a number or
            {"value": ..., "start": ..., "ramp": ...}; what else there is goes to the term's function.  The name is
            one of ``TERMS``, or the path of a function, or of a class that makes one: "package.module.function".
        weighting: of terms that read and name none.

    Raises:
        TermError, WeightingError: something of it does not exist or does not fit; the message says what.
    """
    if isinstance(choice, Term):
        return choice
    given = {"name": choice} if isinstance(choice, str) else dict(choice)
    name, weight = str(given.pop("name", None)), given.pop("weight", 1.0)
    chosen = given.pop("weighting", None)
    function = TERMS[name] if name in TERMS else _imported(name)
    parameters = inspect.signature(function).parameters
    known = [key for key in parameters if key != "step"]
    if unknown := [key for key in given if key not in known]:
        raise TermError(f"term {name} has no parameter {unknown[0]!r}: it has "
                        f"{', '.join(['weight', 'weighting', *known])}")
    function = function(**given) if inspect.isclass(function) else partial(function, **given)
    term = Term(name.rpartition(".")[2], function, _weight(name, weight))
    if chosen is not None or term.per_line:
        return Term(term.name, function, term.weight, weighting if chosen is None else make_weighting(chosen))
    return term


def _imported(path: str) -> Callable:
    """The function or class of a dotted path."""
    module, _, name = path.rpartition(".")
    if not module:
        raise TermError(f"there is no term {path!r}: choose one of {', '.join(TERMS)}, or give the path of a function, "
                        "such as anytext_lib.udifftext.attention_term.local")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise TermError(f"there is no term {path!r}: {error}") from error


def _weight(name: str, weight: Any) -> float | LossWeightSchedule:
    try:
        return LossWeightSchedule(**weight) if isinstance(weight, Mapping) else float(weight)
    except (TypeError, ValueError) as error:
        raise TermError(f"the weight of term {name} is a number, or value, start and ramp, got {weight!r} "
                        f"({error})") from error
