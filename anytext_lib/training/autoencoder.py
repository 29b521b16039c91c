"""The auto-encoder of the mini model: diffusers' AutoencoderKL, factor 4, trained on crops of rendered scenes.

    python -m anytext_lib.training.autoencoder OUTPUT

writes the mini model with this auto-encoder and otherwise random weights, where `anytext fit` begins.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from anytext_lib.data.line_image import to_tensor
from anytext_lib.data.scene_dataset import SIZE
from anytext_lib.data.scene_words import draw_word
from anytext_lib.data.scenes import render_scene
from anytext_lib.models import AnyText2Model, read_config

DEFAULTS = {"steps": 1000, "batch_size": 16, "side": 64, "learning_rate": 3e-3, "kl_weight": 3e-4,
            "scenes": 1500, "seed": 0}
"""The recipe of the shipped weights."""


def build_autoencoder(config: str | Mapping = "mini") -> AutoencoderKL:
    """An untrained auto-encoder of the sizes in a model's configuration."""
    return AutoencoderKL(**read_config(config)["vae"]).to(memory_format=torch.channels_last)


def autoencoder_loss(model: AutoencoderKL, images: torch.Tensor, kl_weight: float,
                     generator: torch.Generator | None = None) -> torch.Tensor:
    """Mean absolute plus mean squared error of the reconstruction, plus ``kl_weight`` times the KL per latent value.

    Args:
        images: (B, 3, H, W) in [-1, 1]; H and W divisible by the factor.
    """
    posterior = model.encode(images).latent_dist
    error = model.decode(posterior.sample(generator)).sample - images
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    return error.abs().mean() + error.square().mean() + kl_weight * kl


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


def train_autoencoder(steps: int = 1000, batch_size: int = 16, side: int = 64, learning_rate: float = 3e-3,
                      kl_weight: float = 3e-4, scenes: int = 1500, seed: int = 0, log=print) -> AutoencoderKL:
    """Train on random crops (``side`` x ``side``) of scenes of the training split, with AdamW and one cycle.

    Returns:
        the model in eval mode with latents of mean 0 and standard deviation 1.
    """
    torch.manual_seed(seed)
    model = build_autoencoder().train()
    start = time.perf_counter()
    images = scene_images(scenes, "train", seed)
    log(f"rendered {scenes} scenes in {time.perf_counter() - start:.0f} s")
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.0, betas=(0.9, 0.99))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps, pct_start=0.1)
    batches = random_crops(images, batch_size, side, torch.Generator().manual_seed(seed))
    for step in range(steps):
        loss = autoencoder_loss(model, next(batches).to(memory_format=torch.channels_last), kl_weight)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        cycle.step()
        if step % 50 == 49:
            log(f"step {step + 1} of {steps}: loss {loss.item():.4f}, {time.perf_counter() - start:.0f} s")
    model.eval()
    mean, std = centre_latents(model, images[:256])
    log(f"latents had means {[round(v, 2) for v in mean]} and deviations {[round(v, 2) for v in std]}")
    return model


def starting_model(autoencoder: AutoencoderKL, config: str | Mapping = "mini", seed: int = 0) -> AnyText2Model:
    """A model with random weights around a trained auto-encoder: where pre-training begins."""
    torch.manual_seed(seed)
    model = AnyText2Model.from_config(config)
    model.vae.load_state_dict(autoencoder.state_dict())
    return model


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the model")
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default,
                            help=f"default {default}")
    options = vars(parser.parse_args(arguments))
    output = options.pop("output")
    autoencoder = train_autoencoder(**options, log=lambda text: print(text, flush=True))
    starting_model(autoencoder, seed=options["seed"]).save_pretrained(output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
