"""How good is what was generated?

Text: sentence accuracy and edit distance of what an independent recogniser reads (``evaluate_ocr``), by the rules of
different papers (``PROTOCOLS``).  Pictures: FID, CLIPScore, LPIPS.  Every result carries what its numbers depend on.
"""

from anytext_lib.evaluation.text import TextScores, edit_distance_score, ned, score_texts, sentence_accuracy

_PLACES = {
    "PROTOCOLS": "protocols", "Protocol": "protocols", "LineScore": "protocols", "protocol": "protocols",
    "Picture": "items", "find_pictures": "items", "cut_line": "crops",
    "LineReading": "readings", "Readings": "readings", "open_reader": "readings", "read_pictures": "readings",
    "score_lines": "scores", "summarise": "scores", "bootstrap_interval": "intervals",
    "evaluate_ocr": "ocr", "read_result": "results", "write_result": "results", "ResultError": "results",
    "evaluate_fid": "pictures", "evaluate_clip": "pictures", "evaluate_lpips": "pictures",
    "frechet_distance": "fid", "fid_by_size": "fid", "FIDInception": "inception", "LPIPS": "lpips",
    "CLIPScorer": "clip", "clip_score": "clip", "MetricWeightsError": "weights",
}

__all__ = ["TextScores", "edit_distance_score", "ned", "score_texts", "sentence_accuracy", *_PLACES]  # noqa: PLE0604


def __getattr__(name: str):
    """Load a name when it is asked for: training wants the scores of texts only."""
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
