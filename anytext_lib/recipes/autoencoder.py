"""The auto-encoder of the mini model: diffusers' AutoencoderKL, factor 4, trained on crops of rendered scenes.

    python -m anytext_lib.recipes.autoencoder OUTPUT

writes the mini model with this auto-encoder and otherwise random weights, where `anytext fit` begins.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn

from anytext_lib.data.batch import to_tensor
from anytext_lib.models import AnyText2Model, read_config
from anytext_lib.recipes.loop import fit
from anytext_lib.scenes.rendering import render_scene
from anytext_lib.scenes.scene_dataset import SIZE
from anytext_lib.scenes.words import draw_word

PHASES = (
    {"steps": 1000, "learning_rate": 3e-3, "kl_weight": 3e-4, "colour_weight": 0.0, "balanced": False},
    {"steps": 400, "learning_rate": 1.5e-3, "kl_weight": 1e-5, "colour_weight": 4.0, "balanced": False},
    {"steps": 500, "learning_rate": 2e-3, "kl_weight": 1e-5, "colour_weight": 4.0, "balanced": False},
    {"steps": 300, "learning_rate": 2e-3, "kl_weight": 1e-5, "colour_weight": 3.0, "balanced": True},
    {"steps": 200, "learning_rate": 1e-3, "kl_weight": 1e-5, "colour_weight": 0.5, "balanced": True},
)
"""The recipe of the shipped weights: strokes, then colours.  After the first phase pictures are sharp and have hardly
any colour; the two unbalanced phases bring yellow against blue, and only the balanced ones red against green."""


def build_autoencoder(config: str | Mapping = "mini") -> AutoencoderKL:
    """An untrained auto-encoder of the sizes in a model's configuration."""
    return AutoencoderKL(**read_config(config)["vae"]).to(memory_format=torch.channels_last)


def autoencoder_loss(model: AutoencoderKL, images: torch.Tensor, kl_weight: float, colour_weight: float = 0.0,
                     axes: torch.Tensor | None = None, generator: torch.Generator | None = None) -> torch.Tensor:
    """Mean absolute plus mean squared error of the reconstruction, plus ``kl_weight`` times the KL per latent value,
    plus ``colour_weight`` times the mean absolute error of the colours of blocks of 8 x 8 pixels.

    Args:
        images: (B, 3, H, W) in [-1, 1]; H and W divisible by 8.
        axes: (3, 3), its columns the axes on which colours are compared, see ``colour_axes``; None for RGB.
    """
    posterior = model.encode(images).latent_dist
    error = model.decode(posterior.sample(generator)).sample - images
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    blocks = F.avg_pool2d(error, 8)
    colour = (blocks if axes is None else torch.einsum("bchw,ck->bkhw", blocks, axes)).abs().mean()
    return error.abs().mean() + error.square().mean() + kl_weight * kl + colour_weight * colour


def scene_images(count: int, split: str, seed: int, effects: float = 0.5) -> torch.Tensor:
    """Rendered scenes of one word (count, 3, 64, 192) in [-1, 1]; ``effects`` is the share that has tilt and noise."""
    images = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        word = draw_word(rng, split, invented=0.5 if split == "train" else 0.0)
        images.append(render_scene(int(rng.integers(2**40)), SIZE, texts=[word], invalid=0.0,
                                   effects=bool(rng.random() < effects)).image)
    return to_tensor(images)


