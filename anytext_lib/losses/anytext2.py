r"""The objective of AnyText2 in one call: a façade around ``Step``, ``Term`` and ``Objective``.

.. math::

   L = \frac{1}{B} \sum_b \Big[ sim_b + w(t_b) \Big( \alpha \operatorname{mean}_{l \in b} \lambda_l\, ocr_l
       + \beta \operatorname{mean}_{l \in b} \lambda_l\, ctc_l \Big) \Big]

Source: AnyText2 ``ldm/models/diffusion/ddpm.py`` (``p_losses``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from anytext_lib.data.lines import TextLines
from anytext_lib.diffusion import process_of
from anytext_lib.losses.ctc import too_long
from anytext_lib.losses.objective import Objective, Values
from anytext_lib.losses.step import Instruments, Pictures, Step
from anytext_lib.losses.terms import Term, ctc, ocr, simple
from anytext_lib.losses.weights import Weighting, abar, uniform


class AnyText2Objective:
    """Masked diffusion loss, OCR perceptual loss and CTC loss with their weights.

    Args:
        recognizer: frozen reader, see ``Instruments``.
        alphas_cumprod: (T,) abar of the training schedule; or a scheduler of diffusers, DDPMScheduler or
            FlowMatchEulerDiscreteScheduler for instance; or a Process, such as RectifiedFlow().
        decode: latents (B, C, h, w) -> images (B, 3, H, W), differentiable; clamped to [-1, 1] here.  For Stable
            Diffusion: ``lambda z: vae.decode(z / vae.config.scaling_factor).sample``.
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

    def __init__(self, recognizer, alphas_cumprod, decode: Callable[[torch.Tensor], torch.Tensor],
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
