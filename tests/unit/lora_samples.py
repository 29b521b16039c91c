"""Small files of low-rank updates in the forms of other programs, for the tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

UNET = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "up_blocks.0.attentions.1.transformer_blocks.0.attn2.to_out.0"
CONV = "up_blocks.0.resnets.0.conv1"
CLIP = "encoder.layers.1.self_attn.v_proj"
LAYERS = {f"unet.{UNET}": "linear", f"unet.{OUT}": "linear", f"unet.{CONV}": "3 x 3", f"text_encoder.{CLIP}": "linear",
          "unet.down_blocks.0.attentions.0.proj_in": "1 x 1"}


def factors(model: torch.nn.Module, name: str, rank: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random projections for a layer, of the size that its weight asks for."""
    weight, draw = model.get_submodule(name).weight, torch.Generator().manual_seed(seed)
    down = 0.3 * torch.randn(rank, *weight.shape[1:], generator=draw)
    return down, 0.3 * torch.randn(len(weight), rank, *(1 for _ in weight.shape[2:]), generator=draw)


def in_form(form: str, name: str) -> str:
    """A layer's name as a form has it, up to the projection."""
    part, _, rest = name.partition(".")
    clip = "text_model." if part == "text_encoder" else ""
    if form == "kohya":
        return f"lora_{'te' if clip else 'unet'}_{(clip + rest).replace('.', '_')}"
    if form == "peft":
        return f"base_model.model.{clip}{rest}"
    if form == "old diffusers" and not clip and ".attn" in rest:
        block, _, layer = rest.removesuffix(".0").rpartition(".")
        return f"unet.{block}.processor.{layer}"
    return f"{part}.{clip}{rest}"


ENDINGS = {"kohya": ("lora_down", "lora_up"), "peft": ("lora_A", "lora_B"), "diffusers": ("lora_A", "lora_B"),
           "old diffusers": ("lora.down", "lora.up")}


def lora_file(path: Path, model: torch.nn.Module, form: str = "kohya", alpha: float | None = None, seed: int = 0,
              layers=tuple(LAYERS), more: dict[str, torch.Tensor] | None = None) -> Path:
    """Write updates of ``layers`` in a form; alpha is in the tensors (kohya) or in the metadata (diffusers)."""
    tensors = dict(more or {})
    for number, name in enumerate(layers):
        key, (down_end, up_end) = in_form(form, name), ENDINGS[form]
        if ".processor." in key:
            key, down_end, up_end = f"{key}_lora", "down", "up"
        down, up = factors(model, name, seed=seed + number)
        tensors |= {f"{key}.{down_end}.weight": down, f"{key}.{up_end}.weight": up}
        if alpha is not None and form == "kohya":
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
    settings = {f"{part}.lora_alpha": alpha for part in ("unet", "text_encoder")}
    told = {} if alpha is None or form != "diffusers" else {"lora_adapter_metadata": json.dumps(settings)}
    save_file(tensors, path, metadata={"format": "pt", **told})
    return path
