"""The mathematics of teaching a diffusion model to write: steps, terms, weights, and the objective that sums them."""

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
from anytext_lib.losses.fast_ctc import fast_ctc_loss
from anytext_lib.losses.objective import AnyText2Objective, Objective, ObjectiveTerms, Values
from anytext_lib.losses.step import Instruments, NonFiniteError, Pictures, Step
from anytext_lib.losses.terms import (
    TERMS,
    Term,
    TermError,
    ctc_loss,
    diffusion_loss,
    frames_needed,
    layered_ocr_loss,
    make_term,
    ocr_loss,
    per_line,
    region_loss,
    region_weighted_loss,
    too_long,
)
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
    "diffusion_loss", "fast_ctc_loss", "frames_needed", "hard_gate", "language_weights", "layered_ocr_loss",
    "make_term", "make_weighting", "min_snr", "ocr_loss", "per_line", "predict_x0", "prediction_target",
    "process_of", "region_loss", "region_weighted_loss", "snr", "step_weights", "too_long", "uniform",
]
