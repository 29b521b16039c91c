"""What the training steps share: the optimizer, and what is drawn for a batch from the seed and the step."""

from __future__ import annotations

import math

import lightning.pytorch as pl
import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.randomness import draw_noise, draw_timesteps, places, seed_step
from anytext_lib.training.schedules import learning_rate_factor


class DiffusionTraining(pl.LightningModule):
    """A training step on noisy latents; a subclass has ``model`` (with ``alphas_cumprod``), ``trained`` (groups of
    named parameters), ``encode(batch)``, and ``learning_rate``, ``lr_schedule``, ``warmup_steps`` and ``seed`` among
    its hyper-parameters.

    Attributes:
        last_inputs: what the last step was given, for the report of a loss that is not finite.
    """

    def __init__(self):
        super().__init__()
        self.last_inputs: dict = {}

    def configure_optimizers(self):
        """AdamW over the trained parameters, and the learning rate of each optimizer step."""
        h = self.hparams
        optimizer = torch.optim.AdamW((p for group in self.trained.values() for _, p in group), lr=h.learning_rate)
        total = None if h.lr_schedule == "constant" else self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, h.lr_schedule, h.warmup_steps, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    @property
    def micro_step(self) -> int:
        """Batches that this process has begun since the run's first, counted from 0; goes on when a run is resumed."""
        return max(0, self.trainer.fit_loop.epoch_loop.total_batch_idx)

    def on_train_batch_start(self, batch: AnyTextBatch, batch_idx: int) -> None:
        """Seed everything that draws from torch's own generator, as dropout does."""
        seed_step(self.hparams.seed, self.micro_step, self.global_rank)

    def draw(self, batch: AnyTextBatch, batch_idx: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents (B, 4, h, w) of the batch, its noise and its timesteps (B,), the last two on the CPU."""
        at = self.places(len(batch))
        seed, index = self.hparams.seed, self.micro_step
        timesteps = draw_timesteps(seed, index, at, len(self.model.alphas_cumprod),
                                   self.hparams.get("min_timestep", 0))
        self.last_inputs = {"batch": batch, "timesteps": timesteps, "step": self.global_step, "batch_idx": batch_idx}
        latents = self.encode(batch)
        noise = draw_noise(seed, index, at, latents.shape[1:])
        self.last_inputs.update(noise=noise, latents=latents)
        return latents, noise, timesteps

    def places(self, count: int) -> list[int]:
        """Place in the whole step of each of this process's ``count`` samples."""
        return places(count, self.global_rank, self.trainer.world_size)

    def accumulation_factor(self, batch_idx: int) -> float:
        """Factor on the loss of batch ``batch_idx`` of an epoch, so that every optimizer step follows a mean gradient.

        Lightning divides each loss by ``accumulate_grad_batches`` = N, and steps at the end of an epoch as well: n < N
        batches that are left over there would pull n / N as hard.  They get the factor N / n, all others 1.
        """
        trainer = self.trainer
        size, count = trainer.accumulate_grad_batches, trainer.num_training_batches
        if size == 1 or not math.isfinite(count) or trainer.strategy.handles_gradient_accumulation:
            return 1.0
        return size / min(size, count - batch_idx // size * size)
