"""What writing a word costs and yields: passes through the UNet, and SeqAcc with an interval, for ways of sampling."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from anytext_lib.recipes.udifftext_grid import MIN_SIZE, GridWord, grid_batch, grid_conditions
from anytext_lib.udifftext.euler import Sampling, Target, euler_sample, select_noise, word_denoiser, write_words
from anytext_lib.udifftext.model import UDiffTextModel
from anytext_lib.udifftext.word_losses import measure_sequence_accuracy, same_word

GOALS = (-0.50, -0.56, -0.62, -0.68, -0.74, -0.80)


@dataclass
class Passes:
    """Count of network evaluations, a row each: ``forward`` in all, ``graded`` of them with a backward pass."""

    forward: int = 0
    graded: int = 0

    @property
    def units(self) -> int:
        """Forward passes of one picture, a backward pass counted as two."""
        return self.forward + 2 * self.graded


@contextmanager
def count_passes(network: nn.Module) -> Iterator[Passes]:
    """Within the block, count the rows of every forward pass of ``network``."""
    counted = Passes()

    def note(module, args, kwargs):
        rows = len(args[0] if args else kwargs["sample"])
        counted.forward += rows
        counted.graded += rows if torch.is_grad_enabled() else 0

    hook = network.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield counted
    finally:
        hook.remove()


def ways(steps: int = 20, guidance: float = 3.0, most: int = 5) -> dict[str, Sampling]:
    """The ways of sampling to compare; goals of a refinement stand at the same parts of the way as upstream's."""
    goals = {round(i * steps / 50): goal for i, goal in zip((5, 9, 13, 17, 21, 25), GOALS, strict=True)}
    plain = {"steps": steps, "guidance": guidance, "min_size": MIN_SIZE, "candidates": 1}
    refined = plain | {"refine": True, "thresholds": goals, "most": most}
    return {"plain": Sampling(**plain), "best of 4": Sampling(**plain | {"candidates": 4}),
            "best of 10": Sampling(**plain | {"candidates": 10}), "refined": Sampling(**refined),
            "refined, no c_in": Sampling(**refined | {"scale_input": False})}


def measure(model: UDiffTextModel, words: Sequence[GridWord], sampling: Sampling, judge, seed: int = 100,
            part: int = 16) -> list[dict]:
    """Measure one row a word: wanted and read text, last L_aae, cost of the batch divided by its words."""
    rows = []
    for start in range(0, len(words), part):
        batch, begin = grid_batch(words[start : start + part]), time.process_time()
        with count_passes(model.unet) as passes:
            written = write_words(model, batch, sampling, seed=seed, places=range(start, start + len(batch)))
        seconds = time.process_time() - begin
        read = measure_sequence_accuracy(written.images, batch.lines, judge)[1]
        rows += [{"wanted": wanted, "read": got, "right": same_word(got, wanted), "focus": float(focus),
                  "units": passes.units / len(batch), "seconds": seconds / len(batch)}
                 for wanted, got, focus in zip(batch.lines.texts, read, written.focus[-1], strict=True)]
    return rows


@torch.no_grad()
def try_candidates(model: UDiffTextModel, words: Sequence[GridWord], candidates: int, judge, steps: int = 20,
                   guidance: float = 3.0, seed: int = 100) -> list[dict]:
    """Sample every word from every candidate noise to the end, not only from the candidate that noise search chooses.

    Returns:
        one row for each word and candidate: ``focus``, the L_aae that the search goes by, and what was read.
    """
    batch, told = grid_batch(words), grid_conditions(model, words)
    generator = torch.Generator().manual_seed(seed)
    noises = torch.randn(candidates, len(words), 4, *told.place.shape[-2:], generator=generator)
    target, rows = Target(told.mask, told.valid, min_size=MIN_SIZE), []
    with word_denoiser(model, told, guidance) as denoiser:
        losses = select_noise(denoiser, noises, target).losses
        for k, noise in enumerate(noises):
            images = model.decode(euler_sample(denoiser, noise, steps)).clamp(-1, 1)
            read = measure_sequence_accuracy(images, batch.lines, judge)[1]
            rows += [{"word": i, "candidate": k, "focus": float(losses[k, i]), "wanted": word.text, "read": read[i],
                      "right": same_word(read[i], word.text)} for i, word in enumerate(words)]
    return rows


def chosen(rows: Sequence[Mapping], rule) -> list[Mapping]:
    """For each word the candidate that ``rule`` (such as ``min``) picks by its focus."""
    by_word: dict[int, list[Mapping]] = {}
    for row in rows:
        by_word.setdefault(row["word"], []).append(row)
    return [rule(group, key=lambda row: row["focus"]) for group in by_word.values()]


def share_interval(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95% interval of a share."""
    share, room = right / count, z * z / count
    middle, half = share + room / 2, z * np.sqrt(share * (1 - share) / count + room / (4 * count))
    return float((middle - half) / (1 + room)), float((middle + half) / (1 + room))


def summary(rows: Sequence[Mapping], way: str) -> dict[str, float]:
    """SeqAcc with its interval, cost and focus of one way."""
    own = [row for row in rows if row["way"] == way]
    right = sum(row["right"] for row in own)
    low, high = share_interval(right, len(own))
    means = {key: float(np.mean([row[key] for row in own])) for key in ("units", "seconds", "focus")}
    return {"seq_acc": right / len(own), "low": low, "high": high, "words": len(own), **means}
