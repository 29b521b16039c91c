"""Weights, gradients and optimizer shared out among processes, with checkpoints as of one process.

``--trainer.strategy fsdp2``: Lightning's ``ModelParallelStrategy`` makes the processes, ``models.sharding`` says what
is shared out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.strategy import Strategy

from anytext_lib.models.sharding import shared_like, whole
from anytext_lib.training.run_files import read_checkpoint


class ShardedStrategy(ModelParallelStrategy):
    """All processes share one model; arguments as of ``ModelParallelStrategy``, sizes and form of checkpoints excepted.

    A checkpoint is one file, the same as without sharding: written with any number of processes, read with any other.
    """

    def __init__(self, **options):
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, **options)

    def setup_environment(self) -> None:
        """Make the mesh: all processes along the data."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def on_validation_start(self) -> None:
        """Measure with the first process's running statistics of batch norms, as DDP does: they are what is saved."""
        for buffer in self.lightning_module.buffers():
            torch.distributed.broadcast(buffer, 0)

    # writing: all processes gather, the first one writes

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The optimizer's state, whole and on the CPU; in other processes than the first its tensors are left out."""
        state = optimizer.state_dict()
        kept: dict = {}
        for key, values in state["state"].items():
            for name, value in values.items():
                value = whole(value).cpu() if isinstance(value, torch.Tensor) else value
                if self.is_global_zero:
                    kept.setdefault(key, {})[name] = value
        return {**state, "state": kept}

    # reading: every process maps the file and takes its part

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Let Lightning ask for the optimizer's state, as for weights."""
        return True

    def load_checkpoint(self, checkpoint_path, weights_only: bool | None = None) -> dict[str, Any]:
        """The file, mapped into memory; errors as of ``read_checkpoint``."""
        return read_checkpoint(self.broadcast(checkpoint_path), mmap=True)

    @torch.no_grad()
    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Set weights and buffers."""
        own = {**dict(self.lightning_module.named_parameters()), **dict(self.lightning_module.named_buffers())}
        for name, value in checkpoint["state_dict"].items():
            own[name].copy_(shared_like(value, own[name]))

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Set the state of the optimizers, each value of a weight's shape shared out as the weight."""
        states = []
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            numbers = [number for group in state["param_groups"] for number in group["params"]]
            stored = state["state"]
            own = {number: {name: shared_like(value, weight if value.shape == weight.shape else value).clone()
                            for name, value in stored[number].items()}
                   for number, weight in zip(numbers, weights, strict=True) if number in stored}
            states.append({**state, "state": own})
        Strategy.load_optimizer_state_dict(self, {"optimizer_states": states})
