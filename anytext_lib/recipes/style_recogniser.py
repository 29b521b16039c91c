"""The mini model's style recogniser: PP-OCRv3, taught to tell the fonts of the scenes apart by their font hints.

    python -m anytext_lib.recipes.style_recogniser runs/style

A recogniser is trained to give the same features in every font, and so says little about the font: that is why AnyText2
trains a second one along with the rest. On a CPU this is too slow for a long training (every line passes through it
forward and backward in every step), so here it is trained first, as a classifier, and frozen then, so that its features
can be kept between epochs. Writes OUTPUT/style_recognizer.safetensors and OUTPUT/style.json; an interrupted run goes on
where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from anytext_lib.data.batch import collate
from anytext_lib.data.fonts import fonts_for
from anytext_lib.data.sample import SampleConfig, build_sample
from anytext_lib.files import atomic_path, write_json
from anytext_lib.models.text_embedding import style_crops
from anytext_lib.ocr.network import PPOCRv3Network
from anytext_lib.recipes.training_state import resumable_steps
from anytext_lib.scenes.scene_dataset import SIZE, SceneDataset, scene_record
from anytext_lib.training.module import learning_rate_factor

HINTS = SampleConfig(image_size=SIZE, font_hint_prob=1.0, max_lines=2, position_jitter=False)
WEIGHTS = "style_recognizer.safetensors"
LOUDER = 50.0  # learning rate of the new linear layer over that of the recogniser


@dataclass(frozen=True)
class StyleRecipe:
    """AdamW, a warm-up, then a cosine to zero; ``seed`` of scenes and of the classifier's weights."""

    steps: int = 500
    scenes_a_step: int = 12
    learning_rate: float = 1e-4
    warmup: int = 30
    seed: int = 0


class FontClassifier(nn.Module):
    """A linear layer on the mean of the recogniser's frames: (L, 3, 48, 320) -> (L, fonts)."""

    def __init__(self, fonts: int):
        super().__init__()
        self.recognizer = PPOCRv3Network.from_pretrained().eval()
        self.linear = nn.Linear(64, fonts)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.linear(self.recognizer.features(crops).mean(dim=1))


def scene_fonts() -> list[str]:
    """The fonts that scenes are lettered in."""
    return fonts_for("Latin") + fonts_for("Chinese")


def hints_and_fonts(scenes: SceneDataset, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Style crops (L, 3, 48, 320) of ``count`` scenes from number ``first`` on, and their fonts' numbers (L,)."""
    names, samples, fonts = scene_fonts(), [], []
    for i in range(first, first + count):
        scene = scenes.scene(i)
        samples.append(build_sample(scene.image, scene_record(scene), HINTS, np.random.default_rng([scenes.seed, i])))
        fonts += [names.index(line.font) for line in scene.lines]
    batch = collate(samples)
    return style_crops(batch.font_hints, batch.lines), torch.tensor(fonts)


def train_style(recipe: StyleRecipe, state: Path | None = None, log: Callable[[str], None] = print) -> FontClassifier:
    """Train the recogniser and the classifier on scenes that are drawn anew in every step; goes on from ``state``."""
    torch.manual_seed(recipe.seed)
    model = FontClassifier(len(scene_fonts()))
    model.recognizer.head.requires_grad_(False)
    optimizer = torch.optim.AdamW([
        {"params": [p for p in model.recognizer.parameters() if p.requires_grad], "factor": 1.0},
        {"params": model.linear.parameters(), "factor": LOUDER}], recipe.learning_rate)
    scenes = scenes_of("train", recipe.seed, recipe.steps * recipe.scenes_a_step)
    parts, generator = {"model": model, "optimizer": optimizer}, torch.Generator()
    right: list[float] = []
    for step in resumable_steps(recipe.steps, parts, generator, right, state, log, "right", every=20):
        rate = recipe.learning_rate * learning_rate_factor(step, "cosine", recipe.warmup, recipe.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        crops, fonts = hints_and_fonts(scenes, step * recipe.scenes_a_step, recipe.scenes_a_step)
        scores = model(crops)
        loss = F.cross_entropy(scores, fonts)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        right.append((scores.argmax(1) == fonts).float().mean().item())
    return model


def scenes_of(split: str, seed: int, count: int) -> SceneDataset:
    """The scenes that the mini model is trained on: one or two lines, all fonts and colours, some Chinese."""
    return SceneDataset(HINTS, seed=seed, split=split, epoch_length=count, style="mixed", two_lines=0.4, chinese=0.1,
                        cache=False)


@torch.no_grad()
def accuracy(model: FontClassifier, scenes: SceneDataset, count: int) -> float:
    """Share of the lines of the first ``count`` scenes whose font is told from its hint."""
    right = [model(crops).argmax(1) == fonts for crops, fonts in (
        hints_and_fonts(scenes, i, min(8, count - i)) for i in range(0, count, 8))]
    return torch.cat(right).float().mean().item()


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the weights and for the state of an interrupted run")
    parser.add_argument("--measured", type=int, default=160, help="validation scenes to measure on (default 160)")
    for name, value in asdict(StyleRecipe()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default {value}")
    options = vars(parser.parse_args(arguments))
    output, measured = options.pop("output"), options.pop("measured")
    recipe = StyleRecipe(**options)
    output.mkdir(parents=True, exist_ok=True)
    model = train_style(recipe, output / "state.pt", lambda text: print(text, flush=True))
    with atomic_path(output / WEIGHTS) as new:
        save_file({name: value.contiguous() for name, value in model.recognizer.state_dict().items()}, new)
    found = {"recipe": asdict(recipe), "scenes": measured,
             "right": accuracy(model, scenes_of("validation", recipe.seed + 1, measured), measured)}
    write_json(output / "style.json", found)
    print(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
