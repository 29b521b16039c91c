r"""The formulas of diffusion: noise schedules, how pictures are noised, what a network predicts, and a sampler's step.

Variance preserving (DDPM, eq. 4; v: Salimans and Ho 2022, appendix D), abar the share of signal left:

    x_t = sqrt(abar) x0 + sqrt(1 - abar) eps          target: eps, x0, or v = sqrt(abar) eps - sqrt(1 - abar) x0

Variance exploding (UDiffText; ``EpsScaling``, ``LegacyDDPMDiscretization`` of Stability's generative-models):

    x = x0 + sigma eps = x_t / c_in                   sigma^2 = (1 - abar) / abar, c_in = 1 / sqrt(1 + sigma^2)

Rectified flow (Liu et al. 2023; Esser et al. 2024), sigma = t / T:

    x_t = (1 - sigma) x0 + sigma eps                  target: u = eps - x0

DDIM (Song et al. 2021, eq. 12), from abar to abar':

    x_{t'} = sqrt(abar') x0 + sqrt(1 - abar' - s^2) eps + s z
    s      = eta sqrt((1 - abar') / (1 - abar) (1 - abar / abar'))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from anytext_lib.errors import AnyTextError, OptionError

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")
SCHEDULE_BUFFERS = ("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
                    "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
                    "sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped",
                    "posterior_mean_coef1", "posterior_mean_coef2", "logvar")


class ProcessError(AnyTextError, ValueError):
    """A noise process that is not known, or a schedule that lacks what it needs."""


# schedules

def scaled_linear_betas(num_train_timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012,
                        dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """The betas of Stable Diffusion, (num_train_timesteps,): their square roots grow linearly."""
    return torch.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps, dtype=dtype, device="cpu") ** 2


def scaled_linear_abar(num_train_timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012,
                       beta_schedule: str = "scaled_linear", dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """abar_t, the share of the image's variance at each timestep: (num_train_timesteps,) float32, falling.

    Args:
        dtype: to compute in: float64 as upstream (``ldm`` ``make_beta_schedule``), float32 as diffusers.

    Raises:
        ValueError: another schedule than "scaled_linear".
    """
    if beta_schedule != "scaled_linear":
        raise ValueError(f"the beta_schedule {beta_schedule!r} is not known; Stable Diffusion 1.5 has 'scaled_linear'")
    return (1 - scaled_linear_betas(num_train_timesteps, beta_start, beta_end, dtype)).cumprod(dim=0).float()


def schedule_buffers(scheduler: Mapping) -> dict[str, torch.Tensor]:
    """The 13 tensors of the schedule in upstream's checkpoints, ``SCHEDULE_BUFFERS``: each (T,) float32.

    Args:
        scheduler: num_train_timesteps, beta_start, beta_end of a scaled-linear schedule.

    Source: ``ldm/models/diffusion/ddpm.py`` (``register_schedule``), with v_posterior = 0 and logvar_init = 0.
    """
    betas = scaled_linear_betas(scheduler["num_train_timesteps"], scheduler["beta_start"], scheduler["beta_end"])
    alphas = 1 - betas
    abar = alphas.cumprod(0)
    before = torch.cat([abar.new_ones(1), abar[:-1]])
    variance = betas * (1 - before) / (1 - abar)
    values = (betas, abar, before, abar.sqrt(), (1 - abar).sqrt(), (1 - abar).log(), (1 / abar).sqrt(),
              (1 / abar - 1).sqrt(), variance, variance.clamp(min=1e-20).log(), betas * before.sqrt() / (1 - abar),
              (1 - before) * alphas.sqrt() / (1 - abar), torch.zeros_like(betas))
    return {name: value.float() for name, value in zip(SCHEDULE_BUFFERS, values, strict=True)}


# variance preserving

def expand(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Values (B,) shaped (B, 1, 1, ...) to multiply ``like`` (B, ...), on its device."""
    return values.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def add_noise(x0: torch.Tensor, noise: torch.Tensor, abar: torch.Tensor) -> torch.Tensor:
    """x_t of shape (B, ...) from x0 and noise of that shape and ``abar`` (B,) in [0, 1]."""
    a = expand(abar, x0)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise


