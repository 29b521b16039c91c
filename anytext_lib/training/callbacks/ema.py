"""Exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch

from anytext_lib.errors import OptionError
from anytext_lib.training.callbacks.steps import EverySteps


class ExponentialAverage(pl.Callback):
    """Averages the trainable parameters; validation, samples and the exported model use the average.

    average += (1 - d) (weights - average) after each optimizer step n, with d = min(decay, (1 + n) / (10 + n)).

    Args:
        decay: in (0, 1); the average reaches back over about 1 / (1 - decay) steps.
    """

    def __init__(self, decay: float = 0.999):
        if not 0 < decay < 1:
            raise OptionError(f"the decay of the average lies between 0 and 1, got {decay}")
        self.decay, self.average, self.swapped = decay, {}, False

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trained = _trained(module)
        if self.average and set(self.average) != set(trained):
            raise OptionError("the checkpoint averages other parameters than this run trains: give the same options "
                             "of freezing, or resume without the average")
        self.average = {name: self.average.get(name, p.detach()).clone().to(p.device) for name, p in trained.items()}
        self.steps = EverySteps(1, trainer)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        if self.steps.due(trainer):
            decay = min(self.decay, (1 + trainer.global_step) / (10 + trainer.global_step))
            for name, parameter in _trained(module).items():
                self.average[name].lerp_(parameter.detach(), 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._swap(module)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._swap(module)

    def state_dict(self) -> dict:
        return {"average": {name: value.cpu() for name, value in self.average.items()}}

    def load_state_dict(self, state: dict) -> None:
        self.average = dict(state["average"])

    @torch.no_grad()
    def _swap(self, module: pl.LightningModule) -> None:
        """Exchange weights and average; twice changes nothing."""
        named = dict(module.model.named_parameters())
        for name, value in self.average.items():
            kept = named[name].detach().clone()
            named[name].copy_(value)
            self.average[name] = kept.to(value.device)


@contextmanager
def averaged_weights(trainer: pl.Trainer, module: pl.LightningModule) -> Iterator[None]:
    """Put the average into the model, if the run has one, and take it out again."""
    found = [callback for callback in trainer.callbacks if isinstance(callback, ExponentialAverage)]
    for callback in found:
        callback._swap(module)
    try:
        yield
    finally:
        for callback in found:
            callback._swap(module)


def _trained(module: pl.LightningModule) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in module.model.named_parameters() if p.requires_grad}
