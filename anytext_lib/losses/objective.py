r"""A sum of terms: the loss of a step, and the values of its terms, samples and lines.

``Objective`` takes any terms; ``AnyText2Objective`` is upstream's sum in one call,

.. math::

   L = \frac{1}{B} \sum_b \Big[ sim_b + w(t_b) \Big( \alpha \operatorname{mean}_{l \in b} \lambda_l\, ocr_l
       + \beta \operatorname{mean}_{l \in b} \lambda_l\, ctc_l \Big) \Big]

Source: AnyText2 ``ldm/models/diffusion/ddpm.py`` (``p_losses``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from anytext_lib.data.lines import TextLines
from anytext_lib.diffusion import process_of
from anytext_lib.losses.step import Instruments, Pictures, Step
from anytext_lib.losses.terms import Term, TermError, ctc, ocr, simple, too_long
from anytext_lib.losses.weights import Weighting, abar, uniform

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
        """Evaluate all terms, in float32 under autocast too, the decoder excepted.

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
        with step.in_float32():
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
        if step.chosen is not None:
            factor = factor * step.chosen.factor().to(factor)
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


def by_timestep(step: Step, values: Values) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Timesteps (N,) and values (N,) behind each mean of ``values.log()`` but the loss, by its key; detached."""
    found = {}
    for name, value in values.terms.items():
        key = key_of(name)
        if value.weight:
            found[key] = (step.t, value.samples.detach())
        if value.lines is not None:
            found[f"{key}_raw"] = (step.t[step.image_index], value.lines.detach())
        elif not value.weight:
            found[f"{key}_raw"] = (step.t, value.raw.detach())
    return found


# AnyText2

class AnyText2Objective:
    """Masked diffusion loss, OCR perceptual loss and CTC loss with their weights.

    Args:
        recognizer: frozen reader, see ``Instruments``.
        alphas_cumprod: (T,) abar of the training schedule; or a scheduler of diffusers, DDPMScheduler or
            FlowMatchEulerDiscreteScheduler for instance; or a Process, such as RectifiedFlow().
        decode: latents (B, C, h, w) -> images (B, 3, H, W), differentiable; clamped to [-1, 1] here.  For Stable
            Diffusion: ``lambda z: vae.decode(z / vae.config.scaling_factor).sample``, or ``PatchDecoder(vae)``, which
            decodes only around the lines (``anytext_lib.models.patch_decoder``).
        prediction_type: "epsilon", "sample" or "v_prediction"; by default what the scheduler says, "epsilon" for
            a tensor.  For a flow give its scheduler, or RectifiedFlow(), in the place of abar.
        loss_alpha, loss_beta: weights of the OCR and CTC terms; 0 switches a term off and saves its cost.
        latin_weight: weight of lines in 'Latin'; every other language has 1.
        with_step_weight: False gives every noise level the weight 1, whatever ``weighting`` says.
        weighting: step weighting, see ``anytext_lib.losses.weights``; upstream's abar by default.
        on_bad_line: lines that cannot be cut out "raise" a BadLineError, or are left out ("skip") with a count.

    Raises:
        ProcessError: the scheduler lacks something, or does not fit ``prediction_type``. ValueError: a weight is
            negative.
    """

    def __init__(self, recognizer, alphas_cumprod, decode: Callable[..., torch.Tensor],
                 prediction_type: str | None = None, loss_alpha: float = 0.003, loss_beta: float = 0.0,
                 latin_weight: float = 1.0, with_step_weight: bool = True, weighting: Weighting = abar,
                 on_bad_line: str = "raise"):
        for name, value in {"loss_alpha": loss_alpha, "loss_beta": loss_beta, "latin_weight": latin_weight}.items():
            if not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        process = process_of(alphas_cumprod, prediction_type)
        self.instruments = Instruments(process, decode, recognizer, latin_weight, on_bad_line)
        self.loss_alpha, self.loss_beta = loss_alpha, loss_beta
        self.weighting = weighting if with_step_weight else uniform

    @property
    def terms(self) -> list[Term]:
        """The three terms."""
        return [Term("simple", simple), Term("ocr", ocr, self.loss_alpha, self.weighting),
                Term("ctc", ctc, self.loss_beta, self.weighting)]

    def __call__(self, model_output: torch.Tensor, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor,
                 images: torch.Tensor, lines: TextLines, invalid_mask: torch.Tensor | None = None,
                 reference: torch.Tensor | None = None) -> ObjectiveTerms:
        """Evaluate the objective.

        Args:
            model_output: (B, C, h, w), the network's output at x_t; the gradient goes here.
            latents, noise: (B, C, h, w), x0 and the noise that was added.
            timesteps: (B,) int64, or fractional.
            images: (B, 3, H, W) in [-1, 1], RGB, the true images.
            lines: the lines to read, flat.
            invalid_mask: (B, 1, H, W) in [0, 1], or None.
            reference: (L, T, D) features of the true lines from ``reference_features``, if they are at hand.

        Raises:
            NonFiniteError: NaN or infinity in an input or a term; names the term and the sample.
            BadLineError, ValueError: bad lines or shapes.
        """
        step = Step(latents, noise, timesteps, model_output, Pictures(images, lines, invalid_mask), self.instruments,
                    reference)
        return gathered(step, Objective(self.terms)(step, watch=False), self.weighting)

    def reference_features(self, images: torch.Tensor, lines: TextLines) -> torch.Tensor:
        """Features (L, T, D) of the true lines, to be passed as ``reference``; all lines must be readable."""
        return self.instruments.features(images, lines)


@dataclass(frozen=True)
class SampleValues:
    """Values of each sample, all (B,): ``loss = simple + ocr + ctc``; ocr and ctc are weighted."""

    loss: torch.Tensor
    simple: torch.Tensor
    ocr: torch.Tensor
    ctc: torch.Tensor
    step_weight: torch.Tensor


@dataclass(frozen=True)
class LineValues:
    """Values of each line that was read, all (K,): ``ocr`` and ``ctc`` before any weight, None where not computed.

    ``rows`` are the indices of these lines among the lines given, ``too_long`` the rows that CTC cannot fit.
    """

    rows: list[int]
    image_index: torch.Tensor
    language_weight: torch.Tensor
    ocr: torch.Tensor | None
    ctc: torch.Tensor | None
    too_long: list[int]


@dataclass(frozen=True)
class ObjectiveTerms:
    """Result of one evaluation of the objective.

    ``loss``, ``simple``, ``ocr`` and ``ctc`` are scalars, means over the batch; ``ocr`` and ``ctc`` include alpha or
    beta, the step weight and the language weight, as upstream logs them.  ``loss`` carries the gradient.
    """

    samples: SampleValues
    lines: LineValues
    skipped_lines: int

    @property
    def loss(self) -> torch.Tensor:
        return self.samples.loss.mean()

    @property
    def simple(self) -> torch.Tensor:
        return self.samples.simple.mean()

    @property
    def ocr(self) -> torch.Tensor:
        return self.samples.ocr.mean()

    @property
    def ctc(self) -> torch.Tensor:
        return self.samples.ctc.mean()

    @property
    def too_long(self) -> int:
        """Number of lines whose text needs more frames than the recogniser has."""
        return len(self.lines.too_long)

    def log(self, prefix: str) -> dict[str, torch.Tensor]:
        """Detached scalars under upstream's keys: {prefix}/sim, /ocr, /ctc, /loss; prefix "t" or "v"."""
        named = {"sim": self.simple, "ocr": self.ocr, "ctc": self.ctc, "loss": self.loss}
        return {f"{prefix}/{key}": value.detach() for key, value in named.items()}


def gathered(step: Step, values: Values, weighting: Weighting) -> ObjectiveTerms:
    """The values of simple, ocr and ctc in the form of ``AnyText2Objective``; 0 or None for one that is off."""
    found, off = values.terms, torch.zeros_like(values.samples)
    reads = [name for name in ("ocr", "ctc") if name in found]
    rows = step.rows if reads else []
    lines = {name: found[name].lines if name in found and rows else None for name in ("ocr", "ctc")}
    unfit = [rows[i] for i in too_long(step.targets, step.seen.logits.shape[1])] if lines["ctc"] is not None else []
    none = torch.zeros(0, device=off.device)
    index, language = (step.image_index, step.language_weight) if reads else (none.long(), none)
    samples = SampleValues(values.samples, **{name: found[name].samples if name in found else off
                                              for name in ("simple", "ocr", "ctc")},
                           step_weight=weighting(step.abar).to(off))
    skipped = len(step.batch.lines) - len(rows) if reads else 0
    return ObjectiveTerms(samples, LineValues(rows, index, language, lines["ocr"], lines["ctc"], unfit), skipped)
