"""Callbacks of a training run, one idea a file."""

from anytext_lib.training.callbacks.checkpoints import Checkpoints
from anytext_lib.training.callbacks.cuda_memory import CudaMemoryAdvice
from anytext_lib.training.callbacks.data_report import DataReport
from anytext_lib.training.callbacks.ema import ExponentialAverage
from anytext_lib.training.callbacks.export import ExportModel
from anytext_lib.training.callbacks.gradient_norms import GradientNorms
from anytext_lib.training.callbacks.image_logger import ImageLogger
from anytext_lib.training.callbacks.interruption import Interrupted
from anytext_lib.training.callbacks.nonfinite import NonFiniteReport
from anytext_lib.training.callbacks.progress import ProgressBar, ProgressLines
from anytext_lib.training.callbacks.run_record import RunRecord
from anytext_lib.training.callbacks.speed import Speed
from anytext_lib.training.callbacks.text_judge import TextJudge

__all__ = ["Checkpoints", "CudaMemoryAdvice", "DataReport", "ExponentialAverage", "ExportModel", "GradientNorms",
           "ImageLogger", "Interrupted", "NonFiniteReport", "ProgressBar", "ProgressLines", "RunRecord", "Speed",
           "TextJudge"]
