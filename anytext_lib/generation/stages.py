"""The stages of a run: encode, run WriteNet, draw noise, decode, finish; the pipeline puts them in order.

``PartPlacement`` has the parts of the model on the device, all the time or each only while it computes.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.data.batch import AnyTextBatch, collate, to_uint8
from anytext_lib.generation.denoise import Branch, Kept
from anytext_lib.generation.prepare import Prepared, composited
from anytext_lib.generation.request import RequestError, Settings, image_caption
from anytext_lib.models.anytext2 import Conditions

PARTS = ("vae", "unet", "writenet", "text_embedding", "text_encoder", "recognizer")
ENCODERS = ("text_encoder", "text_embedding", "recognizer", "vae")


class PartPlacement:
    """Moves the parts of an AnyText2Model.

    Attributes:
        offload: the device that parts are moved to while they compute; None leaves them where they are.
    """

    def __init__(self, model):
        self.model, self.offload = model, None

    @property
    def device(self) -> torch.device:
        """Device of the computations."""
        return self.model.device if self.offload is None else self.offload

    def move(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        """Move or convert all parts; the recogniser stays float32, because half precision spoils its features."""
        self.offload = None if device is not None else self.offload
        for name in PARTS:
            _to(getattr(self.model, name), device, torch.float32 if name == "recognizer" and dtype else dtype)

    def start_offload(self, device: torch.device | str) -> None:
        """Keep all parts on the CPU, and move them to ``device`` for their computation only."""
        self.move("cpu")
        self.offload = torch.device(device)

    @contextmanager
    def using(self, *names: str) -> Iterator[None]:
        """The parts ``names`` are on the device within the block."""
        if self.offload is None:
            yield
            return
        parts = [getattr(self.model, name) for name in names]
        try:
            for part in parts:
                _to(part, self.offload)
            yield
        finally:
            for part in parts:
                _to(part, "cpu")


def _to(part: nn.Module, device=None, dtype=None) -> None:
    nn.Module.to(part, device=device, dtype=dtype)  # diffusers' own warns whenever it is told a dtype


@dataclass(frozen=True)
class Job:
    """One image of a run: ``picture``, which of the prepared requests it is, and where its noise comes from."""

    picture: int
    seed: int | None
    generator: torch.Generator


def groups(jobs: Sequence[Job], batch_size: int) -> Iterator[list[Job]]:
    """Whole pictures with all their seeds, as many as fit into a batch, at least one: these are encoded together."""
    group: list[Job] = []
    for picture in dict.fromkeys(job.picture for job in jobs):
        own = [job for job in jobs if job.picture == picture]
        if group and len(group) + len(own) > batch_size:
            yield group
            group = []
        group += own
    if group:
        yield group


def make_jobs(pictures: int, images: int, seed: int | Sequence[int] | None,
              generator: torch.Generator | Sequence[torch.Generator] | None) -> list[Job]:
    """``images`` jobs for each picture, with seeds or generators in order.

    Raises:
        RequestError: another number of seeds or generators than of images, or both.
    """
    if not isinstance(images, int) or images < 1 or pictures < 1:
        raise RequestError(f"give at least one request and one image, got {pictures} and {images!r}")
    owners = [picture for picture in range(pictures) for _ in range(images)]
    if generator is not None:
        if seed is not None:
            raise RequestError("give seeds or generators, not both")
        given = [generator] if isinstance(generator, torch.Generator) else list(generator)
        _check_number("generator", given, len(owners))
        return [Job(owner, None, each) for owner, each in zip(owners, given, strict=True)]
    if seed is None or isinstance(seed, int):
        first = secrets.randbelow(2**31) if seed is None else seed
        seeds = list(range(first, first + len(owners)))
    else:
        seeds = list(seed)
        _check_number("seed", seeds, len(owners))
    if not all(isinstance(value, int) and 0 <= value < 2**63 for value in seeds):
        raise RequestError(f"seeds are whole numbers of at least 0, got {seeds}")
    return [Job(owner, value, torch.Generator().manual_seed(value))
            for owner, value in zip(owners, seeds, strict=True)]


@torch.no_grad()
def encode(model, placement: PartPlacement, prepared: Sequence[Prepared], settings: Settings) -> list[Branch]:
    """The branch with the captions, and, where guided, the one with the negative captions; WriteNet has run."""
    batch = collate([item.sample for item in prepared]).to(placement.device)
    with placement.using(*ENCODERS):
        conditions = _conditions(model, batch, prepared, guided=settings.cfg_scale != 1)
    fast = model.writenet.config.fast_control and settings.strength != 0
    with placement.using(*(["writenet"] if fast else [])):
        return [Branch(model, told, settings.strength, model.control(told) if fast else None) for told in conditions]


def draw_noise(jobs: Sequence[Job], like: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) float32, each sample from its own generator on the CPU, on the device of ``like`` (R, C, h, w)."""
    return torch.stack([torch.randn(like.shape[1:], generator=job.generator) for job in jobs]).to(like.device)


