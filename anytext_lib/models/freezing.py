"""What of a model is trained: one table of rules.

A parameter belongs to the first rule of ``RULES`` that is switched on and matches its name; one without such a rule is
frozen.  So no parameter is trained twice (upstream's optimizer lists 60 of them twice with ``sd_locked = false``).

    sd_locked  unlock_qkv   parameters of the official size that are trained
    true       false        WriteNet, text embedding, AttnX                        580 tensors, 427.8 M
    true       true         and q, k, v of the UNet's cross-attention              628 tensors, 459.3 M
    false      false        and the UNet's decoder                                 968 tensors, 938.6 M
    false      true         and q, k, v of the rest of the UNet                    989 tensors, 953.4 M

Upstream runs the UNet's encoder without gradient always, so that of the q, k, v that it unlocks those of the encoder
stay as they are.  ``AttnXUNet`` runs its encoder with a gradient exactly if something in it is trained; set
``unet.encoder_no_grad = True`` for upstream's way.  Source: AnyText2 ``cldm/cldm.py`` (``configure_optimizers``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

Groups = dict[str, list[tuple[str, nn.Parameter]]]


@dataclass(frozen=True)
class Freezing:
    """The switches, under upstream's names.

    Attributes:
        sd_locked: keep the UNet's decoder and output frozen.
        unlock_qkv: train q, k and v of the UNet's cross-attention (upstream: ``unlockQKV``).
        style_ocr_trainable: train the style recogniser.
        cond_stage_trainable: train the CLIP text encoder.
        train_all: train everything but the auto-encoder and the loss recogniser, for a model from scratch; the style
            recogniser follows ``style_ocr_trainable`` still.
    """

    sd_locked: bool = True
    unlock_qkv: bool = False
    style_ocr_trainable: bool = True
    cond_stage_trainable: bool = False
    train_all: bool = False


class Rule(NamedTuple):
    """Parameters whose full name matches ``pattern`` from its start are in ``group`` if ``trained`` says so."""

    group: str
    pattern: str
    trained: Callable[[Freezing], bool]


RULES: tuple[Rule, ...] = (
    Rule("writenet", r"writenet\.", lambda on: True),
    Rule("style_recognizer", r"text_embedding\.style_recognizer\.", lambda on: on.style_ocr_trainable),
    Rule("text_embedding", r"text_embedding\.(?!style_recognizer\.)", lambda on: True),
    Rule("attnx", r"unet\..*\.(attn1x|attn2x)\.", lambda on: True),
    Rule("unet_decoder", r"unet\.(up_blocks|conv_norm_out|conv_out)\.", lambda on: on.train_all or not on.sd_locked),
    Rule("unet_qkv", r"unet\..*\.attn2\.to_[qkv]\.", lambda on: on.unlock_qkv and not on.train_all),
    Rule("unet_encoder", r"unet\.", lambda on: on.train_all),
    Rule("text_encoder", r"text_encoder\.", lambda on: on.train_all or on.cond_stage_trainable),
)


def group_of(name: str, rules: Freezing) -> str | None:
    """The group in which the parameter ``name`` of an AnyText2Model is trained; None if it is frozen."""
    return next((rule.group for rule in RULES if rule.trained(rules) and re.match(rule.pattern, name)), None)


def trainable_parameters(model: nn.Module, rules: Freezing | None = None) -> Groups:
    """The trained parameters by group, with their names, in the order of the model; groups without any are left out.

    Shared parameters come once. Works on the meta device too.
    """
    rules, groups = rules or Freezing(), {rule.group: [] for rule in RULES}
    for name, parameter in model.named_parameters():
        group = group_of(name, rules)
        if group is not None:
            groups[group].append((name, parameter))
    return {group: members for group, members in groups.items() if members}


def apply(model: nn.Module, rules: Freezing | None = None, **switches: bool) -> Groups:
    """Set ``requires_grad`` of every parameter, and the mode of every part: training mode where something is trained.

    Args:
        model: an AnyText2Model.
        rules: the switches; or give them one by one, as ``apply(model, sd_locked=False)``.

    Returns:
        What is trained, see ``trainable_parameters``.

    Raises:
        TypeError: ``rules`` and switches together, or an unknown switch.
    """
    if rules is not None and switches:
        raise TypeError("give either rules or single switches, not both")
    groups = trainable_parameters(model, rules or Freezing(**switches))
    model.requires_grad_(False)
    for members in groups.values():
        for _, parameter in members:
            parameter.requires_grad_(True)
    for part in model.children():
        part.train(any(parameter.requires_grad for parameter in part.parameters()))
    embedding = getattr(model, "text_embedding", None)
    if hasattr(embedding, "style_recognizer") and "style_recognizer" not in groups:
        embedding.style_recognizer.eval()
    return groups


def count(groups: Groups) -> dict[str, tuple[int, int]]:
    """For each group the number of tensors and of single values."""
    return {group: (len(members), sum(parameter.numel() for _, parameter in members))
            for group, members in groups.items()}


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """All modules in eval mode, and afterwards each in its own mode again."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
