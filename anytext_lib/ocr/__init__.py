"""Reading an image of text: the differentiable recogniser, the crops that it reads, a judge and a detector."""

_PLACES = {
    "Charset": "ocr.recogniser", "Detection": "ocr.detector", "Judge": "ocr.judge",
    "PPOCRv3Recognizer": "ocr.recogniser", "Reading": "ocr.recogniser", "RecognizerOutput": "ocr.network",
    "TextDetector": "ocr.detector", "WeightsError": "ocr.onnx_weights", "crop_lines": "ocr.crops",
    "crop_widths": "ocr.crops", "line_quad": "data.lines",
}

__all__ = list(_PLACES)  # noqa: PLE0604


def __getattr__(name: str):
    """Load a name when it is asked for: to know which characters can be read needs no torch."""
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"anytext_lib.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
