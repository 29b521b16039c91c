"""What the mini model obeys, measured on scenes that it has never seen: words, colours, fonts, edits, two lines.

    python -m anytext_lib.recipes.abilities runs/mini2_anytext/model --scenes 400

prints JSON. Each figure comes with its 95% interval over the scenes (BCa bootstrap), and with the same figure of the
true pictures, which says how well it can be measured at all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from anytext_lib.data.batch import AnyTextBatch, collate, to_uint8
from anytext_lib.data.sample import SampleConfig
from anytext_lib.device import pick_device
from anytext_lib.evaluation.judge_samples import read_lines
from anytext_lib.evaluation.score import bootstrap_interval
from anytext_lib.generation import sample_images
from anytext_lib.models import AnyText2Model
from anytext_lib.models.freezing import eval_mode
from anytext_lib.ocr import Judge
from anytext_lib.scenes.lettering import render_line
from anytext_lib.scenes.scene_dataset import MIXED, SIZE, SceneDataset

SEED = 23  # of the scenes and of the starting noise
TALL = 32  # pixels: height at which letters are compared with fonts
MARGIN = 2  # pixels around a box that count as its ground

Draw = Callable[[AnyTextBatch], torch.Tensor]


@dataclass(frozen=True)
class SeparatedLetters:
    """The letters of one line: (h, w) mask in {0, 1} in the box, and their RGB in 0..255."""

    mask: np.ndarray
    color: np.ndarray


def letters(image: np.ndarray, quad: np.ndarray) -> SeparatedLetters | None:
    """Separate letters from ground in the upright box around ``quad`` (4, 2), by Otsu's threshold on the distance from
    the ground's colour, the median around the box; None where nothing stands out.

    Args:
        image: (H, W, 3) uint8.
    """
    import cv2

    left, top = np.maximum(np.floor(quad.min(0)).astype(int), 0)
    right, bottom = np.ceil(quad.max(0)).astype(int) + 1
    wide = image[max(top - MARGIN, 0) : bottom + MARGIN, max(left - MARGIN, 0) : right + MARGIN].astype(np.float32)
    rim = np.ones(wide.shape[:2], bool)
    rim[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    inside = image[top:bottom, left:right].astype(np.float32)
    far = np.linalg.norm(inside - np.median(wide[rim], axis=0), axis=-1)
    if far.max() < 20:
        return None
    level, _ = cv2.threshold(np.uint8(far / far.max() * 255), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    mask = far > level / 255 * far.max()
    core = far >= np.quantile(far[mask], 0.6)  # away from the soft edges
    return SeparatedLetters(mask.astype(np.uint8), np.median(inside[core & mask], axis=0))


def trimmed(mask: np.ndarray) -> np.ndarray:
    """(TALL, w) float32: the part of ``mask`` with ink, at one height, its shape kept."""
    import cv2

    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    ink = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    width = max(1, round(ink.shape[1] * TALL / ink.shape[0]))
    return cv2.resize(ink, (width, TALL), interpolation=cv2.INTER_AREA)


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the joint ink of two masks (TALL, w) that both have (soft intersection over union), laid centre on
    centre."""
    width = max(a.shape[1], b.shape[1])
    a, b = (np.pad(m, ((0, 0), ((width - m.shape[1]) // 2, width - m.shape[1] - (width - m.shape[1]) // 2)))
            for m in (a, b))
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


def nearest_font(mask: np.ndarray, text: str, fonts: Sequence[str] = MIXED.fonts) -> str:
    """The font in which ``text`` looks most like the letters of ``mask``."""
    ink = trimmed(mask)
    return max(fonts, key=lambda font: likeness(ink, _written(text, font)))


def _written(text: str, font: str) -> np.ndarray:
    page = render_line(text, font, (96, 640), text_height=40, color=(0, 0, 0), background=(255, 255, 255))
    return trimmed(page[..., 0] < 128)


def border_step(image: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute difference in grey levels between neighbours on both sides of the border of ``mask``.

    Args:
        image: (H, W, 3) uint8. ``mask``: (H, W) bool.
    """
    image = image.astype(np.float32)
    steps = [np.abs(np.diff(image, axis=axis))[np.diff(mask, axis=axis)].mean(-1) for axis in (0, 1)]
    return float(np.concatenate(steps).mean())


def batches(count: int, split: str, two_lines: float = 0.0, editing: bool = False, size: int = 20):
    """Pairs of scenes and their batch: the first ``count`` of a split, Latin words with font hints and colours."""
    config = SampleConfig(image_size=SIZE, mask_ratio=float(editing), font_hint_prob=1.0, font_hint_area=(1.0, 1.0),
                          font_hint_randaug=False, position_jitter=False, max_lines=2 if two_lines else 1)
    scenes = SceneDataset(config, seed=SEED, split=split, epoch_length=count, style="mixed", two_lines=two_lines)
    for first in range(0, count, size):
        rows = range(first, min(first + size, count))
        yield [scenes.scene(i) for i in rows], collate([scenes[i] for i in rows])


def single_lines(draw: Draw, count: int, split: str, judges: dict) -> dict:
    """Sen.Acc of every judge, error and correlation of the letters' colours, share of the fonts that are told apart.

    Args:
        draw: pictures (B, 3, H, W) in [-1, 1] for a batch.
    """
    right: dict[str, list[float]] = {name: [] for name in judges}
    asked, found, fonts = [], [], []
    for scenes, batch in batches(count, split):
        images = draw(batch)
        texts, read = read_lines(images, batch, judges)
        for name, answers in read.items():
            right[name] += [float(answer == text) for answer, text in zip(answers, texts, strict=True)]
        for scene, picture in zip(scenes, to_uint8(images), strict=True):
            line = scene.lines[0]
            seen = letters(picture, line.polygon)
            asked.append(line.color)
            found.append(np.full(3, np.nan) if seen is None else seen.color)
            fonts.append(float(seen is not None and nearest_font(seen.mask, line.text) == line.font))
    asked, found = np.array(asked, float), np.array(found, float)
    clear = ~np.isnan(found).any(1)
    errors = np.abs(asked - found)[clear].mean(1)
    pairs = [(asked[clear, c], found[clear, c]) for c in range(3)]
    return {"sen_acc": {name: with_interval(values) for name, values in right.items()},
            "font": with_interval(fonts), "lines_without_letters": int((~clear).sum()),
            "color_error": with_interval(errors), "color_correlation": [
                round(float(np.corrcoef(*pair)[0, 1]), 4) if len(errors) > 1 else None for pair in pairs]}


def pairs_of_lines(draw: Draw, count: int, split: str, judges: dict) -> dict:
    """Share of the scenes with two lines of which both are read right, by every judge."""
    right: dict[str, list[float]] = {name: [] for name in judges}
    for _, batch in batches(count, split, two_lines=1.0):
        owners = batch.lines.image_index.numpy()
        texts, read = read_lines(draw(batch), batch, judges)
        for name, answers in read.items():
            ok = np.array([answer == text for answer, text in zip(answers, texts, strict=True)])
            right[name] += [float(ok[owners == image].all()) for image in range(len(batch))]
    return {name: with_interval(values) for name, values in right.items()}


def edits(draw: Draw, count: int, split: str, judges: dict) -> dict:
    """Words written anew into true pictures: Sen.Acc, and the step across the border of the region over that of the
    true picture; outside of the region the true pixels stay."""
    right: dict[str, list[float]] = {name: [] for name in judges}
    steps, true_steps = [], []
    for _, batch in batches(count, split, editing=True):
        region = batch.positions.bool()  # one line a picture
        images = torch.where(region, draw(batch), batch.images)
        texts, read = read_lines(images, batch, judges)
        for name, answers in read.items():
            right[name] += [float(answer == text) for answer, text in zip(answers, texts, strict=True)]
        for new, true, mask in zip(to_uint8(images), to_uint8(batch.images), region[:, 0].numpy(), strict=True):
            steps.append(border_step(new, mask))
            true_steps.append(border_step(true, mask))
    return {"sen_acc": {name: with_interval(values) for name, values in right.items()},
            "border_step": with_interval(steps), "border_step_true": with_interval(true_steps),
            "ratio": round(float(np.mean(steps) / np.mean(true_steps)), 3)}


def with_interval(values: Sequence[float]) -> dict:
    """Mean, bounds of its 95% interval and number of values."""
    bounds = bootstrap_interval(values, range(len(values)))
    rounded = [None if value is None else round(value, 4) for value in bounds]
    mean = round(float(np.mean(values)), 4) if len(values) else None
    return {"mean": mean, "low": rounded[0], "high": rounded[1], "count": len(values)}


def true_pictures(batch: AnyTextBatch) -> torch.Tensor:
    """The pictures that the batch was made from."""
    return batch.images


def generated(model: AnyText2Model, batch: AnyTextBatch, steps: int, guidance: float) -> torch.Tensor:
    """What ``model`` writes for the batch, starting from noise that depends on the scene's number only."""
    with eval_mode(model):
        images = sample_images(model, batch.to(model.device), steps, guidance, SEED, places=batch.indices.tolist())
    return images.cpu()


def measure(draw: Draw, scenes: int, split: str, judges: dict) -> dict:
    """All abilities on ``scenes`` scenes with one line, half as many edits and half as many with two lines."""
    half = max(1, scenes // 2)
    return {"one line": single_lines(draw, scenes, split, judges),
            "two lines": pairs_of_lines(draw, half, split, judges), "edits": edits(draw, half, split, judges)}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder written by save_pretrained")
    parser.add_argument("--scenes", type=int, default=400, help="with one line; half as many edits and pairs")
    parser.add_argument("--split", default="validation", choices=["validation", "test"],
                        help="whose words: those of test must choose nothing (default validation)")
    parser.add_argument("--judges", nargs="+", default=["ppocrv4"], help="ppocrv4, tesseract")
    parser.add_argument("--steps", type=int, default=20, help="of DDIM (default 20)")
    parser.add_argument("--guidance", type=float, default=1.0)
    options = parser.parse_args(arguments)
    model = AnyText2Model.from_pretrained(options.model, pick_device()).eval()
    judges = {name: Judge.from_name(name) for name in options.judges}
    draw = partial(generated, model, steps=options.steps, guidance=options.guidance)
    found = {"model": measure(draw, options.scenes, options.split, judges),
             "true pictures": measure(true_pictures, options.scenes, options.split, judges),
             "scenes": options.scenes, "split": options.split, "steps": options.steps, "guidance": options.guidance}
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
