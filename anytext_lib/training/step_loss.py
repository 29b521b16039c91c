"""From a batch and the network's output to the loss of a step: the objective, and what is only watched."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.data.lines import TextLines
from anytext_lib.data.quads import BadLineWarning
from anytext_lib.losses import AnyText2Objective, Weighting, prediction_target, region_weighted_loss
from anytext_lib.losses.terms import ObjectiveTerms
from anytext_lib.ocr.crops import readable_rows
from anytext_lib.training.reference import ReferenceCache


@dataclass(frozen=True)
class NoisyStep:
    """What the network was asked: latents x0 (B, C, h, w), noise, timesteps (B,), and its answer ``output``."""

    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor
    output: torch.Tensor


class StepLoss:
    """The objective with what only training needs.

    Args:
        objective: its ``loss_alpha`` and ``loss_beta`` are set at every call.
        region_weight: weight of the diffusion loss inside the text; 1 is upstream's plain loss.
        cache_mib: size of the cache of true features, 0 for none.
    """

    def __init__(self, objective: AnyText2Objective, region_weight: float = 1.0, cache_mib: float = 0.0):
        if region_weight < 0:
            raise ValueError(f"region_weight must not be negative, got {region_weight}")
        self.objective, self.region_weight = objective, region_weight
        self.cache = ReferenceCache(cache_mib) if cache_mib > 0 else None

    def __call__(self, step: NoisyStep, batch: AnyTextBatch, alpha: float, beta: float) -> tuple[torch.Tensor, dict]:
        """The loss with its gradient, and detached scalars to log, without prefix: sim, ocr, ctc, loss, ...

        Raises:
            NonFiniteError: an input or a term is not finite.
        """
        self.objective.loss_alpha, self.objective.loss_beta = alpha, beta
        lines, skipped = _readable(batch)
        terms = self._evaluate(step, batch, lines)
        values = {key[2:]: value for key, value in terms.log("t").items()}
        loss = terms.loss
        if self.region_weight != 1:
            region = self._region(step, batch).mean()
            loss = loss - terms.simple + region
            values.update(region=region.detach(), loss=loss.detach())
        values.update(_raw(terms))
        if skipped:
            values["skipped_lines"] = torch.tensor(float(skipped))
        return loss, values

    @torch.no_grad()
    def watch(self, step: NoisyStep, batch: AnyTextBatch) -> dict[str, torch.Tensor]:
        """ocr_raw and ctc_raw, whatever the weights: the mean of the unweighted terms over the lines, no gradient."""
        alpha, beta = self.objective.loss_alpha, self.objective.loss_beta
        self.objective.loss_alpha = self.objective.loss_beta = 1.0
        try:
            return _raw(self._evaluate(step, batch, _readable(batch)[0]))
        finally:
            self.objective.loss_alpha, self.objective.loss_beta = alpha, beta

    def _evaluate(self, step: NoisyStep, batch: AnyTextBatch, lines: TextLines) -> ObjectiveTerms:
        reference = None
        if self.cache is not None and len(lines) and self.objective.loss_alpha > 0:
            reference = self.cache.features(self.objective, batch.images, lines, batch.indices.tolist())
        return self.objective(step.output, step.latents, step.noise, step.timesteps, batch.images, lines,
                              batch.invalid_mask, reference)

    def _region(self, step: NoisyStep, batch: AnyTextBatch) -> torch.Tensor:
        abar = self.objective.alphas_cumprod.to(step.latents.device)[step.timesteps]
        target = prediction_target(step.latents, step.noise, abar, self.objective.prediction_type)
        return region_weighted_loss(step.output, target, text_region(batch), self.region_weight, batch.invalid_mask)


def build_step_loss(recognizer, alphas_cumprod: torch.Tensor, decode: Callable, prediction_type: str,
                    latin_weight: float, weighting: Weighting, region_weight: float, cache_mib: float) -> StepLoss:
    """A StepLoss around a new objective; lines that cannot be cut out never reach it."""
    objective = AnyText2Objective(recognizer, alphas_cumprod, decode, prediction_type, loss_alpha=0.0, loss_beta=0.0,
                                  latin_weight=latin_weight, weighting=weighting)
    return StepLoss(objective, region_weight, cache_mib)


def text_region(batch: AnyTextBatch) -> torch.Tensor:
    """(B, 1, H, W) in {0, 1}: the union of the position masks of each image."""
    region = torch.zeros_like(batch.images[:, :1])
    index = batch.lines.image_index.to(region.device)
    return region.index_add(0, index, batch.positions.to(region)).clamp(max=1)


def _readable(batch: AnyTextBatch) -> tuple[TextLines, int]:
    """The lines that can be cut out of their image, and the number of the others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadLineWarning)  # they are counted and logged
        rows = readable_rows(batch.lines, batch.images, "skip")
    return batch.lines.select(rows), len(batch.lines) - len(rows)


def _raw(terms: ObjectiveTerms) -> dict[str, torch.Tensor]:
    named = {"ocr_raw": terms.lines.ocr, "ctc_raw": terms.lines.ctc}
    return {name: value.detach().mean() for name, value in named.items() if value is not None and len(value)}
