"""How well an auto-encoder keeps scenes: decibels, colours, what judges read, robustness to noise, cost of decoding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from anytext_lib.data.batch import to_uint8
from anytext_lib.evaluation.score import score_texts
from anytext_lib.ocr import Judge
from anytext_lib.ocr.crops import crop_lines
from anytext_lib.scenes.rendering import Scene, scene_batch


@torch.no_grad()
def measure(model: AutoencoderKL, scenes: Sequence[Scene], sigmas: Sequence[float] = (0.05, 0.1, 0.2)) -> dict:
    """What the auto-encoder does to scenes of one size.

    Returns:
        psnr: decibels of a range of 0..255, the mean of the scenes; psnr_pooled: of the mean squared error of all.
        l1: mean absolute error of a range of 2. block_colours: of the means of blocks of 8 x 8 pixels, mean absolute
        error in grey levels of R, G and B. posterior_std: of the latents, whose own deviation is 1.
        psnr_noise: psnr with noise of these deviations, in parts of the latents' deviation, on the latents.
        neighbours: correlation of horizontally neighbouring latents, by channel.
    """
    images = scene_batch(scenes)[0]
    posteriors = [model.encode(part).latent_dist for part in images.split(16)]
    latents = torch.cat([p.mean for p in posteriors])
    mean, std = latents.mean((0, 2, 3), keepdim=True), latents.std((0, 2, 3), keepdim=True)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    error = _decode(model, latents) - images
    normal = (latents - mean) / std
    pairs = (normal[..., 1:] * normal[..., :-1]).mean((0, 2, 3))
    squares = error.square().mean((1, 2, 3))
    return {"psnr": _psnr(squares).mean().item(), "psnr_pooled": _psnr(squares.mean()).item(),
            "psnr_least": _psnr(squares.max()).item(), "l1": error.abs().mean().item(),
            "block_colours": (F.avg_pool2d(error, 8).abs().mean((0, 2, 3)) * 127.5).tolist(),
            "posterior_std": (torch.cat([p.std for p in posteriors]) / std).mean((0, 2, 3)).tolist(),
            "psnr_noise": {f"{s:g}": _psnr((_decode(model, latents + s * std * noise) - images).square()
                                           .mean((1, 2, 3))).mean().item() for s in sigmas},
            "neighbours": pairs.tolist()}


def _decode(model: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    return torch.cat([model.decode(part).sample for part in latents.split(16)]).clamp(-1, 1)


def _psnr(square: torch.Tensor) -> torch.Tensor:
    return 10 * torch.log10(4 / square)


@torch.no_grad()
def reading(model: AutoencoderKL, scenes: Sequence[Scene]) -> dict:
    """Sen.Acc and NED of every judge that is installed, on the scenes and on their reconstructions."""
    images, lines, _ = scene_batch(scenes)
    shown = {"original": images, "reconstruction": reconstruct(model, images)}
    return {name: {kind: dict(zip(("sen_acc", "ned"), score_texts(Judge.from_name(name).read(
        crop_lines(pictures, lines)), lines.texts)[:2], strict=True)) for kind, pictures in shown.items()}
        for name in Judge.available()}


@torch.no_grad()
def reconstruct(model: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] encoded and decoded, without the posterior's noise."""
    return torch.cat([_decode(model, model.encode(part).latent_dist.mean) for part in images.split(16)])


def decoding_cost(model: AutoencoderKL, size: tuple[int, int] = (64, 192)) -> dict:
    """GFLOP (two for a multiplication and addition) of decoding one picture, and with the gradient of the latents."""
    from torch.utils.flop_counter import FlopCounterMode

    latents = torch.zeros(1, model.config["latent_channels"], size[0] // 4, size[1] // 4, requires_grad=True)
    with FlopCounterMode(display=False) as forward:
        picture = model.decode(latents).sample
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(picture.sum(), latents)
    return {"decode": forward.get_total_flops() / 1e9,
            "with_gradient": (forward.get_total_flops() + backward.get_total_flops()) / 1e9}


def sheet(model: AutoencoderKL, scenes: Sequence[Scene]) -> np.ndarray:
    """(H, W, 3) uint8: scenes, four a row, each above its reconstruction."""
    images = scene_batch(scenes)[0]
    return sheet_of_pairs(images, reconstruct(model, images))


def sheet_of_pairs(above: torch.Tensor, below: torch.Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of pictures (B, 3, h, w) in [-1, 1], four pairs a row; a short last row is left out."""
    pairs = [np.pad(np.concatenate(pair), ((0, 6), (0, 6), (0, 0)), constant_values=255)
             for pair in zip(to_uint8(above), to_uint8(below), strict=True)]
    return np.concatenate([np.concatenate(pairs[i : i + 4], axis=1) for i in range(0, len(pairs) - 3, 4)])
