r"""Losses as values: a term is a function of a ``Step``, a weight, and a weighting of noise levels.

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

from anytext_lib.errors import AnyTextError
from anytext_lib.losses.ctc import ctc_loss
from anytext_lib.losses.diffusion import diffusion_loss
from anytext_lib.losses.ocr import layered_ocr_loss, ocr_loss
from anytext_lib.losses.region import region_loss
from anytext_lib.losses.step import Step
from anytext_lib.losses.weights import LossWeightSchedule, Weighting, make_weighting


class TermError(AnyTextError, ValueError):
    """A term that does not exist, or that is described wrongly."""


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
def ctc(step: Step) -> torch.Tensor:
    """(K,) -log of the probability that the text is read, see ``ctc_loss``."""
    return ctc_loss(step.seen.logits, step.targets)


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
                        "such as anytext_lib.udifftext.terms.local")
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
