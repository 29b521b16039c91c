"""A small UDiffText on words on a grid, from an auto-encoder and a label encoder that are there already.

    python -m anytext_lib.recipes.udifftext_grid OUTPUT --autoencoder FOLDER --label-encoder FILE

The whole UNet learns, not only its text cross-attention: there is no base model that could draw letters without it.

Words on a grid are the simplest pictures in which it can learn to spell, within minutes on one core.  Three to five
capitals of one font with equal widths stand dark on a flat light ground, each letter in a cell of 20 x 28 pixels whose
corner falls on the grid of the latents (4 pixels).  A letter therefore looks the same to the network wherever it
stands: what remains to be learnt is which letter belongs into which cell.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from anytext_lib.data.batch import AnyTextBatch, to_tensor
from anytext_lib.data.fonts import pil_font
from anytext_lib.data.lines import TextLines
from anytext_lib.diffusion import add_sigma_noise, denoised, sigma_levels
from anytext_lib.losses import add_noise
from anytext_lib.models.storage import WEIGHTS, load_part
from anytext_lib.scenes.words import split_of, words_of
from anytext_lib.udifftext.attention import capture_attention
from anytext_lib.udifftext.label_encoder import LabelEncoder
from anytext_lib.udifftext.model import SIZES, UDiffTextModel, WordConditions
from anytext_lib.udifftext.word_losses import UDiffTextObjective, UDiffTextTerms

# words

SIZE = (32, 112)
CELL = (28, 20)
STEP = 4
"""Height and width of the pictures and of a letter's cell, and the grid of their corners, in pixels."""
FONT, POINTS, BASELINE, INK = "JetBrainsMono", 33, 26, 30
LETTERS = (3, 5)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class GridWord:
    """A word, the corner (x, y) of its first cell in pixels, and the colour of the ground (RGB, 0..255)."""

    text: str
    corner: tuple[int, int]
    ground: tuple[int, int, int]


def real_words(split: str) -> list[str]:
    """The course's words of three to five letters of a split ("train", "validation", "test"), in capitals."""
    return [word.upper() for word in words_of(split) if LETTERS[0] <= len(word) <= LETTERS[1]]


