"""A small DB detector trained on the scenes of an experiment, for the arm that weighs by its probability map."""

from __future__ import annotations

from itertools import cycle, islice

from anytext_lib.db.box_score import BoxScore, score_boxes
from anytext_lib.db.dbnet import DBDetector, DBNet
from anytext_lib.db.detected import Detected
from anytext_lib.db.detector_training import make_batch, train_detector
from anytext_lib.experiments.fine_tuning import PROBES, scenes, training_scenes
from anytext_lib.experiments.plan import Sizes
from anytext_lib.training.cache import TensorCache, digests


def map_detector(sizes: Sizes) -> tuple[DBNet, dict[str, float]]:
    """Train a detector on the scenes of training; with f, precision, recall and mean_overlap on validation scenes, and
    cpu_seconds of the training."""
    drawn = training_scenes(sizes)
    pictures, size = [drawn.scene(i) for i in range(sizes.scenes)], min(sizes.batch, sizes.scenes)
    batches = [make_batch(pictures[first:first + size]) for first in range(0, sizes.scenes - size + 1, size)]
    record = train_detector(sizes.detector_steps, learning_rate=1e-2,
                            batches=islice(cycle(batches), sizes.detector_steps))
    detector, held_out = DBDetector(record.network), max(8, sizes.words)
    tests = scenes(PROBES, "validation", held_out, sizes.style)
    score = sum((_score(detector, tests.scene(i)) for i in range(held_out)), BoxScore())
    return record.network, {"f": score.f, "precision": score.precision, "recall": score.recall,
                            "mean_overlap": score.mean_overlap, "cpu_seconds": record.cpu_seconds}


def _score(detector: DBDetector, scene) -> BoxScore:
    return score_boxes([box.quad for box in detector.detect(scene.image)], [line.polygon for line in scene.lines],
                       [not line.valid for line in scene.lines])


def detected(network: DBNet) -> Detected:
    """The term of a trained DB detector that looks at each picture once."""
    cache = TensorCache(256)
    return Detected(network, lambda images, compute: cache.rows(digests(images), compute, images.device))