@torch.no_grad()
def kept_latents(model, placement: PartPlacement, items: Sequence[Prepared], noise: torch.Tensor) -> Kept:
    """Latents of the images of a batch to keep outside of the regions, for ``Settings.blend``."""
    images = collate([item.sample for item in items]).to(placement.device).images
    with placement.using("vae"):
        clean = model.encode(images, sample=False).float()
    regions = torch.from_numpy(np.stack([item.hidden for item in items])[:, None].astype(np.float32)).to(images.device)
    return Kept(clean, F.max_pool2d(regions, model.latent_factor), noise)


@torch.no_grad()
def decode(model, placement: PartPlacement, latents: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) float32 in [-1, 1]."""
    with placement.using("vae"):
        return model.decode(latents.to(placement.device)).float().clamp(-1, 1)


def finish(images: torch.Tensor, items: Sequence[Prepared], composite: bool) -> list[np.ndarray]:
    """(H, W, 3) uint8 each; edited ones at the size of the picture that was given, its other pixels put back if
    ``composite``."""
    made = []
    for image, item in zip(to_uint8(images), items, strict=True):
        if item.original is not None:
            image = _as_large(image, item.original.shape[:2])
            image = composited(image, item) if composite else image
        made.append(image)
    return made


@contextmanager
def sampling_state(model, settings: Settings, device: torch.device) -> Iterator[None]:
    """AttnX at its scale, and on a GPU only algorithms that give the same bits again; both are restored after."""
    blocks = list(model.unet.attnx_blocks())
    before = [block.attnx_scale for block in blocks]
    cudnn = torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark
    model.set_attnx_scale(settings.attnx_scale)
    if device.type == "cuda":
        cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        if device.type == "cuda":
            cudnn.deterministic, cudnn.benchmark = flags
        for block, scale in zip(blocks, before, strict=True):
            block.attnx_scale = scale


def _conditions(model, batch: AnyTextBatch, prepared: Sequence[Prepared], guided: bool) -> list[Conditions]:
    styles = [style for item in prepared for style in item.styles]
    shared = {"masked_latents": _masked_latents(model, batch), "glyph_features": None,
              "style_images": styles if any(style is not None for style in styles) else None}
    if model.text_embedding.config.glyph:
        shared["glyph_features"] = model.glyph_features(batch.glyph_lines)
    found = [model.conditions(batch, **shared)]
    if guided:
        captions = [image_caption(item.request.negative_prompt, literal=True) for item in prepared]
        negative = replace(batch, captions=captions, text_captions=[""] * len(batch))
        found.append(model.conditions(negative, **shared))
    return found


def _masked_latents(model, batch: AnyTextBatch) -> torch.Tensor:
    """Latents of the masked images, each drawn with the same numbers: an image depends on its own seed only."""
    if not batch.editing.any():  # all are black
        black = model.encode(batch.masked_images[:1], generator=torch.Generator().manual_seed(0))
        return black.expand(len(batch), -1, -1, -1)
    rows = [model.encode(image[None], generator=torch.Generator().manual_seed(0)) for image in batch.masked_images]
    return torch.cat(rows)


def _as_large(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)


def _check_number(what: str, given: list, wanted: int) -> None:
    if len(given) != wanted:
        raise RequestError(f"got {len(given)} {what}s for {wanted} images: give one for each")
