"""Reading an image of text: the differentiable recogniser, the crops that it reads, a judge and a detector."""

from anytext_lib.data.lines import line_quad
from anytext_lib.ocr.crops import crop_lines, crop_widths
from anytext_lib.ocr.detector import Detection, TextDetector
from anytext_lib.ocr.judge import Judge
from anytext_lib.ocr.network import RecognizerOutput
from anytext_lib.ocr.onnx_weights import WeightsError
from anytext_lib.ocr.recogniser import Charset, PPOCRv3Recognizer, Reading

__all__ = [
    "Charset",
    "Detection",
    "Judge",
    "PPOCRv3Recognizer",
    "Reading",
    "RecognizerOutput",
    "TextDetector",
    "WeightsError",
    "crop_lines",
    "crop_widths",
    "line_quad",
]
