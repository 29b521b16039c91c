"""Stable Diffusion's layers taken from another model, beneath AnyText2's own: a swap of the base model.

The UNet's layers and CLIP come from the file, as upstream does it; AnyText2's additions (AttnX, WriteNet, the text
embedding) stay, and so does the auto-encoder unless it is asked for, because WriteNet was trained on its latents.
Source: AnyText2 ``ms_wrapper.py`` (``load_base_model``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from anytext_lib.models.attnx import is_extra
from anytext_lib.models.storage import require_finite
from anytext_lib.upstream.checkpoint import CheckpointError
from anytext_lib.upstream.stable_diffusion import Found, read_stable_diffusion

NEEDED = ("unet",)
"""Parts without which a file is no base model; one without a text encoder leaves the model's own."""


@dataclass
class BaseModel:
    """The layers that a file replaces.

    Attributes:
        path: of the file or folder. ``tensors``: by their names in the model, each part whole.
        unknown: names of tensors of these parts that the model does not have; they are left out.
    """

    path: Path
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = sorted({name.split(".")[0] for name in self.tensors})
        left = f"; left out, unknown: {len(self.unknown)} ({', '.join(self.unknown[:3])})" if self.unknown else ""
        return f"{self.path}: {len(self.tensors)} tensors of {', '.join(parts)}{left}"


def read_base(path: str | os.PathLike, model: nn.Module, vae: bool = False) -> BaseModel:
    """The layers of a model derived from Stable Diffusion 1.5.

    Args:
        path: one file in the original layout (.safetensors, or .ckpt that holds tensors only), or a folder in
            diffusers' layout; any floating dtype.
        model: an AnyText2Model. ``vae``: take the auto-encoder as well.

    Raises:
        CheckpointError: a file is missing, damaged or unsafe, lacks tensors of a part, or is of another size, as Stable
            Diffusion 2, XL or an inpainting model.
    """
    wanted = ("unet", "text_encoder", *(["vae"] if vae else []))
    needed = (*NEEDED, *(["vae"] if vae else []))
    return _fitted(Path(path), model, read_stable_diffusion(Path(path), model, wanted, needed))


def _fitted(path: Path, model: nn.Module, tensors: Iterable[Found]) -> BaseModel:
    own = {name: value.shape for name, value in model.state_dict().items() if not is_extra(name)}
    found = BaseModel(path)
    for part, ours, name, tensor in tensors:
        full = f"{part}.{ours}"
        if full not in own:
            found.unknown += [] if name.endswith("embeddings.position_ids") else [name]
        elif own[full] != tensor.shape:
            raise CheckpointError(f"{path} does not fit at {name}: it holds {tuple(tensor.shape)}, expected "
                                  f"{tuple(own[full])}; it is not derived from Stable Diffusion 1.5 (2, XL and "
                                  "inpainting models have other sizes)")
        else:
            require_finite(path, name, tensor, CheckpointError)
            found.tensors[full] = tensor
    parts = {name.split(".")[0] for name in found.tensors} | set(NEEDED)
    missing = [name for name in own if name.split(".")[0] in parts and name not in found.tensors]
    if missing:
        raise CheckpointError(f"{path} lacks {len(missing)} tensors of Stable Diffusion 1.5: {', '.join(missing[:5])}")
    return found
