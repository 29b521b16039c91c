"""The losses of a run from its options: a list of terms, or the short ones (loss_alpha, loss_beta, region_weight)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from anytext_lib.losses.terms import Term, TermError, ctc, make_term, ocr, region, simple
from anytext_lib.losses.weights import LossWeightSchedule, Weighting, WeightingError, make_weighting


def chosen_weighting(weighting: str | Mapping[str, Any] | None, with_step_weight: bool) -> Weighting:
    """The step weighting of the terms that read; by default abar, or uniform without step weight.

    Raises:
        WeightingError: it does not exist, or both options say something else.
    """
    if weighting is not None and not with_step_weight:
        raise WeightingError(f"with_step_weight false is the weighting uniform, but weighting is {weighting!r}: give "
                             "one of the two")
    return make_weighting(weighting or ("abar" if with_step_weight else "uniform"))


def training_terms(terms: Sequence[str | Mapping[str, Any] | Term] | None, loss_alpha: LossWeightSchedule,
                   loss_beta: LossWeightSchedule, region_weight: float, weighting: Weighting,
                   monitored: bool, ctc_unknown: str = "space") -> list[Term]:
    """The terms of a run.

    Args:
        terms: descriptions, see ``make_term``, or terms; `simple` is put in front where it is missing.  None for
            those of the other options: the diffusion loss, `region` for a ``region_weight`` other than 1, and
            `ocr` and `ctc` where they have a weight or are ``monitored``.
        weighting: of the terms that read and name none.

    Raises:
        TermError, WeightingError: a description is wrong, or other options weigh terms as well.
    """
    if not 0 <= region_weight < float("inf"):
        raise TermError(f"region_weight must not be negative, and finite, got {region_weight}")
    if terms is None:
        reading = [Term(name, function, weight, weighting) for name, function, weight in
                   (("ocr", ocr, loss_alpha), ("ctc", partial(ctc, unknown=ctc_unknown), loss_beta))
                   if monitored or weight.value > 0]
        inside = [Term("region", region, region_weight - 1)] if region_weight != 1 else []
        return [Term("simple", simple), *inside, *reading]
    short = {"loss_alpha": loss_alpha.value, "loss_beta": loss_beta.value, "region_weight": region_weight - 1,
             "ctc_unknown": ctc_unknown != "space"}
    if given := [name for name, value in short.items() if value]:
        raise TermError(f"{given[0]} is short for a term, and there is a list of terms: write it there, or leave "
                        "the list out")
    made = [make_term(choice, weighting) for choice in terms]
    return made if any(term.name == "simple" for term in made) else [Term("simple", simple), *made]
