"""Files of low-rank updates: the names that other programs use, read and written.

    diffusers, peft   unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight
    older diffusers   unet.down_blocks.0. ... .attn1.to_q.lora.down.weight, ... .attn1.processor.to_q_lora.down.weight
    kohya             lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight, ... .alpha
    the same, ldm     lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_down.weight
    CLIP              text_encoder.text_model.encoder. ... , lora_te_text_model_encoder_ ...
    of this library   writenet. ... , attnx. ...  for the layers that Stable Diffusion does not have

A layer's alpha is in the file (kohya), in its metadata (diffusers) or in adapter_config.json beside it (peft); without
any it is the rank, so that the product counts as it is.  The names of Stable Diffusion's layers lead to Stable
Diffusion's layers only: AnyText2's additions stay as they are, unless a file names them.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from anytext_lib.adapters.low_rank import LoraError, LowRank
from anytext_lib.files import atomic_path
from anytext_lib.models.attnx import is_extra
from anytext_lib.models.storage import require_finite, save_tensors
from anytext_lib.upstream.checkpoint import key_maps, read_checkpoint

ROLES = {".lora_A.weight": "down", ".lora_B.weight": "up", ".lora_A.default.weight": "down",
         ".lora_B.default.weight": "up", ".lora_down.weight": "down", ".lora_up.weight": "up",
         ".lora.down.weight": "down", ".lora.up.weight": "up", ".lora_linear_layer.down.weight": "down",
         ".lora_linear_layer.up.weight": "up", "_lora.down.weight": "down", "_lora.up.weight": "up", ".alpha": "alpha"}
"""Endings of names: the two projections and alpha."""
PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)$")
METADATA = "lora_adapter_metadata"  # diffusers' entry in the metadata of safetensors
PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass
class LoraFile:
    """What a file holds for one model.

    Attributes:
        path: of the file. ``layers``: updates by the name of the layer in the model.
        unknown: names of layers, or of tensors, that the model does not have or that are of another form than
            LoRA (LoHa, LoKr, DoRA): these are left out.
    """

    path: Path
    layers: dict[str, LowRank] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = Counter("attnx" if is_extra(name) else name.split(".")[0] for name in self.layers)
        counted = ", ".join(f"{part} {count}" for part, count in sorted(parts.items()))
        ranks = sorted({layer.rank for layer in self.layers.values()})
        left = f"; left out, unknown to this model: {len(self.unknown)} ({', '.join(self.unknown[:3])}" \
               f"{', ...' * (len(self.unknown) > 3)})" if self.unknown else ""
        return (f"{self.path}: {len(self.layers)} layers ({counted}) of rank "
                f"{ranks[0] if len(ranks) == 1 else f'{ranks[0]} to {ranks[-1]}'}{left}")


# reading


def read_lora(path: str | os.PathLike, model: nn.Module) -> LoraFile:
    """The low-rank updates of a file for ``model``.

    Args:
        path: .safetensors (or a file of torch.save that holds tensors only), or a folder that peft wrote.
        model: an AnyText2Model; the meta device is enough.

    Raises:
        LoraError: nothing in it fits the model, a layer has another size (it was made for another base model), or a
            number is not finite. CheckpointError: the file is missing, damaged or unsafe.
    """
    path = Path(path)
    weights = path / PEFT_WEIGHTS if path.is_dir() else path
    if path.is_dir() and not weights.is_file():
        raise LoraError(f"the folder {path} has no {PEFT_WEIGHTS}: name the file of low-rank updates in it")
    state, settings, places = read_checkpoint(weights), AlphaSettings.of(weights), layer_names(model)
    found, tensors = LoraFile(path), {}
    for name, tensor in state.items():
        layer, role = _parsed(name)
        if role is None or layer not in places:
            found.unknown.append(layer)
        else:
            require_finite(weights, name, tensor, LoraError)
            tensors.setdefault(layer, {})[role] = tensor
    found.unknown = list(dict.fromkeys(found.unknown))
    for layer, roles in tensors.items():
        if layer in found.unknown or not {"down", "up"} <= set(roles):  # parts of another form, as DoRA's scale
            found.unknown += [layer] if layer not in found.unknown else []
        else:
            found.layers[places[layer]] = _update(weights, layer, roles, settings, model.get_submodule(places[layer]))
    if not found.layers:
        shown = ", ".join(found.unknown[:3]) or "no tensors"
        raise LoraError(f"{path} has no low-rank update of a layer of this model ({shown}, ...): it is no LoRA file of "
                        "Stable Diffusion 1.5, or of another form than LoRA (LoHa, LoKr, DoRA)")
    return found


def layer_names(model: nn.Module) -> dict[str, str]:
    """Names that files may use for a model's linear and convolutional layers -> the model's own."""
    found = {}
    maps = key_maps(model)
    for name, layer in model.named_modules():
        part, _, rest = name.partition(".")
        if not isinstance(layer, nn.Linear | nn.Conv2d) or part not in ("unet", "text_encoder", "writenet") \
                or rest.endswith((".lora_A", ".lora_B")):
            continue
        theirs = maps[part].to_upstream(rest)
        if part == "text_encoder":
            known = [f"text_encoder.text_model.{rest}", f"text_encoder.{rest}", f"text_model.{rest}",
                     *(f"{kohya}_text_model_{_flat(rest)}" for kohya in ("lora_te", "lora_te1"))]
        elif part == "writenet":
            known = [f"writenet.{rest}"]
        elif is_extra(name):
            known = [f"attnx.{rest}"]
        else:
            known = [f"unet.{rest}", rest, f"lora_unet_{_flat(rest)}", f"lora_unet_{_flat(theirs)}"]
        found |= dict.fromkeys(known, name)
    return found


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _parsed(name: str) -> tuple[str, str | None]:
    """The name of the layer as a file has it, and the role of the tensor; None for a role that LoRA does not know."""
    ending = next((ending for ending in ROLES if name.endswith(ending)), None)
    layer = name.removesuffix(ending) if ending else name.rpartition(".")[0]
    layer = PROCESSOR.sub(lambda found: "." + found[1].replace("to_out", "to_out.0"),
                          layer.removeprefix("base_model.model."))
    return (layer, ROLES[ending]) if ending else (layer.removesuffix(".lora_magnitude_vector"), None)


def _update(path: Path, name: str, roles: Mapping[str, torch.Tensor], settings: AlphaSettings,
            layer: nn.Module) -> LowRank:
    down, up = roles["down"], roles["up"]
    if down.ndim not in (2, 4) or up.ndim not in (2, 4) or not down.numel():
        raise LoraError(f"{path} is damaged at {name}: its projections have the shapes {tuple(down.shape)} and "
                        f"{tuple(up.shape)}")
    alpha = float(roles["alpha"]) if "alpha" in roles else settings.alpha(name, len(down))
    update = LowRank(down, up, alpha)
    if not update.fits(layer.weight):
        raise LoraError(f"{path} does not fit at {name}: it holds {tuple(down.shape)} and {tuple(up.shape)} for a "
                        f"layer of {tuple(layer.weight.shape)}; it was made for another base model than this one (as "
                        "Stable Diffusion 2 or XL are)")
    if not math.isfinite(alpha):
        raise LoraError(f"{path} has the alpha {alpha} at {name}: the file is damaged")
    return update


@dataclass(frozen=True)
class AlphaSettings:
    """Where alpha stands when no tensor holds it: peft's configurations, by the prefix of the names they are for."""

    configs: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, path: Path) -> AlphaSettings:
        """Of adapter_config.json beside a file of peft, or of the metadata in a file of diffusers.

        Raises:
            LoraError: they cannot be read, or ask for DoRA.
        """
        configs = {}
        try:
            if path.name == PEFT_WEIGHTS and (path.parent / PEFT_CONFIG).is_file():
                configs[""] = json.loads((path.parent / PEFT_CONFIG).read_text(encoding="utf-8"))
            for key, value in json.loads(_metadata(path).get(METADATA, "{}")).items():
                part, _, setting = key.partition(".")
                configs.setdefault(f"{part}.", {})[setting] = value
        except (ValueError, AttributeError) as error:
            raise LoraError(f"the settings of {path} cannot be read ({error}): fetch the file again") from error
        if any(config.get("use_dora") for config in configs.values()):
            raise LoraError(f"{path} is of the form DoRA, which is not supported: have it merged, or take a LoRA")
        return cls(configs)

    def alpha(self, layer: str, rank: int) -> float:
        """Of a layer by its name in the file: by pattern, for all, or the rank."""
        for prefix, config in self.configs.items():
            if layer.startswith(prefix):
                own = layer.removeprefix(prefix)
                patterns = config.get("alpha_pattern") or {}
                named = next((float(value) for name, value in patterns.items()
                              if re.search(rf"(^|\.)({name})$", own)), None)
                alpha = float(config.get("lora_alpha", rank)) if named is None else named
                return alpha * rank**0.5 if config.get("use_rslora") else alpha  # rslora divides by sqrt(r)
        return float(rank)


