"""Names of tensors: upstream's (the "LDM" names of AnyText2's checkpoints) and ours (diffusers, transformers).

Each part of the model has a table of pairs (upstream's prefix, our prefix), computed from the part's configuration,
so that any number of blocks works.  A name is translated by the longest prefix that the table knows; what follows is
the same on both sides.  A name without a prefix in the table is unknown, and that is an error.

Configurations are those of diffusers: ``layers_per_block``, ``block_out_channels`` and the types of the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any, NamedTuple

import torch

from anytext_lib.errors import AnyTextError

Config = Mapping[str, Any]
Pairs = list[tuple[str, str]]
State = dict[str, torch.Tensor]

# What is inside a residual block of the UNet and of WriteNet, and of the VAE.
RESNET = (("in_layers.0", "norm1"), ("in_layers.2", "conv1"), ("emb_layers.1", "time_emb_proj"),
          ("out_layers.0", "norm2"), ("out_layers.3", "conv2"), ("skip_connection", "conv_shortcut"))
VAE_RESNET = (("norm1", "norm1"), ("conv1", "conv1"), ("norm2", "norm2"), ("conv2", "conv2"),
              ("nin_shortcut", "conv_shortcut"))
VAE_ATTENTION = (("norm", "group_norm"), ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0"))
TIME_AND_INPUT = (("time_embed.0", "time_embedding.linear_1"), ("time_embed.2", "time_embedding.linear_2"),
                  ("input_blocks.0.0", "conv_in"))
MIDDLE = (("middle_block.0", "mid_block.resnets.0"), ("middle_block.2", "mid_block.resnets.1"))
UNET_OUTPUT = (("out.0", "conv_norm_out"), ("out.2", "conv_out"))
HINTS = (("glyph_block", "glyph_block"), ("position_block", "position_block"), ("fuse_block_za", "fuse_block"),
         ("middle_block_out.0", "controlnet_mid_block"))
VAE_ENDS = (*((f"{side}.{end}", f"{side}.{end}") for side in ("encoder", "decoder") for end in ("conv_in", "conv_out")),
            *((f"{side}.norm_out", f"{side}.conv_norm_out") for side in ("encoder", "decoder")),
            ("quant_conv", "quant_conv"), ("post_quant_conv", "post_quant_conv"))
CLIP = (("transformer.text_model.embeddings", "embeddings"), ("transformer.text_model.encoder", "encoder"),
        ("transformer.text_model.final_layer_norm", "final_layer_norm"))
EMBEDDING = (("proj", "glyph_proj"), ("position_encoder", "position_encoder"), ("font_predictor", "style_recognizer"),
             ("style_proj", "style_proj"), ("color_proj", "color_proj"))
RECOGNIZER = (("backbone", "backbone"), ("neck", "neck"), ("head", "head"))


class UnknownKeysError(AnyTextError, ValueError):
    """Names of tensors that no rule knows; ``names`` lists them all, the message the first ones."""

    def __init__(self, names: Iterable[str], where: str):
        self.names = sorted(names)
        shown = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
        super().__init__(f"{len(self.names)} unexpected tensors in {where}: {shown}")


def within(blocks: Iterable[tuple[str, str]], inner: Iterable[tuple[str, str]]) -> Pairs:
    """Each pair of ``inner`` inside each pair of ``blocks``."""
    return [(f"{theirs}.{a}", f"{ours}.{b}") for (theirs, ours), (a, b) in product(blocks, list(inner))]


def encoder_pairs(config: Config) -> Pairs:
    """Time embedding, first convolution, encoder and middle block: what the UNet and WriteNet have in common.

    Upstream numbers the encoder's layers through: after layer 0, each level has n residual blocks and, except for
    the last one, a downsampler.
    """
    n, levels = config["layers_per_block"], len(config["block_out_channels"])
    at = [(f"input_blocks.{b * (n + 1) + 1 + r}", f"down_blocks.{b}", r) for b, r in product(range(levels), range(n))]
    resnets = [(f"{theirs}.0", f"{ours}.resnets.{r}") for theirs, ours, r in at]
    attended = _with_attention(config["down_block_types"], n)
    return [
        *TIME_AND_INPUT,
        *within([*resnets, *MIDDLE], RESNET),
        *((f"{theirs}.1", f"{ours}.attentions.{r}") for (theirs, ours, r), on in zip(at, attended, strict=True) if on),
        ("middle_block.1", "mid_block.attentions.0"),
        *((f"input_blocks.{b * (n + 1)}.0.op", f"down_blocks.{b - 1}.downsamplers.0.conv") for b in range(1, levels)),
    ]


def unet_pairs(config: Config) -> Pairs:
    """The whole UNet; ``attn1x`` and ``attn2x`` have the same names on both sides.

    The decoder has one residual block more a level.  Its upsampler is the last item of a level's last layer: item 2
    after an attention, else item 1.
    """
    n, levels = config["layers_per_block"] + 1, len(config["block_out_channels"])
    at = [(f"output_blocks.{b * n + r}", f"up_blocks.{b}", r) for b, r in product(range(levels), range(n))]
    attended = _with_attention(config["up_block_types"], n)
    return [
        *encoder_pairs(config),
        *within([(f"{theirs}.0", f"{ours}.resnets.{r}") for theirs, ours, r in at], RESNET),
        *((f"{theirs}.1", f"{ours}.attentions.{r}") for (theirs, ours, r), on in zip(at, attended, strict=True) if on),
        *((f"output_blocks.{b * n + n - 1}.{1 + attended[b * n]}.conv", f"up_blocks.{b}.upsamplers.0.conv")
          for b in range(levels - 1)),
        *UNET_OUTPUT,
    ]


def writenet_pairs(config: Config) -> Pairs:
    """WriteNet: an encoder, the blocks that read the hints, and one output convolution a scale."""
    scales = len(config["block_out_channels"]) * (config["layers_per_block"] + 1)
    return [*encoder_pairs(config), *HINTS,
            *((f"zero_convs.{i}.0", f"controlnet_down_blocks.{i}") for i in range(scales))]


def vae_pairs(config: Config) -> Pairs:
    """The autoencoder; upstream counts the decoder's levels from the finest, diffusers from the coarsest."""
    n, levels = config["layers_per_block"], len(config["block_out_channels"])
    down = [(f"encoder.down.{b}.block.{r}", f"encoder.down_blocks.{b}.resnets.{r}")
            for b, r in product(range(levels), range(n))]
    up = [(f"decoder.up.{levels - 1 - b}.block.{r}", f"decoder.up_blocks.{b}.resnets.{r}")
          for b, r in product(range(levels), range(n + 1))]
    middle = [(f"{side}.mid.block_{r + 1}", f"{side}.mid_block.resnets.{r}")
              for side, r in product(("encoder", "decoder"), range(2))]
    attention = [(f"{side}.mid.attn_1", f"{side}.mid_block.attentions.0") for side in ("encoder", "decoder")]
    return [
        *VAE_ENDS, *within([*down, *up, *middle], VAE_RESNET), *within(attention, VAE_ATTENTION),
        *((f"encoder.down.{b}.downsample", f"encoder.down_blocks.{b}.downsamplers.0") for b in range(levels - 1)),
        *((f"decoder.up.{levels - 1 - b}.upsample", f"decoder.up_blocks.{b}.upsamplers.0") for b in range(levels - 1)),
    ]


