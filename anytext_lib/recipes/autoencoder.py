"""The auto-encoder of the scenes: diffusers' AutoencoderKL, factor 4, trained on crops of rendered scenes.

    python -m anytext_lib.recipes.autoencoder OUTPUT --ladder

compares sizes, norm groups and learning rates on equal terms (OUTPUT/ladder.json), then trains an auto-encoder of the
sizes in a model's configuration, and writes a model with it and otherwise random weights, where `anytext fit` begins,
and its measurements (OUTPUT/autoencoder.json).  An interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from anytext_lib.data.batch import to_tensor
from anytext_lib.files import write_json
from anytext_lib.models import AnyText2Model, read_config
from anytext_lib.models.storage import load_part
from anytext_lib.recipes.linear_start import linear_network, trained_parameters
from anytext_lib.recipes.reconstruction import decoding_cost, measure, reading, sheet
from anytext_lib.recipes.training_state import lerp_average, resumable_steps
from anytext_lib.scenes.rendering import Scene
from anytext_lib.scenes.scene_dataset import SceneDataset
from anytext_lib.training.module import learning_rate_factor

VALIDATION = (7, 8)  # seeds of the scenes that are measured
LADDER_STEPS = 80
WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Recipe:
    """How an auto-encoder is trained.

    Attributes:
        steps, batch_size, side: optimiser steps; crops a step; width of a crop of 64 pixels' height.
        learning_rate: the highest, after ``warmup`` steps; it falls to zero along a cosine.
        kl_weight, square_weight, colour_weight: see ``autoencoder_loss``.
        average: decay of the average of the weights, which is what remains.
        linear_steps, linear_rate: of training as a linear network first, see ``linear_network``.
        seed: of weights, crops and posterior samples.
    """

    steps: int = 6000
    batch_size: int = 5
    side: int = 96
    learning_rate: float = 1e-3
    warmup: int = 20
    kl_weight: float = 1e-4
    square_weight: float = 5.0
    colour_weight: float = 1.0
    average: float = 0.998
    linear_steps: int = 200
    linear_rate: float = 3e-3
    seed: int = 0


BASE = {"latent_channels": 12, "norm_num_groups": 1, "block_out_channels": [16, 32, 64]}
LADDER: dict[str, tuple[dict, dict]] = {
    "base": ({}, {}), "8 channels": ({"latent_channels": 8}, {}), "16 channels": ({"latent_channels": 16}, {}),
    "8 groups": ({"norm_num_groups": 8}, {}), "rate 2e-3": ({}, {"learning_rate": 2e-3}),
    "wide": ({"block_out_channels": [32, 48, 64]}, {}), "4 channels": ({"latent_channels": 4}, {}),
    "random start": ({}, {"linear_steps": 0}), "16 groups": ({"norm_num_groups": 16}, {}),
    "rate 5e-4": ({}, {"learning_rate": 5e-4}), "8 groups, wide": (
        {"norm_num_groups": 8, "block_out_channels": [32, 48, 64]}, {}),
}
"""What differs from BASE and ``Recipe`` in each arm: sizes, training."""


def build_autoencoder(config: str | Mapping = "mini2", **sizes) -> AutoencoderKL:
    """An untrained auto-encoder of the sizes in a model's configuration; ``sizes`` replace some of them."""
    return AutoencoderKL(**read_config(config)["vae"] | sizes).to(memory_format=torch.channels_last)


def autoencoder_loss(model: AutoencoderKL, images: torch.Tensor, recipe: Recipe,
                     generator: torch.Generator | None = None) -> torch.Tensor:
    """Mean absolute error of the reconstruction, plus ``square_weight`` times its mean square, plus ``colour_weight``
    times the mean absolute error of the colours of blocks of 8 x 8 pixels, plus ``kl_weight`` times the KL per value.

    Args:
        images: (B, 3, H, W) in [-1, 1]; H and W divisible by 8.
    """
    posterior = model.encode(images).latent_dist
    error = model.decode(posterior.sample(generator)).sample - images
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    return picture_loss(error, recipe) + recipe.kl_weight * kl


