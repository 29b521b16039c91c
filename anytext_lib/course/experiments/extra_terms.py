r"""Terms that may be added to AnyText2's objective, and its training step with one of them.

.. math:: L = sim + \bar\alpha_t (\alpha\, ocr + \beta\, ctc) + w\, E

E is L_loc (``attention_term``), or what a weight adds to the diffusion loss where a map r in [0, 1] is large,

.. math:: E = \frac{1}{C h w} \sum (1 - m)\, r\, (prediction - target)^2

so that sim + w E is the diffusion loss with the spatial weight 1 + w r.  r is the text's region, or DB's probability
map of the true picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.db.network import DBNet
from anytext_lib.losses import diffusion_loss, prediction_target, region_weighted_loss
from anytext_lib.models import AnyText2Model
from anytext_lib.training.cache import TensorCache, digests
from anytext_lib.training.module import AnyText2Training
from anytext_lib.training.step_loss import NoisyStep, StepLoss, text_region


class SpatialTerm:
    """Mean of r times the squared error, for ``region(batch)`` = r (B, 1, H, W) in [0, 1]."""

    def __init__(self, region: Callable[[AnyTextBatch], torch.Tensor] = text_region):
        self.region = region

    def watch(self, model: AnyText2Model):
        """Nothing has to be watched."""
        return nullcontext()

    def __call__(self, model: AnyText2Model, step: NoisyStep, batch: AnyTextBatch) -> torch.Tensor:
        """A scalar with its gradient."""
        abar = model.alphas_cumprod.to(step.latents.device)[step.timesteps]
        target = prediction_target(step.latents, step.noise, abar, model.prediction_type)
        twice = region_weighted_loss(step.output, target, self.region(batch), 2.0, batch.invalid_mask)
        return (twice - diffusion_loss(step.output, target, batch.invalid_mask)).mean()


class ProbabilityMaps:
    """A DB network's P of the true pictures, (B, 1, H, W); each picture is looked at once."""

    def __init__(self, network: DBNet, mib: float = 256):
        self.network, self.cache = network.eval(), TensorCache(mib)

    def __call__(self, batch: AnyTextBatch) -> torch.Tensor:
        look = self.network.to(batch.images.device).probability
        return self.cache.rows(digests(batch.images), lambda rows: look(batch.images[rows]), batch.images.device)


class LossWithTerm(StepLoss):
    """The objective and ``weight`` times a term."""

    def __init__(self, plain: StepLoss, model: AnyText2Model, term, weight: float):
        super().__init__(plain.objective, plain.region_weight)
        self.cache, self.model, self.term, self.weight = plain.cache, [model], term, weight

    def __call__(self, step: NoisyStep, batch: AnyTextBatch, alpha: float, beta: float) -> tuple[torch.Tensor, dict]:
        loss, values = super().__call__(step, batch, alpha, beta)
        extra = self.term(self.model[0], step, batch)
        loss = loss + self.weight * extra
        return loss, values | {"term": extra.detach(), "loss": loss.detach()}


class ComparedTraining(AnyText2Training):
    """AnyText2's training step; ``add_term`` adds a term to its loss."""

    term, term_weight = None, 0.0

    def add_term(self, term, weight: float) -> None:
        """Before training: a term of this module's form, with ``watch(model)``, and its weight."""
        self.term, self.term_weight = term, weight

    def prepare(self) -> None:
        plain = self.step_loss is None
        super().prepare()
        if plain and self.term is not None:
            self.step_loss = LossWithTerm(self.step_loss, self.model, self.term, self.term_weight)

    def predict(self, *arguments, **named) -> NoisyStep:
        with self.watched():
            return super().predict(*arguments, **named)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While the term, if there is one, looks at the network."""
        with nullcontext() if self.term is None else self.term.watch(self.model):
            yield
