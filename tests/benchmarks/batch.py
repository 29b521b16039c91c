"""The benchmark's batch: three scenes of 512 px with five lines each, and a decoded image that is nearly right."""

from __future__ import annotations

import itertools

import torch

from anytext_lib.data import TextLines
from anytext_lib.scenes import render_scene, scene_batch

IMAGES, LINES, SIZE = 3, 5, 512


def benchmark_batch() -> tuple[torch.Tensor, torch.Tensor, TextLines]:
    """decoded (3, 3, 512, 512) and images of the same shape in [-1, 1], and their 15 lines."""
    scenes = (render_scene(seed, SIZE, n_lines=LINES, invalid=0.0) for seed in itertools.count())
    images, lines, _ = scene_batch(list(itertools.islice((s for s in scenes if len(s.lines) == LINES), IMAGES)))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + 0.1 * noise).clamp(-1, 1), images, lines