def draw_words(count: int, split: str, seed: int, invented: float = 0.5) -> list[GridWord]:
    """Words with places and colours; the same for the same arguments.

    Args:
        invented: share of random letters instead of real words; they fall into the split by their hash, so that no
            word of "train" is held out.  With 0, every real word is drawn before one comes again.
    """
    rng, words = np.random.default_rng([seed, 41]), []
    known = real_words(split)
    order = [known[i] for _ in range(count // len(known) + 1) for i in rng.permutation(len(known))]
    for i in range(count):
        text = _invent(rng, split) if rng.random() < invented else order[i]
        room = (SIZE[1] - CELL[1] * len(text)) // STEP, (SIZE[0] - CELL[0]) // STEP
        corner = tuple(int(STEP * rng.integers(free + 1)) for free in room)
        words.append(GridWord(text, corner, tuple(int(c) for c in rng.integers(170, 256, 3))))
    return words


def _invent(rng: np.random.Generator, split: str) -> str:
    while True:
        text = "".join(ALPHABET[i] for i in rng.integers(len(ALPHABET), size=rng.integers(LETTERS[0], LETTERS[1] + 1)))
        if split_of(text) == split:
            return text


@functools.cache
def _letter(character: str) -> np.ndarray:
    """Ink (28, 20) in [0, 1] of a character in the middle of its cell."""
    from PIL import Image, ImageDraw

    cell, font = Image.new("L", CELL[::-1]), pil_font(FONT, POINTS)
    ImageDraw.Draw(cell).text((CELL[1] / 2, BASELINE), character, fill=255, font=font, anchor="ms")
    return np.asarray(cell, np.float32) / 255


def render(word: GridWord) -> np.ndarray:
    """The picture of a word, (32, 112, 3) uint8, RGB."""
    picture = np.tile(np.asarray(word.ground, np.float32), (*SIZE, 1))
    x, y = word.corner
    for j, character in enumerate(word.text):
        cell = picture[y : y + CELL[0], x + j * CELL[1] : x + (j + 1) * CELL[1]]
        cell += (INK - cell) * _letter(character)[..., None]
    return np.rint(picture).astype(np.uint8)


def grid_batch(words: Sequence[GridWord]) -> AnyTextBatch:
    """The words as a batch for ``UDiffTextModel.conditions`` and ``write_words``; AnyText2's own fields are empty."""
    count = len(words)
    quads, positions = torch.zeros(count, 4, 2), torch.zeros(count, 1, *SIZE)
    for i, word in enumerate(words):
        (x, y), width = word.corner, CELL[1] * len(word.text)
        positions[i, :, y : y + CELL[0], x : x + width] = 1
        quads[i] = torch.tensor([[x, y], [x + width, y], [x + width, y + CELL[0]], [x, y + CELL[0]]])
    images = to_tensor([render(word) for word in words])
    lines = TextLines(torch.arange(count), quads, [word.text for word in words], ["Latin"] * count)
    none = torch.zeros(count, 1, *SIZE)
    return AnyTextBatch(images, torch.where(positions > 0, -1.0, images), [""] * count, [""] * count, lines,
                        torch.zeros(count, 1, 1, 1), none, positions, torch.full((count, 3), 500.0), none, none,
                        torch.ones(count, dtype=torch.bool), [word.text for word in words], torch.arange(count))


def cell_segments(words: Sequence[GridWord], max_length: int) -> torch.Tensor:
    """Region (N, max_length, 32, 112) in {0, 1} of each character: its cell."""
    segments = torch.zeros(len(words), max_length, *SIZE)
    for i, word in enumerate(words):
        x, y = word.corner
        for j in range(len(word.text)):
            segments[i, j, y : y + CELL[0], x + j * CELL[1] : x + (j + 1) * CELL[1]] = 1
    return segments


def grid_conditions(model: UDiffTextModel, words: Sequence[GridWord],
                    labels: list[str] | None = None) -> WordConditions:
    """Build the conditions of words, with the cells as the characters' regions (``labels``: other letters)."""
    told = model.conditions(grid_batch(words), labels)
    return replace(told, segments=cell_segments(words, told.valid.shape[1]).to(told.mask))


# training

Watch = Callable[[int, dict], int | None]
MIN_SIZE = 6
"""Maps of at least 6 x 6 positions are looked at: those of the finer level, 8 x 28, and of the coarser, 4 x 14."""


@dataclass(frozen=True)
class GridData:
    """Latents (N, 4, h, w) of words, with their conditions."""

    latents: torch.Tensor
    told: WordConditions

    def __len__(self) -> int:
        return len(self.latents)

    def rows(self, which: torch.Tensor) -> tuple[torch.Tensor, WordConditions]:
        """Some of the words, by their places (B,)."""
        t = self.told
        return self.latents[which], WordConditions(t.context[which], t.place[which], t.mask[which],
                                                   t.segments[which].float(), t.valid[which])


@torch.no_grad()
def look(model: UDiffTextModel, count: int, split: str, seed: int, invented: float = 0.5,
         part: int = 64) -> GridData:
    """Draw words and look at them once."""
    words, found = draw_words(count, split, seed, invented), []
    for start in range(0, count, part):
        some = words[start : start + part]
        found.append((model.encode(grid_batch(some).images), grid_conditions(model, some)))
    latents = torch.cat([row[0] for row in found])
    joined = {name: torch.cat([getattr(row[1], name) for row in found])
              for name in ("context", "place", "mask", "valid")}
    segments = torch.cat([row[1].segments.bool() for row in found])
    return GridData(latents, WordConditions(segments=segments, **joined))


def grid_model(autoencoder: str | Path, label_encoder: str | Path, seed: int = 0) -> UDiffTextModel:
    """A model with random UNet: two levels, text cross-attention on both, 2.3 M parameters."""
    torch.manual_seed(seed)
    unet = {**SIZES["mini"]["unet"], "block_out_channels": [64, 80], "down_block_types": ["CrossAttnDownBlock2D"] * 2,
            "up_block_types": ["CrossAttnUpBlock2D"] * 2}
    model = UDiffTextModel({**SIZES["mini"], "unet": unet}, LabelEncoder.load(label_encoder))
    load_part(model.vae, Path(autoencoder) / "vae" / WEIGHTS["vae"])
    return model


def grid_terms(model: UDiffTextModel, objective: UDiffTextObjective, latents: torch.Tensor, noise: torch.Tensor,
               timesteps: torch.Tensor, told: WordConditions) -> UDiffTextTerms:
    """Compute the objective at noisy latents, over all cross-attentions."""
    abar = model.alphas_cumprod[timesteps]
    sigma = sigma_levels(model.alphas_cumprod)[timesteps]
    with capture_attention(model.unet) as maps:
        eps = model(add_noise(latents, noise, abar), timesteps, told.context, told.place)
    estimate = denoised(add_sigma_noise(latents, noise, sigma), eps, sigma)
    return objective(estimate, latents, sigma, maps.layers(), told.segments, told.valid)


def fit(model: UDiffTextModel, data: GridData, steps: int, batch_size: int = 32, learning_rate: float = 1e-3,
        warmup: int = 50, decay: int = 300, local_weight: float = 0.1, label_dropout: float = 0.1, ema: float = 0.995,
        only_text_attention: bool = False, seed: int = 0, watch: Watch | None = None) -> dict[str, torch.Tensor]:
    """Train the UNet by AdamW: warm-up, constant rate, then linearly to zero in the last ``decay`` steps.

    Args:
        only_text_attention: leave the rest of the UNet alone, as published.
        watch: told each step's number and terms; an integer that it returns is the new number of steps.

    Returns:
        the averaged weights of what was trained, by name.
    """
    trained = [p for pairs in model.train_only_text_attention(not only_text_attention).values() for p in pairs]
    average, step = {name: p.detach().clone() for name, p in trained}, 0
    optimizer = torch.optim.AdamW([p for _, p in trained], learning_rate)
    objective = UDiffTextObjective(local_weight, min_size=MIN_SIZE)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    while step < steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1, (step + 1) / warmup, (steps - step) / decay)
        terms = grid_terms(model, objective, *draw_step(data, batch_size, label_dropout, generator))
        optimizer.zero_grad()
        terms.loss.backward()
        torch.nn.utils.clip_grad_norm_([p for _, p in trained], 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            for name, p in trained:
                average[name].lerp_(p, 1 - min(ema, (1 + step) / (10 + step)))
        if watch is not None:
            steps = watch(step, {**terms.log("t"), "average": average}) or steps
    model.eval()
    return average


def draw_step(data: GridData, batch_size: int, label_dropout: float,
              generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, WordConditions]:
    """Draw latents, noise, timesteps and conditions of a random batch."""
    latents, told = data.rows(torch.randint(len(data), (batch_size,), generator=generator))
    told = told.without_labels(torch.rand(batch_size, generator=generator) < label_dropout)
    noise = torch.randn(latents.shape, generator=generator)
    return latents, noise, torch.randint(1000, (batch_size,), generator=generator), told


def take(model: UDiffTextModel, weights: dict[str, torch.Tensor]) -> UDiffTextModel:
    """The model with other weights of its UNet, such as averaged ones."""
    model.load_state_dict(weights, strict=False)
    return model.eval()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the model, stored in half precision")
    parser.add_argument("--autoencoder", type=Path, required=True, help="folder of a model with a trained auto-encoder")
    parser.add_argument("--label-encoder", type=Path, required=True,
                        help="file written by anytext_lib.recipes.udifftext_label_encoder")
    parser.add_argument("--words", type=int, default=3072, help="pictures to learn from, default 3072")
    parser.add_argument("--steps", type=int, default=1500, help="of 32 pictures, default 1500")
    parser.add_argument("--decay", type=int, default=300, help="last steps, of a falling rate, default 300")
    parser.add_argument("--local-weight", type=float, default=0.1, help="of L_loc, default 0.1")
    options = parser.parse_args(arguments)

    def tell(step: int, terms: dict) -> None:
        if step % 50 == 0:
            print(f"step {step}: eps {terms['t/diff']:.3f}, L_loc {terms['t/local']:+.3f}", flush=True)

    model = grid_model(options.autoencoder, options.label_encoder)
    data = look(model, options.words, "train", seed=0, invented=0.6)
    take(model, fit(model, data, options.steps, decay=options.decay, local_weight=options.local_weight, watch=tell))
    model.half().save_pretrained(options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
