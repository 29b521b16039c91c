"""The mathematics of teaching a diffusion model to write: pure functions, one idea a file, and one objective."""

from anytext_lib.losses.checks import NonFiniteError
from anytext_lib.losses.ctc import ctc_loss, frames_needed, too_long
from anytext_lib.losses.diffusion import diffusion_loss
from anytext_lib.losses.objective import AnyText2Objective
from anytext_lib.losses.ocr import ocr_loss
from anytext_lib.losses.prediction import PREDICTION_TYPES, add_noise, predict_x0, prediction_target
from anytext_lib.losses.region import region_weighted_loss
from anytext_lib.losses.terms import ObjectiveTerms
from anytext_lib.losses.weights import (
    WEIGHTINGS,
    Weighting,
    WeightingError,
    abar,
    hard_gate,
    language_weights,
    make_weighting,
    min_snr,
    snr,
    step_weights,
    uniform,
)

__all__ = [
    "AnyText2Objective", "NonFiniteError", "ObjectiveTerms", "PREDICTION_TYPES", "WEIGHTINGS", "Weighting",
    "WeightingError", "abar", "add_noise", "ctc_loss", "diffusion_loss", "frames_needed", "hard_gate",
    "language_weights", "make_weighting", "min_snr", "ocr_loss", "predict_x0", "prediction_target",
    "region_weighted_loss", "snr", "step_weights", "too_long", "uniform",
]
