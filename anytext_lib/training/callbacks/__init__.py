"""Callbacks of a training run: checkpoints, the average of weights, reports, and pictures that are sampled."""

from anytext_lib.training.callbacks.average import ExponentialAverage
from anytext_lib.training.callbacks.checkpoints import Checkpoints, ExportModel, Interrupted
from anytext_lib.training.callbacks.reports import (
    CudaMemoryAdvice,
    DataReport,
    GradientNorms,
    NonFiniteReport,
    ProgressBar,
    ProgressLines,
    RunRecord,
    Speed,
)
from anytext_lib.training.callbacks.sampling import ImageLogger, TextJudge
from anytext_lib.training.callbacks.timestep_curves import TimestepCurves

__all__ = ["Checkpoints", "CudaMemoryAdvice", "DataReport", "ExponentialAverage", "ExportModel", "GradientNorms",
           "ImageLogger", "Interrupted", "NonFiniteReport", "ProgressBar", "ProgressLines", "RunRecord", "Speed",
           "TextJudge", "TimestepCurves"]
