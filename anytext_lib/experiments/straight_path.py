r"""The same network, trained along the straight path of a rectified flow.

A network that predicts v at x_t = a x0 + s eps, with a^2 + s^2 = 1, answers the question of the flow as well: at the
noise share sigma = s / (a + s) the flow's input is x_t / (a + s), and

.. math:: u = \epsilon - x_0 = (s - a)\, x_t + (a + s)\, v

So a trained model can be trained on as a flow, and sampled as before.  What changes is which noise levels are drawn
(sigma is uniform) and what an error costs there, (a + s)^2 times as much.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from anytext_lib.data.batch import AnyTextBatch
from anytext_lib.diffusion import RectifiedFlow, expand
from anytext_lib.errors import OptionError
from anytext_lib.losses import Step
from anytext_lib.training.module import AnyText2Training


class StraightPathTraining(AnyText2Training):
    """``AnyText2Training`` of a model that predicts v, with the objective of a rectified flow.

    Raises:
        OptionError: the model predicts something else.
    """

    def prepare(self) -> None:
        if self.prediction_type != "v_prediction":
            raise OptionError(f"the straight path needs a model that predicts v, this one predicts "
                              f"{self.prediction_type}")
        super().prepare()
        flow = RectifiedFlow(len(self.model.alphas_cumprod))
        self.instruments, self.signal_share = replace(self.instruments, process=flow), flow.signal_share

    def level(self, timesteps: torch.Tensor) -> torch.Tensor:
        """(B,) the timestep of the network whose noise share is nearest to (timestep + 1/2) / T."""
        abar = self.model.alphas_cumprod.double()
        share = 1 / (1 + (abar / (1 - abar)).sqrt())  # s / (a + s), ascending
        wanted = (timesteps.to(share) + 0.5) / len(share)
        above = torch.searchsorted(share, wanted).clamp(1, len(share) - 1)
        return torch.where(wanted - share[above - 1] < share[above] - wanted, above - 1, above)

    def predict(self, batch: AnyTextBatch, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor,
                conditions=None, chosen=None) -> Step:
        """As that of ``AnyText2Training``; ``timesteps`` (B,) in 0..T-1 count the noise share in parts of T."""
        self.prepare()
        noise, timesteps = noise.to(latents), timesteps.to(latents.device)
        at = self.level(timesteps)
        abar = expand(self.model.alphas_cumprod[at], latents)
        a, s = abar.sqrt(), (1 - abar).sqrt()
        x = a * latents + s * noise
        conditions = self.conditions(batch) if conditions is None else conditions
        with self.objective.watch(self.model) as watched:
            velocity = self.model(x, at, conditions)
        share = len(self.model.alphas_cumprod) * (s / (a + s)).flatten()
        return Step(latents, noise, share, (s - a) * x + (a + s) * velocity, batch, self.instruments, chosen=chosen,
                    network=self.model, watched=watched)
