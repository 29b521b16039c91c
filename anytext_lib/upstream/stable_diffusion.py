"""Reading Stable Diffusion 1.5 and models derived from it: a folder in diffusers' layout, or one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from anytext_lib.models.anytext2 import AnyText2Model
from anytext_lib.upstream.checkpoint import CheckpointError, key_maps, read_checkpoint
from anytext_lib.upstream.keys import PARTS, State

BASE = ("unet", "vae", "text_encoder")
"""The parts that Stable Diffusion 1.5 has; their folders in diffusers' layout have these names too."""
FILES = ("diffusion_pytorch_model.safetensors", "model.safetensors", "diffusion_pytorch_model.bin", "pytorch_model.bin",
         "diffusion_pytorch_model.fp16.safetensors", "model.fp16.safetensors")
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What diffusers called the VAE's attention until 2023; many copies of Stable Diffusion 1.5 still do."""
CLIP = "cond_stage_model.transformer."


class Found(NamedTuple):
    """A tensor of Stable Diffusion: its part, our name (None if unknown) and its name in the file."""

    part: str
    ours: str | None
    name: str
    tensor: torch.Tensor


def read_stable_diffusion(path: Path, model: AnyText2Model, wanted: Sequence[str] = BASE,
                          needed: Sequence[str] = BASE) -> Iterator[Found]:
    """The tensors of Stable Diffusion in the file or folder ``path``.

    Args:
        model: gives the sizes; the meta device is enough. ``wanted``: parts to read; ``needed``: those of them that
            have to be there.

    Raises:
        CheckpointError: a part that is needed is not there; a file is damaged or unsafe.
    """
    read = _folder_tensors if path.is_dir() else _file_tensors
    return read(path, model, wanted, needed)


def _folder_tensors(root: Path, model: AnyText2Model, wanted: Sequence[str], needed: Sequence[str]) -> Iterator[Found]:
    """The tensors of a folder in diffusers' layout."""
    for part in wanted:
        there = [root / part / file for file in FILES if (root / part / file).is_file()]
        if not there and part in needed:
            raise CheckpointError(f"{root} has no weights in {part}/ (one of {', '.join(FILES)}): a folder of Stable "
                                  f"Diffusion 1.5 has the parts {', '.join(BASE)}")
        for name, tensor in (read_checkpoint(there[0]) if there else {}).items():
            yield Found(part, _present_name(part, name), f"{part}/{name}", tensor)


def _present_name(part: str, name: str) -> str:
    """Translate the names that older copies have to those of today's diffusers and transformers."""
    if part == "text_encoder":
        return name.removeprefix("text_model.")
    stem, _, last = name.rpartition(".")
    front, _, layer = stem.rpartition(".")
    old = part == "vae" and layer in OLD_ATTENTION
    return f"{front}.{OLD_ATTENTION[layer]}.{last}" if old else name


def _file_tensors(path: Path, model: AnyText2Model, wanted: Sequence[str], needed: Sequence[str]) -> Iterator[Found]:
    """The tensors of one file in the original layout; averages and schedule are left out."""
    maps, state = key_maps(model), _present_clip(read_checkpoint(path))
    prefixes = {part: PARTS[part].prefix for part in wanted}
    absent = [prefix for part, prefix in prefixes.items()
              if part in needed and not any(name.startswith(prefix) for name in state)]
    if absent:
        raise CheckpointError(f"{path} has no tensors {', '.join(absent)}: it is not Stable Diffusion 1.5 in the "
                              "original layout (for diffusers' layout give the folder)")
    owners = {name: part for name in state for part in wanted if name.startswith(prefixes[part])}
    for name, part in owners.items():
        tensor = state[name]
        ours = maps[part].to_ours(name.removeprefix(prefixes[part]))
        yield Found(part, ours, name, tensor if ours is None else maps[part].shape_to_ours(ours, tensor))


def _present_clip(state: State) -> State:
    """The names of CLIP with ``text_model``, which files of 2022 leave out."""
    return {f"{CLIP}text_model.{name.removeprefix(CLIP)}" if name.startswith(CLIP) and "text_model." not in name
            else name: tensor for name, tensor in state.items()}