def picture_loss(error: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """The first three parts of ``autoencoder_loss``, of the error (B, 3, H, W) of pictures."""
    colour = F.avg_pool2d(error, 8).abs().mean()
    return error.abs().mean() + recipe.square_weight * error.square().mean() + recipe.colour_weight * colour


def mixed_scenes(count: int, split: str, seed: int) -> list[Scene]:
    """Scenes of one or two lines, 64 x 192 pixels, in twelve fonts and any colours, a tenth of the words Chinese."""
    data = SceneDataset(seed=seed, split=split, epoch_length=count, style="mixed", two_lines=0.4,
                        chinese=0.1, cache=False)
    return [data.scene(i) for i in range(count)]


def random_crops(images: np.ndarray, recipe: Recipe, generator: torch.Generator) -> torch.Tensor:
    """(batch_size, 3, H, side) in [-1, 1]: random crops of ``images`` (N, H, W, 3) uint8."""
    count, _, width = images.shape[:3]
    which = torch.randint(count, (recipe.batch_size,), generator=generator).tolist()
    left = torch.randint(width - recipe.side + 1, (recipe.batch_size,), generator=generator).tolist()
    return to_tensor([images[i, :, x : x + recipe.side] for i, x in zip(which, left, strict=True)]).to(
        memory_format=torch.channels_last)


def train_autoencoder(model: AutoencoderKL, images: np.ndarray, recipe: Recipe, state: Path | None = None,
                      log: Callable[[str], None] = print) -> AutoencoderKL:
    """Train with AdamW: a warm-up, then a cosine to zero.

    Args:
        model: where to begin. ``images``: (N, H, W, 3) uint8.
        state: a file that a run which stops goes on from, written every two minutes and at the end.

    Returns:
        the model with averaged weights, in eval mode.
    """
    return train_average(model, trained_parameters(model, linear_start=recipe.linear_steps > 0), autoencoder_loss,
                         images, recipe, state, log)


def train_average(model: AutoencoderKL, parameters: Iterable[nn.Parameter], loss_of: Callable[..., torch.Tensor],
                  images: np.ndarray, recipe: Recipe, state: Path | None = None,
                  log: Callable[[str], None] = print) -> AutoencoderKL:
    """As ``train_autoencoder``, but for these ``parameters`` alone and the loss ``loss_of(model, crops, recipe,
    generator)``."""
    parameters = list(parameters)
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(parameters, recipe.learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(recipe.seed)
    parts = {"model": model, "average": average, "optimizer": optimizer}
    losses: list[float] = []
    for step in resumable_steps(recipe.steps, parts, generator, losses, state, log):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * learning_rate_factor(
            step, "cosine", recipe.warmup, recipe.steps)
        loss = loss_of(model, random_crops(images, recipe, generator), recipe, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        lerp_average(average, model, min(recipe.average, (1 + step) / (10 + step)))
        losses.append(loss.item())
    return average


@torch.no_grad()
def centre_latents(model: AutoencoderKL, images: torch.Tensor) -> tuple[list[float], list[float]]:
    """Give each latent channel of ``images`` mean 0 and standard deviation 1, without changing a reconstruction.

    The shift and the scale go into the two 1 x 1 convolutions around the latents.  It matters: after t = 999 a little
    of the picture's mean is left, so that a sampler which starts from pure noise asks for latents of mean 0.

    Returns:
        means and standard deviations as they were.
    """
    latents = torch.cat([model.encode(part).latent_dist.mean for part in images.split(16)])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    into, out, n = model.quant_conv, model.post_quant_conv, len(mean)
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight *= std[None, :, None, None]
    into.weight[:n] /= std[:, None, None, None]
    into.bias[:n] = (into.bias[:n] - mean) / std
    into.bias[n:] -= 2 * std.log()  # the log variances
    return mean.tolist(), std.tolist()


def run_ladder(output: Path, images: np.ndarray, scenes: Sequence[Scene], recipe: Recipe, arms: Mapping = LADDER,
               log: Callable[[str], None] = print) -> list[dict]:
    """Train and measure every arm for as many steps on the same crops; those in ``output``/ladder.json are not
    repeated, and their weights are kept in ``output``/arms."""
    table = output / "ladder.json"
    rows = json.loads(table.read_text()) if table.exists() else []
    (output / "arms").mkdir(exist_ok=True)
    for name, (sizes, training) in arms.items():
        if any(row["arm"] == name for row in rows):
            continue
        log(f"arm {name}")
        arm = replace(recipe, **training)
        model = start_model(arm, BASE | sizes, images, log)
        began = time.process_time()
        model = train_autoencoder(model, images, arm, log=log)
        seconds = (time.process_time() - began) / arm.steps
        save_file(_half(model), output / "arms" / f"{name}.safetensors")
        rows.append({"arm": name, **BASE, **sizes, **training, "steps": arm.steps, "seconds_per_step": seconds,
                     "parameters": sum(p.numel() for p in model.parameters()), "gflop": decoding_cost(model),
                     **measure(model, scenes)})
        log(f"arm {name}: {rows[-1]['psnr']:.2f} dB")
        write_json(table, rows)
    return rows


def start_model(recipe: Recipe, sizes: Mapping, images: np.ndarray, log: Callable[[str], None] = print,
                config: str | Mapping = "mini2") -> AutoencoderKL:
    """The auto-encoder where training begins: random, or trained as a linear network (a fifth of the cost)."""
    torch.manual_seed(recipe.seed)
    model = build_autoencoder(config, **sizes)
    if recipe.linear_steps:
        n = model.config["latent_channels"]
        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.weight.mul_(math.sqrt(3))  # keeps the variance without activations
            model.quant_conv.weight[n:], model.quant_conv.bias[n:] = 0, -6.0  # a narrow posterior
        short = replace(recipe, steps=recipe.linear_steps, learning_rate=recipe.linear_rate, average=0.98)
        with linear_network(model):
            model.load_state_dict(train_autoencoder(model, images, short, log=log).state_dict())
            model(to_tensor(list(images[:16])))
    return model.train()


def train_model(output: Path, images: np.ndarray, recipe: Recipe, config: str | Mapping = "mini2",
                start: Path | None = None, log: Callable[[str], None] = print) -> AutoencoderKL:
    """The auto-encoder of a model's configuration, its latents centred; goes on from ``output``/state.pt.

    Args:
        start: the folder vae of a model to begin with, in place of a linear network.
    """
    state = output / "state.pt"
    if state.exists() or start:
        model = build_autoencoder(config).train()
        if start:
            load_part(model, start / WEIGHTS)
    else:
        model = start_model(recipe, {}, images, log, config)
    model = train_autoencoder(model, images, recipe, state, log)
    centre_latents(model, to_tensor(list(images[:256])))
    return model


def starting_model(autoencoder: AutoencoderKL, config: str | Mapping = "mini2", seed: int = 0) -> AnyText2Model:
    """A model with random weights around a trained auto-encoder: where pre-training begins.

    Layers that start at zero when a trained UNet has to be protected (WriteNet's joining and output convolutions, the
    projections of the text embedding) start like all others: here is nothing to protect, and zeros delay them.
    """
    torch.manual_seed(seed)
    model = AnyText2Model.from_config(config)
    model.vae.load_state_dict(autoencoder.state_dict())
    reset_zero_layers(model.writenet, model.text_embedding)
    return model


def reset_zero_layers(*parts: nn.Module) -> None:
    """Give the convolutions and linear layers of ``parts`` whose weights are all zero random ones, as all others."""
    for layer in (layer for part in parts for layer in part.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear) and not layer.weight.any():
            layer.reset_parameters()


def drawn_once(path: Path, count: int, seed: int) -> np.ndarray:
    """Training scenes (N, 64, 192, 3) uint8, kept in the file ``path``."""
    if not path.exists():
        np.save(path, np.stack([scene.image for scene in mixed_scenes(count, "train", seed)]))
    return np.load(path, mmap_mode="r")


def _half(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.half().contiguous() for name, value in model.state_dict().items()}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the model, and for what an interrupted run goes on from")
    parser.add_argument("--config", default="mini2", help="configuration of the model (default mini2)")
    parser.add_argument("--ladder", action="store_true", help="compare the arms first")
    parser.add_argument("--start", type=Path, help="the folder vae of a trained model to go on from")
    parser.add_argument("--scenes", type=int, default=3000, help="scenes to train on (default 3000)")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help=f"default {Recipe.steps}")
    parser.add_argument("--seed", type=int, default=0, help="of weights, scenes and crops (default 0)")
    options = parser.parse_args(arguments)

    def log(text: str) -> None:
        print(text, flush=True)

    options.output.mkdir(parents=True, exist_ok=True)
    images = drawn_once(options.output / "scenes.npy", options.scenes, options.seed)
    validation = [mixed_scenes(64, "validation", seed) for seed in VALIDATION]
    recipe = Recipe(steps=options.steps, seed=options.seed)
    if options.ladder:
        run_ladder(options.output, images, validation[0], replace(recipe, steps=LADDER_STEPS), log=log)
    model = train_model(options.output, images, recipe, options.config, options.start, log)
    starting_model(model, options.config, options.seed).save_pretrained(options.output)
    write_json(options.output / "autoencoder.json", {
        "recipe": asdict(recipe), "parameters": sum(p.numel() for p in model.parameters()),
        "gflop": decoding_cost(model),
        "scenes": {str(seed): measure(model, scenes) | {"reading": reading(model, scenes)}
                   for seed, scenes in zip(VALIDATION, validation, strict=True)}})
    Image.fromarray(sheet(model, validation[0][:24])).save(options.output / "sheet.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