def _with_attention(types: Iterable[str], layers: int) -> list[bool]:
    """List for every layer of every block whether it has an attention, by the type of its block."""
    return ["Attn" in kind for kind in types for _ in range(layers)]


class Part(NamedTuple):
    """A part of the model: its prefix in upstream's checkpoint and its table of names."""

    prefix: str
    pairs: Callable[[Config], Iterable[tuple[str, str]]]


PARTS: dict[str, Part] = {
    "unet": Part("model.diffusion_model.", unet_pairs),
    "writenet": Part("control_model.", writenet_pairs),
    "vae": Part("first_stage_model.", vae_pairs),
    "text_encoder": Part("cond_stage_model.", lambda config: CLIP),
    "text_embedding": Part("embedding_manager.", lambda config: EMBEDDING),
    "recognizer": Part("text_predictor.", lambda config: RECOGNIZER),
}


class KeyMap:
    """Translates the names of one part (without the prefix of the part), and shapes where the two sides differ.

    Args:
        part: a key of ``PARTS``, which is also the name of the child of ``AnyText2Model``.
        config: the part's configuration; only unet, writenet and vae need one.
    """

    def __init__(self, part: str, config: Config | None = None):
        self.part, pairs = part, list(PARTS[part].pairs(config or {}))
        self._ours, self._theirs = dict(pairs), {ours: theirs for theirs, ours in pairs}

    def to_ours(self, name: str) -> str | None:
        """Our name for upstream's, None if it is unknown."""
        return _translate(name, self._ours)

    def to_upstream(self, name: str) -> str | None:
        """Upstream's name for ours, None if it is unknown."""
        return _translate(name.removeprefix("text_model.") if self.part == "text_encoder" else name, self._theirs)

    def shape_to_ours(self, ours: str, tensor: torch.Tensor) -> torch.Tensor:
        """The VAE's attention is of 1 x 1 convolutions upstream, (C, C, 1, 1), and of linear layers here, (C, C)."""
        return tensor.flatten(1) if self._is_linear(ours) and tensor.ndim == 4 else tensor

    def shape_to_upstream(self, ours: str, tensor: torch.Tensor) -> torch.Tensor:
        """The inverse of ``shape_to_ours``."""
        return tensor[:, :, None, None] if self._is_linear(ours) and tensor.ndim == 2 else tensor

    def _is_linear(self, ours: str) -> bool:
        return self.part == "vae" and ".attentions." in ours and ours.endswith(".weight")

    def state_to_ours(self, state: Mapping[str, torch.Tensor]) -> State:
        """A whole state dict under our names. UnknownKeysError: it has tensors that this part does not."""
        names = {name: self.to_ours(name) for name in state}
        self._refuse(names, "upstream's")
        return {ours: self.shape_to_ours(ours, state[name]) for name, ours in names.items()}

    def state_to_upstream(self, state: Mapping[str, torch.Tensor]) -> State:
        """A whole state dict under upstream's names. UnknownKeysError: it has tensors that this part does not."""
        names = {name: self.to_upstream(name) for name in state}
        self._refuse(names, "our")
        return {theirs: self.shape_to_upstream(name, state[name]) for name, theirs in names.items()}

    def _refuse(self, names: Mapping[str, str | None], whose: str) -> None:
        unknown = [name for name, other in names.items() if other is None]
        if unknown:
            raise UnknownKeysError(unknown, f"{whose} {self.part} (is its configuration another one?)")


def _translate(name: str, table: Mapping[str, str]) -> str | None:
    stem, tail = name, ""
    while stem:
        if stem in table:
            return table[stem] + tail
        stem, dot, last = stem.rpartition(".")
        tail = dot + last + tail
    return None
