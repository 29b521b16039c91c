"""A decoder for latents that are not quite right: a trained auto-encoder's, fine-tuned on noisy latents.

    python -m anytext_lib.recipes.noisy_decoder OUTPUT --autoencoder data_samples/mini2/vae

A sampled latent is off by a little everywhere.  A decoder that has only seen an encoder's latents shows that as
coloured speckle; one that has seen noise takes it for noise.  The encoder stays as it is, and so do all latents: a
model that was trained on them can take the new decoder.  The noise on a picture's latents has a deviation between 0 and
``largest``, in parts of the latents' own.  An interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from anytext_lib.files import write_json
from anytext_lib.models.storage import load_part
from anytext_lib.recipes.autoencoder import (
    VALIDATION,
    WEIGHTS,
    Recipe,
    build_autoencoder,
    drawn_once,
    mixed_scenes,
    picture_loss,
    train_average,
)
from anytext_lib.recipes.reconstruction import measure, sheet_of_pairs
from anytext_lib.scenes.rendering import scene_batch

SIGMAS = (0.1, 0.2, 0.3, 0.4)
"""Deviations of the noise that a decoder is measured with."""


@dataclass(frozen=True)
class NoisyRecipe(Recipe):
    """How the decoder is trained: as an auto-encoder, see ``autoencoder.Recipe``, but with noise.

    Attributes:
        largest: deviation of the noise, in parts of the latents'. ``clean``: share of pictures without noise.
    """

    steps: int = 3000
    batch_size: int = 8
    learning_rate: float = 5e-4
    warmup: int = 50
    largest: float = 0.5
    clean: float = 0.2


OPTIONS = ("steps", "batch_size", "side", "learning_rate", "warmup", "average", "seed", "largest", "clean")
"""What of the recipe the command takes; the rest belongs to the encoder, or to the loss that both share."""


def decoder_loss(model: AutoencoderKL, images: torch.Tensor, recipe: NoisyRecipe,
                 generator: torch.Generator) -> torch.Tensor:
    """``autoencoder.picture_loss`` of pictures (B, 3, H, W) in [-1, 1] that are decoded from noisy latents."""
    with torch.no_grad():
        latents = model.encode(images).latent_dist.mean
        shape = (len(images), 1, 1, 1)
        noisy = torch.rand(shape, generator=generator) >= recipe.clean
        sigma = recipe.largest * torch.rand(shape, generator=generator) * noisy
        noise = torch.randn(latents.shape, generator=generator)
        latents = latents + sigma * latents.std((0, 2, 3), keepdim=True) * noise
    return picture_loss(model.decode(latents).sample - images, recipe)


def train_decoder(model: AutoencoderKL, images: np.ndarray, recipe: NoisyRecipe, state: Path | None = None,
                  log: Callable[[str], None] = print) -> AutoencoderKL:
    """Train the decoder of ``model`` in place.

    Args:
        images: (N, H, W, 3) uint8. ``state``: a file that a run which stops goes on from.

    Returns:
        a copy of the model with averaged weights; its encoder is that of ``model``.
    """
    decoder = nn.ModuleList([model.post_quant_conv, model.decoder])
    model.requires_grad_(False)
    decoder.requires_grad_(True)
    return train_average(model, decoder.parameters(), decoder_loss, images, recipe, state, log)


@torch.no_grad()
def noisy_sheet(before: AutoencoderKL, after: AutoencoderKL, images: torch.Tensor, sigma: float = 0.3) -> np.ndarray:
    """(H, W, 3) uint8: what both decoders make of the same noisy latents, the old one's above the new one's."""
    latents = before.encode(images).latent_dist.mean
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    latents = latents + sigma * latents.std((0, 2, 3), keepdim=True) * noise
    return sheet_of_pairs(*(model.decode(latents).sample.clamp(-1, 1) for model in (before, after)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the auto-encoder, and for what an interrupted run goes "
                        "on from")
    parser.add_argument("--autoencoder", type=Path, required=True, help="the folder vae of a trained model")
    parser.add_argument("--config", default="mini2", help="configuration of the model (default mini2)")
    parser.add_argument("--scenes", type=int, default=3000, help="scenes to train on (default 3000)")
    for name in OPTIONS:
        value = getattr(NoisyRecipe(), name)
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default {value}")
    options = vars(parser.parse_args(arguments))
    output, folder, config, scenes = (options.pop(name) for name in ("output", "autoencoder", "config", "scenes"))
    recipe = NoisyRecipe(**options)

    def log(text: str) -> None:
        print(text, flush=True)

    output.mkdir(parents=True, exist_ok=True)
    images = drawn_once(output / "scenes.npy", scenes, recipe.seed)
    before = build_autoencoder(config).eval()
    load_part(before, folder / WEIGHTS)
    after = train_decoder(copy.deepcopy(before).train(), images, recipe, output / "state.pt", log)
    after.save_config(output)
    save_file({name: value.contiguous() for name, value in after.state_dict().items()}, output / WEIGHTS)
    validation = {seed: mixed_scenes(64, "validation", seed) for seed in VALIDATION}
    write_json(output / "decoder.json", {"recipe": asdict(recipe), **{
        name: {str(seed): measure(model, found, SIGMAS) for seed, found in validation.items()}
        for name, model in (("before", before), ("after", after))}})
    Image.fromarray(noisy_sheet(before, after, scene_batch(validation[VALIDATION[0]][:16])[0])).save(
        output / "sheet.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
