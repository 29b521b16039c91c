"""The small DB detector of an experiment, trained on the scenes that the model is fine-tuned on."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

from anytext_lib.db.detector import DBDetector, save_network
from anytext_lib.db.scenes import make_batch
from anytext_lib.db.score import BoxScore, score_boxes
from anytext_lib.db.training import train_detector
from anytext_lib.experiments.fine_tuning import PROBES, SCENES
from anytext_lib.scenes.scene_dataset import SceneDataset


def train_on_scenes(path: Path, scenes: int, steps: int, batch: int, held_out: int) -> dict[str, float]:
    """Train on the first scenes of the experiment, save to ``path``; how well it finds held-out words, and its cost.

    Returns:
        f, precision, recall and mean_overlap on scenes of the validation split; cpu_seconds of the training.
    """
    drawn = SceneDataset(seed=SCENES, split="train", epoch_length=scenes, cache=False)
    pictures = [drawn.scene(i) for i in range(scenes)]
    size = min(batch, scenes)
    batches = [make_batch(pictures[first:first + size]) for first in range(0, scenes - size + 1, size)]
    record = train_detector(steps, learning_rate=1e-2, batches=islice(cycle(batches), steps))
    save_network(record.network, path)
    detector = DBDetector(record.network)
    tests = SceneDataset(seed=PROBES, split="validation", epoch_length=held_out, cache=False)
    found = sum((_score(detector, tests.scene(i)) for i in range(held_out)), BoxScore())
    return {"f": found.f, "precision": found.precision, "recall": found.recall, "mean_overlap": found.mean_overlap,
            "cpu_seconds": record.cpu_seconds}


def _score(detector: DBDetector, scene) -> BoxScore:
    return score_boxes([box.quad for box in detector.detect(scene.image)], [line.polygon for line in scene.lines],
                       [not line.valid for line in scene.lines])