def prediction_target(x0: torch.Tensor, noise: torch.Tensor, abar: torch.Tensor, prediction_type: str) -> torch.Tensor:
    """What a network of this prediction type is trained to output; shapes as in ``add_noise``."""
    a = expand(abar, x0)
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return x0
    if prediction_type == "v_prediction":
        return a.sqrt() * noise - (1 - a).sqrt() * x0
    raise _unknown(prediction_type)


def predict_x0(model_output: torch.Tensor, x_t: torch.Tensor, abar: torch.Tensor, prediction_type: str) -> torch.Tensor:
    """One-step estimate of x0 from the network's output at x_t; shapes as in ``add_noise``.

    The error of an eps prediction is amplified by sqrt((1 - abar) / abar), that of v by sqrt(1 - abar), that of a
    direct prediction not at all.  At abar = 0 an eps prediction says nothing about x0: the estimate is not finite.
    """
    a = expand(abar, x_t)
    if prediction_type == "epsilon":
        return (x_t - (1 - a).sqrt() * model_output) / a.sqrt()
    if prediction_type == "sample":
        return model_output
    if prediction_type == "v_prediction":
        return a.sqrt() * x_t - (1 - a).sqrt() * model_output
    raise _unknown(prediction_type)


def implied_noise(x_t: torch.Tensor, x0: torch.Tensor, abar: torch.Tensor) -> torch.Tensor:
    """The eps with which x0 becomes x_t; shapes as in ``add_noise``, ``abar`` below 1."""
    a = expand(abar, x_t)
    return (x_t - a.sqrt() * x0) / (1 - a).sqrt()


# variance exploding

