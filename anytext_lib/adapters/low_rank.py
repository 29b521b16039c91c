"""Low-rank updates (LoRA): the formula, and low-rank weights beside frozen ones, for training.

    W' = W + (alpha / r) B A          A (r, in), the down projection; B (out, r), the up projection

A convolution's A has its kernel, (r, in, k, k), and its B is of 1 x 1: flattened to matrices the formula is the same.
In training W stays frozen; A starts at random and B at zero, so that the first step begins at the model as it is.
Source: Hu and others, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from anytext_lib.errors import AnyTextError, OptionError
from anytext_lib.models.freezing import Groups

ATTENTION = re.compile(r"\.(?:to_q|to_k|to_v|to_out\.0|q_proj|k_proj|v_proj|out_proj)$")
TARGETS = {
    "unet": re.compile(r"unet\.(?!.*\.(?:attn1x|attn2x)\.)"),
    "attnx": re.compile(r"unet\..*\.(?:attn1x|attn2x)\."),
    "writenet": re.compile(r"writenet\."),
    "text_encoder": re.compile(r"text_encoder\."),
}
"""Networks whose attentions can be given low-rank weights, by the start of the names of their layers."""
DOWN, UP = "lora_A", "lora_B"  # names of the two projections, as children of the layer that they change


class LoraError(AnyTextError, ValueError):
    """A file of low-rank updates is damaged, of another kind or of another model; the message says which and why."""


@dataclass(frozen=True)
class LowRank:
    """The update of one layer: ``down`` (r, in) or (r, in, k, k), ``up`` (out, r) or (out, r, 1, 1), and alpha."""

    down: torch.Tensor
    up: torch.Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """r."""
        return len(self.down)

    @property
    def scale(self) -> float:
        """alpha / r."""
        return self.alpha / self.rank

    def fits(self, weight: torch.Tensor) -> bool:
        """Whether the product has the size of a layer's weight, (out, in) or (out, in, k, k)."""
        same_kernel = self.down.shape[2:] == weight.shape[2:] or self.down[0, 0].numel() == weight[0, 0].numel() == 1
        return (self.up.ndim >= 2 and self.up.flatten(1).shape == (len(weight), self.rank)
                and self.down.shape[1] == weight.shape[1] and same_kernel)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        """(alpha / r) B A in the shape of ``weight`` and on its device, float32."""
        up, down = (factor.to(weight.device, torch.float32).flatten(1) for factor in (self.up, self.down))
        return (self.scale * (up @ down)).reshape(weight.shape)


# training


class AddUpdate:
    """Forward hook of a linear layer with low-rank weights: adds (alpha / r) B A x to its output."""

    def __init__(self, scale: float):
        self.scale = scale

    def __call__(self, layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        x = inputs[0]
        down, up = (getattr(layer, name).weight.to(x.dtype) for name in (DOWN, UP))
        return output + self.scale * F.linear(F.linear(x, down), up)


def target_layers(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """Names of the linear layers of the attentions of ``targets``, in the order of the model.

    Raises:
        OptionError: no target, an unknown one, or one without attentions in this model.
    """
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        raise OptionError(f"lora_targets {unknown or list(targets)}: name some of {', '.join(TARGETS)}")
    attentions = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)
                  and ATTENTION.search(name)]
    empty = [target for target in targets if not any(TARGETS[target].match(name) for name in attentions)]
    if empty:
        raise OptionError(f"lora_targets {empty}: this model has no attentions there")
    return [name for name in attentions if any(TARGETS[target].match(name) for target in targets)]


def attach(model: nn.Module, targets: Sequence[str], rank: int, alpha: float | None = None, seed: int = 0) -> Groups:
    """Freeze a model and give its attentions low-rank weights, float32, the only ones that are trained.

    They are children ``lora_A`` and ``lora_B`` of the layers that they change, so that all other names stay.

    Args:
        model: an AnyText2Model, on the CPU. ``targets``: see ``TARGETS``.
        rank: r. ``alpha``: strength of the update; None takes ``rank``, which gives alpha / r = 1.
        seed: of the random start of A, uniform in +-1 / sqrt(in) (peft's).

    Returns:
        The trained parameters with their names, as of ``freezing.apply``, by target.

    Raises:
        OptionError: an argument cannot be used.
    """
    if rank < 1:
        raise OptionError(f"lora_rank is a whole number of at least 1, got {rank}")
    if alpha is not None and not (math.isfinite(alpha) and alpha > 0):
        raise OptionError(f"lora_alpha is a number above 0, got {alpha}")
    layers, generator = target_layers(model, targets), torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    groups: Groups = {target: [] for target in targets}
    for name in layers:
        layer = model.get_submodule(name)
        own = next(target for target in targets if TARGETS[target].match(name))
        for key, weight in _start(layer, rank, generator).items():
            projection = nn.Linear(*reversed(weight.shape), bias=False, device="meta")
            projection.weight = nn.Parameter(weight)
            layer.add_module(key, projection)
            groups[own].append((f"{name}.{key}.weight", projection.weight))
        layer.register_forward_hook(AddUpdate((rank if alpha is None else alpha) / rank))
    for part in model.children():
        part.train(any(parameter.requires_grad for parameter in part.parameters()))
    return groups


def _start(layer: nn.Linear, rank: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    device, bound = layer.weight.device, layer.in_features**-0.5
    down = torch.empty(rank, layer.in_features)
    down = down.to(device) if device.type == "meta" else down.uniform_(-bound, bound, generator=generator).to(device)
    return {DOWN: down, UP: torch.zeros(layer.out_features, rank, device=device)}


def attached(model: nn.Module) -> dict[str, LowRank]:
    """The updates of a model's layers, by the names of the layers; tensors are copies on the CPU."""
    found = {}
    for name, layer in model.named_modules():
        hook = next((hook for hook in layer._forward_hooks.values() if isinstance(hook, AddUpdate)), None)
        if hook is not None:
            down, up = (getattr(layer, key).weight.detach().to("cpu", copy=True) for key in (DOWN, UP))
            found[name] = LowRank(down, up, hook.scale * len(down))
    return found
