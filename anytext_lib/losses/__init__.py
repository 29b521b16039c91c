"""The mathematics of teaching a diffusion model to write: pure functions, one idea a file, and what joins them."""

from anytext_lib.diffusion import (
    PREDICTION_TYPES,
    Process,
    ProcessError,
    RectifiedFlow,
    VariancePreserving,
    add_noise,
    predict_x0,
    prediction_target,
    process_of,
)
from anytext_lib.losses.anytext2 import AnyText2Objective, ObjectiveTerms
from anytext_lib.losses.checks import NonFiniteError
from anytext_lib.losses.ctc import ctc_loss, frames_needed, too_long
from anytext_lib.losses.diffusion import diffusion_loss
from anytext_lib.losses.objective import Objective, Values
from anytext_lib.losses.ocr import layered_ocr_loss, ocr_loss
from anytext_lib.losses.region import region_loss, region_weighted_loss
from anytext_lib.losses.step import Instruments, Pictures, Step
from anytext_lib.losses.terms import TERMS, Term, TermError, make_term, per_line
from anytext_lib.losses.weights import (
    WEIGHTINGS,
    LossWeightSchedule,
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
    "AnyText2Objective", "Instruments", "LossWeightSchedule", "NonFiniteError", "Objective", "ObjectiveTerms",
    "PREDICTION_TYPES", "Pictures", "Process", "ProcessError", "RectifiedFlow", "Step", "TERMS", "Term", "TermError",
    "Values", "VariancePreserving", "WEIGHTINGS", "Weighting", "WeightingError", "abar", "add_noise", "ctc_loss",
    "diffusion_loss", "frames_needed", "hard_gate", "language_weights", "layered_ocr_loss", "make_term",
    "make_weighting", "min_snr", "ocr_loss", "per_line", "predict_x0", "prediction_target", "process_of",
    "region_loss", "region_weighted_loss", "snr", "step_weights", "too_long", "uniform",
]
