"""A run that trains low-rank weights only: what is frozen, what its checkpoints hold, what it leaves at the end.

A checkpoint holds the low-rank weights and the optimizer's state, some megabytes, and a fingerprint of the frozen model
that they belong to, so that a run does not go on upon another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from anytext_lib.adapters.lora_files import write_kohya, write_lora
from anytext_lib.adapters.low_rank import DOWN, UP, LowRank, attach
from anytext_lib.errors import OptionError
from anytext_lib.models.freezing import Groups
from anytext_lib.training.run_files import RunStateError

FINGERPRINT = "frozen_model"  # entry of a checkpoint
SAMPLED = 16  # values of a tensor that its fingerprint sees


def train_low_rank(model: nn.Module, options: Mapping[str, Any]) -> Groups:
    """Freeze a model, in its ``frozen_dtype``, and attach low-rank weights; see ``low_rank.attach``.

    Args:
        options: of ``AnyText2Training``.

    Raises:
        OptionError: options ask for more to be trained, or cannot be used.
    """
    wide = {"sd_locked": False, "unlock_qkv": True, "cond_stage_trainable": True, "train_all": True}
    given = [f"{name} {str(value).lower()}" for name, value in wide.items() if options[name] is value]
    if given:
        raise OptionError(f"with lora_rank only the low-rank weights are trained, but {', '.join(given)} asks for "
                          "more: leave one of the two out (lora_targets says which networks get low-rank weights)")
    dtype = getattr(torch, options["frozen_dtype"])
    for name, part in model.named_children():
        if name != "recognizer":  # half precision spoils what it reads
            nn.Module.to(part, dtype=dtype)
    return attach(model, options["lora_targets"], options["lora_rank"], options["lora_alpha"], options["seed"])


def require_no_low_rank(options: Mapping[str, Any]) -> None:
    """OptionError if options of low-rank training are given without ``lora_rank``."""
    given = [name for name, default in (("lora_alpha", None), ("frozen_dtype", "float32")) if options[name] != default]
    if given:
        raise OptionError(f"{given[0]} is for runs with low-rank weights: give lora_rank as well, as 8")


def is_low_rank(name: str) -> bool:
    """Whether a tensor of a model is a low-rank weight."""
    return name.endswith((f".{DOWN}.weight", f".{UP}.weight"))


def fingerprint(model: nn.Module) -> str:
    """Hash of names, shapes and some values of a model's frozen tensors, whatever dtype they are kept in."""
    seen = hashlib.sha256()
    for name, value in model.state_dict().items():
        if not is_low_rank(name):
            flat = value.detach().flatten()
            some = flat[:: max(1, len(flat) // SAMPLED)][:SAMPLED].to("cpu", torch.bfloat16).float()
            seen.update(f"{name} {tuple(value.shape)} {some.tolist()}\n".encode())
    return seen.hexdigest()


def reduce_checkpoint(checkpoint: dict[str, Any], mark: str) -> None:
    """Leave only the low-rank weights in a checkpoint that Lightning is about to save, and the fingerprint."""
    checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if is_low_rank(name)}
    checkpoint[FINGERPRINT] = mark


def complete_checkpoint(checkpoint: dict[str, Any], module: nn.Module, mark: str) -> None:
    """Add the frozen tensors, which are the module's own, to a checkpoint that was read.

    Raises:
        RunStateError: it belongs to another frozen model.
    """
    if FINGERPRINT in checkpoint and checkpoint[FINGERPRINT] != mark:
        raise RunStateError("the low-rank weights of the checkpoint belong to another model than the one that --model "
                            "names now, or its weights have changed: give the model that the run started from")
    frozen = {name: value for name, value in module.state_dict().items() if not is_low_rank(name)}
    checkpoint["state_dict"] = frozen | checkpoint["state_dict"]


def export_low_rank(updates: Mapping[str, LowRank], folder: Path, name: str) -> None:
    """Write ``folder/NAME.safetensors`` (diffusers' names) and, if there are any layers for it, NAME_kohya."""
    path = folder / f"{name}.safetensors"
    write_lora(updates, path)
    both = write_kohya(updates, folder / f"{name}_kohya.safetensors")
    rank_zero_info(f"the low-rank weights are in {path}" + (f" and, for other programs, {name}_kohya" if both else "")
                   + f": anytext generate --model MODEL --lora {path}")
