"""Gradient norms by group, and a stop before a gradient that is not finite reaches the weights."""

from __future__ import annotations

import lightning.pytorch as pl
import torch

from anytext_lib.losses import NonFiniteError


class GradientNorms(pl.Callback):
    """Logs t/grad/GROUP and t/grad/all, as they are before clipping.

    Under 16-mixed precision the loss scaler expects infinite gradients now and then and skips such steps; then
    nothing is raised.
    """

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer) -> None:
        """Log the norms; NonFiniteError where one is not finite."""
        norms = {}
        for group, members in module.trained.items():
            grads = [p.grad for _, p in members if p.grad is not None]
            if grads:
                norms[group] = torch.stack(torch._foreach_norm(grads)).norm()
        if not norms:
            return
        norms["all"] = torch.stack(list(norms.values())).norm()
        if trainer.precision != "16-mixed" and not torch.isfinite(norms["all"]):
            raise NonFiniteError(_blame(module))
        module.log_dict({f"t/grad/{name}": value for name, value in norms.items()})


def _blame(module: pl.LightningModule) -> str:
    for group, members in module.trained.items():
        for name, parameter in members:
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                bad = int((~torch.isfinite(parameter.grad)).sum())
                return (f"gradient of {name} ({group}): {bad} of {parameter.grad.numel()} values are not finite, "
                        "although the loss is. The weights were not touched. Lower the learning rate, clip gradients "
                        "(trainer.gradient_clip_val 1.0), or train in precision 32")
    return "a gradient norm overflowed: lower the learning rate or clip gradients (trainer.gradient_clip_val 1.0)"