def sigma_levels(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """sigma of each timestep, (T,), ascending: .029 to 14.61 for Stable Diffusion's schedule.

    From abar in float32 the lowest levels are right to about 3e-5 only, because of 1 - abar.
    """
    process = VariancePreserving(alphas_cumprod.double())  # of an eps network: sigma is what its errors grow by
    return process.amplification(torch.arange(process.steps)).to(alphas_cumprod.dtype)


def c_in(sigma: torch.Tensor) -> torch.Tensor:
    """Factor that brings x = x0 + sigma eps to about unit variance, the input that an eps network knows."""
    return 1 / (1 + sigma.square()).sqrt()


def add_sigma_noise(x0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """x of shape (B, ...) from x0 and noise of that shape and ``sigma`` (B,)."""
    return x0 + expand(sigma, x0) * noise


def denoised(x: torch.Tensor, eps: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """D(x) = x - sigma eps, the estimate of x0; x and eps (B, ...), ``sigma`` (B,)."""
    return x - expand(sigma, x) * eps


# samplers

def sampling_timesteps(steps: int, total: int = 1000) -> list[int]:
    """UDiffText's timesteps, descending from total - 1, roughly evenly spaced.

    Raises:
        ValueError: ``steps`` is not in 1..total.
    """
    if not 1 <= steps <= total:
        raise OptionError(f"the number of sampling steps lies in 1..{total}, got {steps}")
    if steps == total:
        return list(range(total - 1, -1, -1))
    return [int(total - 1 - i * ((total - 1) / steps)) for i in range(steps)]


def ddim_timesteps(steps: int, total: int = 1000) -> list[int]:
    """AnyText2's timesteps 1, 1 + c, 1 + 2 c, ... with c = total // steps, in ascending order.

    A number of steps that does not divide ``total`` takes one step more, as upstream (``cldm/ddim_hacked.py``).
    Upstream runs past the schedule where c divides total - 1 (of 1000: 333 steps, or more than 500); here that last
    timestep is left out.

    Raises:
        ValueError: ``steps`` is not in 1..total.
    """
    if not 1 <= steps <= total:
        raise ValueError(f"the number of DDIM steps lies in 1..{total}, got {steps}")
    return [t for t in range(1, total + 1, total // steps) if t < total]


def ddim_levels(alphas_cumprod: torch.Tensor, steps: int) -> list[tuple[int, float, float]]:
    """(t, abar, abar') of each step of DDIM, from noise to picture; the last one ends at abar of timestep 0."""
    times = [0, *ddim_timesteps(steps, len(alphas_cumprod))]
    abar = alphas_cumprod.double().cpu()[times].tolist()
    return [(times[i], abar[i], abar[i - 1]) for i in range(len(times) - 1, 0, -1)]


def step_moments(output: torch.Tensor, x: torch.Tensor, abar: float, abar_next: float, eta: float = 0.0,
                 prediction_type: str = "epsilon") -> tuple[torch.Tensor, float]:
    """Mean (B, C, h, w), differentiable in the network's ``output``, and sigma of a DDIM step (Song et al., eq. 12).

    Args:
        output, x: (B, C, h, w), the network's output at x_t. ``abar``, ``abar_next``: before and after the step.
        eta: 0 is deterministic (sigma = 0), 1 adds the noise of DDPM.
    """
    a = torch.full((len(x),), abar, dtype=x.dtype, device=x.device)
    x0 = predict_x0(output.to(x), x, a, prediction_type)
    eps = (x - abar**0.5 * x0) / (1 - abar) ** 0.5
    sigma = eta * ((1 - abar_next) / (1 - abar) * (1 - abar / abar_next)) ** 0.5
    return abar_next**0.5 * x0 + (1 - abar_next - sigma**2) ** 0.5 * eps, sigma


# processes

class Process(Protocol):
    """How noise is added, and what is predicted. Shapes: pictures (B, ...), timesteps (B,) whole or fractional.

    Attributes:
        prediction_type: name of the target. ``steps``: number of training timesteps.
    """

    prediction_type: str

    @property
    def steps(self) -> int:
        """Number of training timesteps T."""

    def signal_share(self, timesteps: torch.Tensor) -> torch.Tensor:
        """(B,) in [0, 1], signal / (signal + noise) in power: what step weightings take; SNR = share / (1 - share)."""

    def amplification(self, timesteps: torch.Tensor) -> torch.Tensor:
        """(B,), by what an error of the output is multiplied in the estimate of x0; infinite if there is none."""

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """x_t."""

    def target(self, x0: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the network is trained to output at x_t."""

    def predict_x0(self, output: torch.Tensor, x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The estimate of x0 that an output at x_t implies."""


@dataclass(frozen=True)
class VariancePreserving:
    """DDPM's process with any schedule.

    Attributes:
        alphas_cumprod: (T,) abar in [0, 1], falling. Between two timesteps it is interpolated linearly.
        prediction_type: "epsilon", "sample" or "v_prediction".

    Raises:
        ProcessError: another prediction type, or a schedule of another shape.
    """

    alphas_cumprod: torch.Tensor
    prediction_type: str = "epsilon"

    def __post_init__(self):
        if self.prediction_type not in PREDICTION_TYPES:
            raise _unknown(self.prediction_type)
        if not isinstance(self.alphas_cumprod, torch.Tensor) or self.alphas_cumprod.ndim != 1:
            raise ProcessError("alphas_cumprod is a tensor (T,) of abar at every timestep, got "
                               f"{getattr(self.alphas_cumprod, 'shape', type(self.alphas_cumprod).__name__)}")

    @property
    def steps(self) -> int:
        return len(self.alphas_cumprod)

    def signal_share(self, timesteps: torch.Tensor) -> torch.Tensor:
        """abar (B,), of the dtype of the schedule, on the device of ``timesteps``."""
        schedule = self.alphas_cumprod.to(timesteps.device)
        if not timesteps.is_floating_point():
            return schedule[timesteps]
        before = timesteps.floor().long().clamp(max=len(schedule) - 1)
        after = (before + 1).clamp(max=len(schedule) - 1)
        return torch.lerp(schedule[before], schedule[after], (timesteps - before).to(schedule))

    def amplification(self, timesteps: torch.Tensor) -> torch.Tensor:
        a = self.signal_share(timesteps)
        return {"epsilon": ((1 - a) / a).sqrt(), "sample": torch.ones_like(a),
                "v_prediction": (1 - a).sqrt()}[self.prediction_type]

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return add_noise(x0, noise, self._abar(timesteps, x0))

    def target(self, x0: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return prediction_target(x0, noise, self._abar(timesteps, x0), self.prediction_type)

    def predict_x0(self, output: torch.Tensor, x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return predict_x0(output, x_t, self._abar(timesteps, x_t), self.prediction_type)

    def _abar(self, timesteps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return self.signal_share(timesteps.to(like.device)).to(torch.promote_types(like.dtype, torch.float32))


@dataclass(frozen=True)
class RectifiedFlow:
    """The straight path from x0 to noise, sigma = t / steps in [0, 1], as diffusers' FlowMatch schedulers count.

    A scheduler's shift changes which timesteps are drawn, not what a timestep means: their timesteps are
    sigma * steps, fractional in general.

    Attributes:
        steps: timestep of pure noise.
    """

    steps: int = 1000
    prediction_type: str = "flow"

    def __post_init__(self):
        if self.prediction_type != "flow":
            raise ProcessError(f"a rectified flow predicts eps - x0 (prediction_type 'flow'), not "
                               f"{self.prediction_type!r}")

    def signal_share(self, timesteps: torch.Tensor) -> torch.Tensor:
        """(1 - sigma)^2 / ((1 - sigma)^2 + sigma^2)."""
        sigma = self.sigma(timesteps)
        return (1 - sigma).square() / ((1 - sigma).square() + sigma.square())

    def sigma(self, timesteps: torch.Tensor) -> torch.Tensor:
        """(B,) share of noise, float32 at least."""
        return timesteps.to(torch.promote_types(timesteps.dtype, torch.float32)) / self.steps

    def amplification(self, timesteps: torch.Tensor) -> torch.Tensor:
        return self.sigma(timesteps)

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        sigma = self._sigma(timesteps, x0)
        return (1 - sigma) * x0 + sigma * noise

    def target(self, x0: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return noise - x0

    def predict_x0(self, output: torch.Tensor, x_t: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return x_t - self._sigma(timesteps, x_t) * output

    def _sigma(self, timesteps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return expand(self.sigma(timesteps).to(torch.promote_types(like.dtype, torch.float32)), like)


def process_of(schedule, prediction_type: str | None = None) -> Process:
    """The process of a schedule.

    Args:
        schedule: a Process; or abar (T,) as a tensor; or a scheduler of diffusers: one with ``alphas_cumprod``
            (DDPMScheduler, DDIMScheduler, ...), or one for flow matching (FlowMatchEulerDiscreteScheduler).
        prediction_type: of a network that predicts otherwise than the schedule says; "flow" for a rectified flow.

    Raises:
        ProcessError: the schedule lacks what the process needs, or does not fit the prediction type.
    """
    if isinstance(schedule, torch.Tensor):
        if prediction_type == "flow":
            raise ProcessError("a rectified flow has no alphas_cumprod: give RectifiedFlow() or a FlowMatch scheduler "
                               "in the place of the tensor")
        return VariancePreserving(schedule, prediction_type or "epsilon")
    if hasattr(schedule, "signal_share"):
        if prediction_type not in (None, schedule.prediction_type):
            raise ProcessError(f"the process predicts {schedule.prediction_type!r}, not {prediction_type!r}: give one "
                               "of the two")
        return schedule
    return _from_scheduler(schedule, prediction_type)


def _from_scheduler(scheduler, prediction_type: str | None) -> Process:
    name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
    says = prediction_type or config.get("prediction_type", "flow" if "FlowMatch" in name else "epsilon")
    if says in ("flow", "flow_prediction"):
        if config.get("invert_sigmas"):
            raise ProcessError(f"{name} with invert_sigmas counts its timesteps from noise to picture: not supported")
        if config.get("num_train_timesteps") is None:
            raise ProcessError(f"{name} has no num_train_timesteps, the timestep of pure noise: give RectifiedFlow(T)")
        return RectifiedFlow(config["num_train_timesteps"])
    if getattr(scheduler, "alphas_cumprod", None) is None:
        raise ProcessError(f"{name} has no alphas_cumprod, which {says!r} needs: give abar (T,) of the schedule that "
                           "the network was trained with, or RectifiedFlow() for a flow")
    return VariancePreserving(scheduler.alphas_cumprod, says)


def _unknown(prediction_type: str) -> ProcessError:
    return ProcessError(f"prediction_type is one of {PREDICTION_TYPES}, or flow with RectifiedFlow, "
                        f"got {prediction_type!r}")
