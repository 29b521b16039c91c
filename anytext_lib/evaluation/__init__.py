"""How good is what was generated: sentence accuracy and edit distance of the text that a judge reads."""

from anytext_lib.evaluation.text import TextScores, edit_distance_score, ned, score_texts, sentence_accuracy

__all__ = ["TextScores", "edit_distance_score", "ned", "score_texts", "sentence_accuracy"]
