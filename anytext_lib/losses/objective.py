r"""The whole objective of AnyText2, one class around the pure functions of this package.

.. math::

   L = \frac{1}{B} \sum_b \Big[ sim_b + w(t_b) \Big( \alpha \operatorname{mean}_{l \in b} \lambda_l\, ocr_l
       + \beta \operatorname{mean}_{l \in b} \lambda_l\, ctc_l \Big) \Big]

Source: AnyText2 ``ldm/models/diffusion/ddpm.py`` (``p_losses``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from anytext_lib.data.lines import TextLines
from anytext_lib.losses.checks import FiniteChecks, require_finite, require_shape
from anytext_lib.losses.ctc import ctc_loss, too_long
from anytext_lib.losses.diffusion import diffusion_loss
from anytext_lib.losses.ocr import ocr_loss
from anytext_lib.losses.prediction import PREDICTION_TYPES, add_noise, predict_x0, prediction_target
from anytext_lib.losses.terms import LineValues, ObjectiveTerms, SampleValues
from anytext_lib.losses.weights import Weighting, abar, language_weights, step_weights, uniform
from anytext_lib.ocr.crops import crop_lines, crop_widths, readable_rows


class AnyText2Objective:
    """Masked diffusion loss, OCR perceptual loss and CTC loss with their weights.

    Args:
        recognizer: frozen reader; ``recognizer(crops)`` has ``.features`` (L, T, D) and ``.logits`` (L, T, K),
            ``recognizer.charset.encode(text)`` gives class ids.
        alphas_cumprod: (1000,) abar of the training schedule.
        decode: latents (B, C, h, w) -> images (B, 3, H, W), differentiable; clamped to [-1, 1] here.  For Stable
            Diffusion: ``lambda z: vae.decode(z / vae.config.scaling_factor).sample``.
        prediction_type: "epsilon", "sample" or "v_prediction".
        loss_alpha, loss_beta: weights of the OCR and CTC terms; 0 switches a term off and saves its cost.
        latin_weight: weight of lines in 'Latin'; every other language has 1.
        with_step_weight: False gives every noise level the weight 1, whatever ``weighting`` says.
        weighting: step weighting, see ``anytext_lib.losses.weights``; upstream's abar by default.
        on_bad_line: lines that cannot be cut out "raise" a BadLineError, or are left out ("skip") with a count.
    """

    def __init__(self, recognizer, alphas_cumprod: torch.Tensor, decode: Callable[[torch.Tensor], torch.Tensor],
                 prediction_type: str = "epsilon", loss_alpha: float = 0.003, loss_beta: float = 0.0,
                 latin_weight: float = 1.0, with_step_weight: bool = True, weighting: Weighting = abar,
                 on_bad_line: str = "raise"):
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"prediction_type is one of {PREDICTION_TYPES}, got {prediction_type!r}")
        for name, value in {"loss_alpha": loss_alpha, "loss_beta": loss_beta, "latin_weight": latin_weight}.items():
            if not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        self.recognizer, self.alphas_cumprod, self.decode = recognizer, alphas_cumprod, decode
        self.prediction_type, self.on_bad_line = prediction_type, on_bad_line
        self.loss_alpha, self.loss_beta, self.latin_weight = loss_alpha, loss_beta, latin_weight
        self.weighting = weighting if with_step_weight else uniform

    def __call__(self, model_output: torch.Tensor, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor,
                 images: torch.Tensor, lines: TextLines, invalid_mask: torch.Tensor | None = None,
                 reference: torch.Tensor | None = None) -> ObjectiveTerms:
        """Evaluate the objective.

        Args:
            model_output: (B, C, h, w), the network's output at x_t; the gradient goes here.
            latents, noise: (B, C, h, w), x0 and the noise that was added.
            timesteps: (B,) int64.
            images: (B, 3, H, W) in [-1, 1], RGB, the true images.
            lines: the lines to read, flat.
            invalid_mask: (B, 1, H, W) in [0, 1], or None.
            reference: (L, T, D) features of the true lines from ``reference_features``, if they are at hand.

        Raises:
            NonFiniteError: NaN or infinity in an input or a term; names the term and the sample.
            BadLineError, ValueError: bad lines or shapes.
        """
        self._check(model_output, latents, noise, timesteps, images, lines, invalid_mask)
        a = self.alphas_cumprod.to(latents.device)[timesteps].to(torch.promote_types(latents.dtype, torch.float32))
        target = prediction_target(latents, noise, a, self.prediction_type)
        simple = diffusion_loss(model_output, target, invalid_mask)
        require_finite({"simple term: loss": simple})
        weight = step_weights(timesteps, self.alphas_cumprod, self.weighting).to(simple)
        if self.reads:
            self._check_levels(weight, a)
        rows = readable_rows(lines, images, self.on_bad_line) if self.reads else []
        values = self._read(model_output, add_noise(latents, noise, a), a, images, lines, rows, reference)
        ocr, ctc = (self._per_sample(value, values, weight) for value in (values.ocr, values.ctc))
        ocr, ctc = self.loss_alpha * ocr, self.loss_beta * ctc
        samples = SampleValues(loss=simple + ocr + ctc, simple=simple, ocr=ocr, ctc=ctc, step_weight=weight)
        return ObjectiveTerms(samples, values, skipped_lines=len(lines) - len(rows) if self.reads else 0)

    @property
    def reads(self) -> bool:
        """Whether a term needs the recogniser."""
        return self.loss_alpha > 0 or self.loss_beta > 0

    @torch.no_grad()
    def reference_features(self, images: torch.Tensor, lines: TextLines) -> torch.Tensor:
        """Features (L, T, D) of the true lines, to be passed as ``reference``; all lines must be readable."""
        return self._look(images, lines).features

    def _look(self, images: torch.Tensor, lines: TextLines):
        """What the recogniser makes of the lines; one that ``skips_padding`` is told how much of each crop is text."""
        crops = crop_lines(images, lines)
        if getattr(self.recognizer, "skips_padding", False):
            return self.recognizer(crops, crop_widths(lines, images.shape[-2:]))
        return self.recognizer(crops)

    def _read(self, model_output, x_t, a, images, lines: TextLines, rows: list[int], reference) -> LineValues:
        """Decode the one-step estimate of the samples that have lines, read their lines, compare with the truth."""
        kept = lines.select(rows)
        device = model_output.device
        image_index, language = kept.image_index.to(device), language_weights(kept.languages, self.latin_weight)
        if not rows:
            return LineValues([], image_index, language.to(device), None, None, [])
        used, row_of = torch.unique(kept.image_index, return_inverse=True)
        inside = TextLines(row_of, kept.quads, kept.texts, kept.languages)
        used = used.to(device)
        x0 = predict_x0(model_output[used], x_t[used], a[used], self.prediction_type)
        decoded = self.decode(x0)
        require_shape("decode(x0)", decoded, (len(used), *images.shape[1:]))
        require_finite({"ocr and ctc terms: decoded x0": decoded}, used)
        seen = self._look(decoded.clamp(-1, 1), inside)
        ocr = ctc = None
        unfit: list[int] = []
        if self.loss_alpha > 0:
            truth = self.reference_features(images[used], inside) if reference is None else reference[rows]
            ocr = ocr_loss(seen.features, truth)
            require_finite({"ocr term: loss of a line": ocr}, kept.image_index)
        if self.loss_beta > 0:
            ids = [self.recognizer.charset.encode(text) for text in kept.texts]
            ctc = ctc_loss(seen.logits, ids)
            unfit = [rows[i] for i in too_long(ids, seen.logits.shape[1])]
            require_finite({"ctc term: loss of a line": ctc}, kept.image_index)
        return LineValues(rows, image_index, language.to(device), ocr, ctc, unfit)

    @staticmethod
    def _per_sample(value: torch.Tensor | None, lines: LineValues, weight: torch.Tensor) -> torch.Tensor:
        """w_t times the mean over a sample's lines of language weight times value; 0 for a sample without lines."""
        total = torch.zeros_like(weight)
        if value is None:
            return total
        count = total.index_add(0, lines.image_index, torch.ones_like(lines.language_weight, dtype=total.dtype))
        total = total.index_add(0, lines.image_index, (lines.language_weight * value).to(total))
        return weight * total / count.clamp(min=1)

    def _check_levels(self, weight: torch.Tensor, a: torch.Tensor) -> None:
        """Refuse noise levels without a weight, or without an estimate of x0."""
        checks = FiniteChecks()
        checks.add("step weight of the ocr and ctc terms", weight, remedy=(
            "The weighting is infinite at this noise level, as the signal-to-noise ratio is at abar = 1: choose one "
            "with a limit, such as min_snr, or leave this timestep out"))
        if self.prediction_type == "epsilon":
            checks.add("ocr and ctc terms: 1 / sqrt(abar)", a.rsqrt(), remedy=(
                "At abar = 0 (a schedule with zero terminal SNR) a prediction of the noise says nothing about the "
                "picture: use v_prediction or sample, or leave this timestep out"))
        checks.test()

    def _check(self, model_output, latents, noise, timesteps, images, lines, invalid_mask) -> None:
        batch = model_output.shape[0]
        for name, value in {"latents": latents, "noise": noise}.items():
            require_shape(name, value, tuple(model_output.shape))
        require_shape("timesteps", timesteps, (batch,))
        require_shape("images", images, (batch, 3, None, None))
        named = {"simple term: model_output": model_output, "simple term: latents": latents,
                 "simple term: noise": noise}
        if invalid_mask is not None:
            named["simple term: invalid_mask"] = invalid_mask
        if self.reads and len(lines):
            named["ocr and ctc terms: images"] = images
        require_finite(named)