def _metadata(path: Path) -> dict[str, str]:
    """Of a safetensors file; empty for other files."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError:
        return {}


# writing


def write_lora(layers: Mapping[str, LowRank], path: str | os.PathLike) -> None:
    """Write updates under diffusers' names, as safetensors, whole or not at all.

    alpha / r is multiplied into B, so that every reader finds the same product, with metadata or without.

    Args:
        layers: by the names of a model's layers.
    """
    tensors = {}
    for name, layer in layers.items():
        key = f"attnx.{name.removeprefix('unet.')}" if is_extra(name) else \
            name.replace("text_encoder.", "text_encoder.text_model.", 1)
        tensors[f"{key}.lora_A.weight"] = layer.down
        tensors[f"{key}.lora_B.weight"] = layer.scale * layer.up
    _save(tensors, path)


def write_kohya(layers: Mapping[str, LowRank], path: str | os.PathLike) -> bool:
    """Write the updates of Stable Diffusion's own layers under kohya's names; False, and no file, if there are none.

    Programs that know these names know no others, so that WriteNet's and AnyText2's own attentions are left out.
    """
    tensors = {}
    for name, layer in layers.items():
        part, _, rest = name.partition(".")
        if part in ("unet", "text_encoder") and not is_extra(name):
            key = f"lora_unet_{_flat(rest)}" if part == "unet" else f"lora_te_text_model_{_flat(rest)}"
            tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"] = layer.down, layer.up
            tensors[f"{key}.alpha"] = torch.tensor(float(layer.alpha))
    if tensors:
        _save(tensors, path)
    return bool(tensors)


def _save(tensors: Mapping[str, torch.Tensor], path: str | os.PathLike) -> None:
    with atomic_path(path) as temporary:
        save_tensors(tensors, temporary)
