"""Evaluate generated pictures: Sen.Acc and NED by independent readers, FID, CLIPScore, LPIPS, with intervals.

Text: sentence accuracy and edit distance of what an independent recogniser reads (``evaluate_ocr``), by the rules of
different papers (``PROTOCOLS``).  Pictures: FID, CLIPScore, LPIPS.  Every result carries what its numbers depend on.
"""

_NAMES = {
    "score": ("PROTOCOLS", "LineScore", "Protocol", "ResultError", "TextScores", "bootstrap_interval",
              "edit_distance_score", "ned", "protocol", "score_lines", "score_texts", "sentence_accuracy", "summarise"),
    "journal": ("Picture",),
    "read": ("LineReading", "Readings", "cut_line", "find_pictures", "open_reader", "read_pictures"),
    "ocr": ("evaluate_ocr",),
    "report": ("write_result",),
    "image_metrics": ("evaluate_clip", "evaluate_fid", "evaluate_lpips", "fid_by_size", "frechet_distance"),
    "networks": ("CLIPScorer", "FIDInception", "LPIPS", "MetricWeightsError", "clip_score"),
}
_PLACES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [*_PLACES]  # noqa: PLE0604


def __getattr__(name: str):
    """Load a name when it is asked for: training wants the scores of texts only."""
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
