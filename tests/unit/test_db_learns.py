"""The small detector learns: F on held-out scenes after a short training (the full recipe goes further)."""

from __future__ import annotations

from anytext_lib.db.box_score import evaluate_detector
from anytext_lib.db.dbnet import DBDetector
from anytext_lib.db.detector_training import held_out_scenes, train_detector


def test_finds_text_in_held_out_scenes():
    record = train_detector(steps=70, batch_size=8, side=128, learning_rate=0.01)
    result = evaluate_detector(DBDetector(record.network), held_out_scenes(40, 128))
    assert result.score.f >= 0.8, str(result)
