"""What the network predicts, and the clean image that its prediction implies.

    x_t = sqrt(abar) x0 + sqrt(1 - abar) eps                          (DDPM, eq. 4)
    v   = sqrt(abar) eps - sqrt(1 - abar) x0                          (Salimans and Ho 2022, appendix D)

Upstream solves for x0 with the eps formula whatever the network predicts; here each type has its own line.
"""

from __future__ import annotations

import torch

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")


def expand(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Values (B,) shaped (B, 1, 1, ...) to multiply ``like`` (B, ...), on its device."""
    return values.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def add_noise(x0: torch.Tensor, noise: torch.Tensor, abar: torch.Tensor) -> torch.Tensor:
    """x_t of shape (B, ...) from x0 and noise of that shape and ``abar`` (B,) in (0, 1]."""
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
    direct prediction not at all.
    """
    a = expand(abar, x_t)
    if prediction_type == "epsilon":
        return (x_t - (1 - a).sqrt() * model_output) / a.sqrt()
    if prediction_type == "sample":
        return model_output
    if prediction_type == "v_prediction":
        return a.sqrt() * x_t - (1 - a).sqrt() * model_output
    raise _unknown(prediction_type)


def _unknown(prediction_type: str) -> ValueError:
    return ValueError(f"prediction_type is one of {PREDICTION_TYPES}, got {prediction_type!r}")
