"""The moving average of the trained weights, and callbacks that measure with it every so many optimizer steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch

from anytext_lib.errors import OptionError
from anytext_lib.models.sharding import is_sharded, shared_like, whole


class EverySteps:
    """Says once an optimizer step whether its number is a multiple of ``every``; 0 never.

    With accumulation several batches make one step.  Made anew when training starts or is resumed, so that the step at
    which a run was saved does not count again.
    """

    def __init__(self, every: int, trainer: pl.Trainer):
        self.every, self.seen = every, trainer.global_step

    def due(self, trainer: pl.Trainer) -> bool:
        """To be asked after every batch."""
        step = trainer.global_step
        new, self.seen = step != self.seen, step
        return new and self.every > 0 and step % self.every == 0


class ExponentialAverage(pl.Callback):
    """Averages the trainable parameters; validation, samples and the exported model use the average.

    average += (1 - d) (weights - average) after each optimizer step n, with d = min(decay, (1 + n) / (10 + n)).

    Lightning's EMAWeightAveraging copies the frozen networks as well, keeps d constant, and stores the average in the
    place of the weights.

    It is kept in float32 at least: a thousandth of a change is lost in bfloat16.

    Args:
        decay: in (0, 1); the average reaches back over about 1 / (1 - decay) steps.
    """

    def __init__(self, decay: float = 0.999):
        if not 0 < decay < 1:
            raise OptionError(f"the decay of the average lies between 0 and 1, got {decay}")
        self.decay, self.average = decay, {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        trained = _trained(module)
        if self.average and set(self.average) != set(trained):
            raise OptionError("the checkpoint averages other parameters than this run trains: give the same options "
                             "of freezing, or resume without the average")
        self.average = {name: shared_like(self.average[name], p) if name in self.average else at_least_float32(p)
                        for name, p in trained.items()}
        self.steps = EverySteps(1, trainer)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        if self.steps.due(trainer):
            decay = min(self.decay, (1 + trainer.global_step) / (10 + trainer.global_step))
            for name, parameter in _trained(module).items():
                self.average[name].lerp_(parameter.detach().to(self.average[name].dtype), 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.swap(module)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.swap(module)

    def state_dict(self) -> dict:
        return {"average": {name: whole(value).cpu() for name, value in self.average.items()}}

    def load_state_dict(self, state: dict) -> None:
        self.average = {name: value.clone() for name, value in state["average"].items()}

    @torch.no_grad()
    def swap(self, module: pl.LightningModule) -> None:
        """Exchange weights and average; twice changes nothing."""
        named = dict(module.model.named_parameters())
        for name, value in self.average.items():
            kept = at_least_float32(named[name])
            named[name].copy_(value)
            self.average[name] = kept.to(value.device)


@contextmanager
def averaged_weights(trainer: pl.Trainer, module: pl.LightningModule) -> Iterator[None]:
    """Put the average into the model, if the run has one, and take it out again."""
    found = [callback for callback in trainer.callbacks if isinstance(callback, ExponentialAverage)]
    for callback in found:
        callback.swap(module)
    try:
        yield
    finally:
        for callback in found:
            callback.swap(module)


def takes_part(trainer: pl.Trainer, module: pl.LightningModule) -> bool:
    """Whether this process samples and saves: the first one, and all where they share the weights out."""
    return trainer.is_global_zero or is_sharded(module.model)


class Measurement(pl.Callback, ABC):
    """Logs what ``measure(trainer, module)`` of a subclass returns, figures by name; `anytext validate` always does.

    Args:
        every: optimizer steps between two measurements, with the average of the weights; 0 never during training.
    """

    def __init__(self, every: int = 0):
        self.every = every

    @abstractmethod
    def measure(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, float]:
        """The figures."""

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.due = EverySteps(self.every, trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx) -> None:
        if self.due.due(trainer) and takes_part(trainer, module):
            with averaged_weights(trainer, module):
                module.log_dict(self.measure(trainer, module), batch_size=1, rank_zero_only=True)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.state.fn == "validate" and takes_part(trainer, module):
            module.log_dict(self.measure(trainer, module), batch_size=1, rank_zero_only=True)


def at_least_float32(weight: torch.Tensor) -> torch.Tensor:
    """A copy of a weight, bfloat16 and float16 as float32."""
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32), copy=True)


def _trained(module: pl.LightningModule) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in module.model.named_parameters() if p.requires_grad}
