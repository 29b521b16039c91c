"""Training of a small UDiffText on words on a grid, from an auto-encoder and a label encoder that are there already.

    python -m anytext_lib.udifftext.grid_training OUTPUT --autoencoder FOLDER --label-encoder FILE

The whole UNet learns, not only its text cross-attention: there is no base model that could draw letters without it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from anytext_lib.diffusion import add_sigma_noise, denoised, sigma_levels
from anytext_lib.losses import add_noise
from anytext_lib.models.storage import WEIGHTS, load_part
from anytext_lib.udifftext.capture import capture_attention
from anytext_lib.udifftext.grid_words import draw_words, grid_batch, grid_conditions
from anytext_lib.udifftext.label_encoder import LabelEncoder
from anytext_lib.udifftext.model import UDiffTextModel, WordConditions
from anytext_lib.udifftext.objective import UDiffTextObjective, UDiffTextTerms
from anytext_lib.udifftext.sizes import SIZES

Watch = Callable[[int, dict], int | None]
MIN_SIZE = 6
"""Maps of at least 6 x 6 positions are looked at: those of the finer level, 8 x 28, and of the coarser, 4 x 14."""


@dataclass(frozen=True)
class GridData:
    """Latents (N, 4, h, w) of words, and what the model is told of them."""

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
    """The objective at noisy latents; all cross-attentions are looked at."""
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
    """Latents, noise, timesteps and what is told, of a random batch."""
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
                        help="file written by anytext_lib.udifftext.pretraining")
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
