"""A sum of terms: the loss of a step, and the values of its terms, samples and lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from anytext_lib.losses.step import Step
from anytext_lib.losses.terms import Term, TermError

UNBOUNDED = ("The weighting is infinite at this noise level, as the signal-to-noise ratio is at abar = 1: choose one "
             "with a limit, such as min_snr, or leave this timestep out")


def key_of(name: str) -> str:
    """The key of a term in logs: its name, and for simple upstream's "sim"."""
    return "sim" if name == "simple" else name


@dataclass(frozen=True)
class TermValues:
    """Values of one term.

    Attributes:
        weight: at this step; 0 for a term that is watched.
        samples: (B,) what the term adds to each sample's loss, all weights included; zeros for a watched one.
        raw: (B,) before weight and weighting; for a term that reads, the weighted mean over the sample's lines.
        lines: (K,) before any weight, for terms that read; else None.
    """

    weight: float
    samples: torch.Tensor
    raw: torch.Tensor
    lines: torch.Tensor | None = None


@dataclass(frozen=True)
class Values:
    """Result of an objective: ``samples`` (B,) with gradient, and the values ``terms`` by name."""

    samples: torch.Tensor
    terms: dict[str, TermValues]

    @property
    def loss(self) -> torch.Tensor:
        """Mean over the batch, a scalar; it carries the gradient."""
        return self.samples.mean()

    def log(self) -> dict[str, torch.Tensor]:
        """Detached scalars: what each term adds, under its name (simple as upstream's "sim"); and NAME_raw, the
        unweighted mean over the lines, or over the batch of a watched term; "loss"."""
        found = {}
        for name, value in self.terms.items():
            key, raw = key_of(name), value.raw if value.lines is None else value.lines
            found[key] = value.samples.detach().mean()
            if (value.weight == 0 or value.lines is not None) and len(raw):
                found[f"{key}_raw"] = raw.detach().mean()
        return found | {"loss": self.loss.detach()}


class Objective:
    """Weighted sum of terms.

    Args:
        terms: with different names; their order is that of the sum.

    Raises:
        TermError: two terms of one name.
    """

    def __init__(self, terms: Sequence[Term]):
        self.terms = {term.name: term for term in terms}
        if len(self.terms) < len(terms):
            raise TermError(f"two terms have the same name: {', '.join(term.name for term in terms)}")

    @contextmanager
    def watch(self, network) -> Iterator[dict[str, Any]]:
        """Within the block a pass of the network is recorded for the terms that look inside: for ``Step.watched``."""
        watched: dict[str, Any] = {}
        with ExitStack() as stack:
            for watch in dict.fromkeys(term.watch for term in self.terms.values() if term.watch):
                watched.update(stack.enter_context(watch(network)))
            yield watched

    def weight(self, name: str, at: int | None = None) -> float:
        """Weight of a term at an optimizer step, None for the final one; 0 where there is no such term."""
        return self.terms[name].weight_at(at) if name in self.terms else 0.0

    def __call__(self, step: Step, at: int | None = None, watch: bool = True) -> Values:
        """Evaluate all terms.

        Args:
            at: number of the optimizer step, for weights that depend on it; None for the final weights.
            watch: whether terms of weight 0 are computed as well.

        Raises:
            NonFiniteError: NaN or infinity in an input or a term; names the term and the sample.
            BadLineError, ValueError: bad lines or shapes.
        """
        step.check_inputs()
        weights = {name: term.weight_at(at) for name, term in self.terms.items()}
        order = sorted(weights, key=lambda name: weights[name] == 0)  # those with gradient first: others look on
        values = {}
        for name in order:
            if weights[name] or watch:
                with torch.set_grad_enabled(torch.is_grad_enabled() and weights[name] != 0):
                    values[name] = evaluate(self.terms[name], step, weights[name])
        step.checks.test()
        parts = [values[name].samples for name in weights if weights[name]]
        total = sum(parts[1:], parts[0]) if parts else (step.output * 0).flatten(1).sum(dim=1)
        return Values(total, {name: values[name] for name in weights if name in values})


def evaluate(term: Term, step: Step, weight: float) -> TermValues:
    """The values of one term of a step."""
    dtype, lines = torch.promote_types(step.output.dtype, torch.float32), None
    factor = torch.ones(len(step), dtype=dtype, device=step.output.device)
    if term.weighting is not None:
        factor = term.weighting(step.abar).to(factor)
        step.checks.add(f"step weight of the {term.name} term", factor, remedy=UNBOUNDED)
    if term.per_line:
        lines = term.function(step) if step.rows else factor.new_zeros(0)
        step.checks.add(f"{term.name} term: loss of a line", lines, step.lines.image_index)
        total = torch.zeros_like(factor)
        count = total.index_add(0, step.image_index, torch.ones_like(step.language_weight, dtype=dtype)).clamp(min=1)
        total = total.index_add(0, step.image_index, (step.language_weight * lines).to(total))
        weighted, raw = factor * total / count, total.detach() / count
    else:
        value = term.function(step)
        step.checks.add(f"{term.name} term: loss", value)
        weighted, raw = factor * value, value
    return TermValues(weight, weight * weighted if weight else torch.zeros_like(factor), raw, lines)
