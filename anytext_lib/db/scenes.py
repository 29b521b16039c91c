"""Rendered scenes as training and test data of a detector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from anytext_lib.data.batch import to_tensor
from anytext_lib.db.labels import LabelMaps, make_label_maps, stack_label_maps
from anytext_lib.errors import OptionError
from anytext_lib.scenes.rendering import Scene, render_scene

SIDE = 160  # pixels
HELD_OUT = 10**9  # first seed of the test scenes; training uses smaller ones


class SceneBatch(NamedTuple):
    """``images`` (B, 3, H, W) in [-1, 1] and their label maps (B, H, W)."""

    images: torch.Tensor
    labels: LabelMaps


def scene_labels(scene: Scene, **options) -> LabelMaps:
    """Label maps of a scene; its illegible lines are masked out.  ``options`` of ``make_label_maps``."""
    return make_label_maps([line.polygon for line in scene.lines], scene.image.shape[:2],
                           [not line.valid for line in scene.lines], **options)


def make_batch(scenes: list[Scene], **options) -> SceneBatch:
    """Scenes of one size as a batch."""
    return SceneBatch(to_tensor([scene.image for scene in scenes]),
                      stack_label_maps([scene_labels(scene, **options) for scene in scenes]))


def training_batches(steps: int, batch_size: int, side: int = SIDE, seed: int = 0) -> Iterator[SceneBatch]:
    """``steps`` batches of fresh scenes; no scene comes twice, none is a test scene."""
    scenes = steps * batch_size
    first = seed * scenes
    if first + scenes > HELD_OUT:
        raise OptionError(f"seed {seed} with {scenes} scenes reaches the test scenes: take a smaller seed")
    for step in range(steps):
        start = first + step * batch_size
        yield make_batch([render_scene(i, side) for i in range(start, start + batch_size)])


def held_out_scenes(count: int, side: int = SIDE) -> list[Scene]:
    """The first ``count`` held-out scenes."""
    return [render_scene(HELD_OUT + i, side) for i in range(count)]