def random_crops(images: torch.Tensor, batch_size: int, side: int,
                 generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless batches (batch_size, 3, side, side) of random crops."""
    height, width = images.shape[2:]

    def draw(top: int) -> list[int]:
        return torch.randint(top, (batch_size,), generator=generator).tolist()

    while True:
        places = zip(draw(len(images)), draw(height - side + 1), draw(width - side + 1), strict=True)
        yield torch.stack([images[i, :, y : y + side, x : x + side] for i, y, x in places])


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


def colour_axes(images: torch.Tensor) -> torch.Tensor:
    """Principal axes of the colours of ``images``, as columns scaled until each varies as much as brightness does.

    Brightness varies four times as much as the other two, and a loss in RGB leaves them for last.
    """
    colours = images.permute(0, 2, 3, 1).reshape(-1, 3)
    _, size, axes = torch.linalg.svd(colours - colours.mean(0), full_matrices=False)
    return axes.T * (size[0] / size)


@torch.no_grad()
def wake_channels(model: AutoencoderKL, images: torch.Tensor, noise: float = 0.08) -> None:
    """Lower the posterior's deviation to ``noise`` times that of the channel where it is higher: a channel that noise
    has drowned is used again."""
    posterior = model.encode(images).latent_dist
    wanted = 2 * (noise * posterior.mean.std((0, 2, 3))).log()
    bias = model.quant_conv.bias[len(wanted):]
    bias += (wanted - posterior.logvar.mean((0, 2, 3))).clamp(max=0)


def train_phase(model: AutoencoderKL, images: torch.Tensor, steps: int, learning_rate: float, kl_weight: float,
                colour_weight: float, balanced: bool, batch_size: int = 16, side: int = 64, seed: int = 0,
                log=print) -> None:
    """Train on random crops (``side`` x ``side``) of ``images`` with AdamW and one cycle of the learning rate.

    Args:
        balanced: compare colours on ``colour_axes`` and not in RGB.
    """
    start, model = time.perf_counter(), model.train()
    axes = colour_axes(images[:256]) if balanced else None
    batches = random_crops(images, batch_size, side, torch.Generator().manual_seed(seed))

    def loss_of() -> torch.Tensor:
        crops = next(batches).to(memory_format=torch.channels_last)
        return autoencoder_loss(model, crops, kl_weight, colour_weight, axes)

    for step, loss in fit(model.parameters(), loss_of, steps, learning_rate, weight_decay=0.0, betas=(0.9, 0.99)):
        if step % 50 == 0 or step == steps:
            log(f"step {step} of {steps}: loss {loss.item():.4f}, {time.perf_counter() - start:.0f} s")
    model.eval()


def train_autoencoder(scenes: int = 1500, seed: int = 0, phases: Sequence[Mapping] = PHASES, log=print,
                      **options) -> AutoencoderKL:
    """Train on scenes of the training split, a phase after the other; ``options``: see ``train_phase``.

    Returns:
        the model in eval mode with latents of mean 0 and standard deviation 1.
    """
    torch.manual_seed(seed)
    model, images = build_autoencoder(), scene_images(scenes, "train", seed)
    for number, phase in enumerate(phases):
        torch.manual_seed(seed + number)
        if number:
            wake_channels(model, images[:128])
        train_phase(model, images, **phase, seed=seed + number, log=log, **options)
    mean, std = centre_latents(model, images[:256])
    log(f"latents had means {[round(v, 2) for v in mean]} and deviations {[round(v, 2) for v in std]}")
    return model


def starting_model(autoencoder: AutoencoderKL, config: str | Mapping = "mini", seed: int = 0) -> AnyText2Model:
    """A model with random weights around a trained auto-encoder: where pre-training begins.

    Layers that start at zero when a trained UNet has to be protected (WriteNet's joining and output convolutions, the
    projections of the text embedding) start like all others: here is nothing to protect, and zeros delay them.
    """
    torch.manual_seed(seed)
    model = AnyText2Model.from_config(config)
    model.vae.load_state_dict(autoencoder.state_dict())
    for part in (model.writenet, model.text_embedding):
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear) and not layer.weight.any():
                layer.reset_parameters()
    return model


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the model")
    parser.add_argument("--scenes", type=int, default=1500, help="scenes to train on (default 1500)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, scenes and crops (default 0)")
    options = parser.parse_args(arguments)
    autoencoder = train_autoencoder(options.scenes, options.seed, log=lambda text: print(text, flush=True))
    starting_model(autoencoder, seed=options.seed).save_pretrained(options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
