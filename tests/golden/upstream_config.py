"""Upstream's configurations (YAML of ldm and AnyText2) as this library's, for the golden cases."""

from __future__ import annotations

from collections.abc import Mapping

from anytext_lib.models.attnx import unet_arguments
from anytext_lib.models.config import SHARED

SUPPORTED = {"use_spatial_transformer": True, "transformer_depth": 1, "legacy": False, "input_attnx": False,
             "glyph_channels": 1, "position_channels": 1, "emb_type": "ocr", "big_linear": False,
             "color_big_linear": False, "color_fourier_encode": False, "add_style_conv": False}
"""Entries that must have this value, where they are given, to be understood here."""


def unet_from_yaml(upstream: Mapping) -> dict:
    """The section "unet" for a ``ControlledUnetModel``; ValueError for what this library does not have."""
    levels = upstream.get("output_attnx_level", []) if upstream.get("output_attnx") else []
    return _encoder(upstream) | {"out_channels": upstream.get("out_channels", 4),
                                 "attnx_mid": bool(upstream.get("mid_attnx")), "attnx_levels": list(levels)}


def writenet_from_yaml(upstream: Mapping) -> dict:
    """Arguments of ``WriteNet`` for a ``ControlNet``; ValueError for what this library does not have."""
    unet = unet_arguments(_encoder(upstream))
    return {name: unet[name] for name in SHARED} | {"fast_control": bool(upstream.get("fast_control")),
                                                    "glyph_scale": upstream.get("glyph_scale", 1), "latent_factor": 8}


def text_embedding_from_yaml(upstream: Mapping, width: int = 768) -> dict:
    """The section "text_embedding" for an ``EmbeddingManager``; ValueError for what this library does not have."""
    _refuse_others(upstream)
    return {"width": width, "glyph": True, "position": bool(upstream.get("add_pos")),
            "style": bool(upstream.get("add_style_ocr")), "color": bool(upstream.get("add_color")),
            "style_trainable": bool(upstream.get("style_ocr_trainable", True)),
            "skip_missing": bool(upstream.get("enable_flag", True))}


def _encoder(upstream: Mapping) -> dict:
    _refuse_others(upstream)
    channels = [upstream["model_channels"] * factor for factor in upstream["channel_mult"]]
    return {"in_channels": upstream["in_channels"], "block_out_channels": channels,
            "attention_levels": [level for level in range(len(channels))
                                 if 2**level in upstream["attention_resolutions"]],
            "layers_per_block": upstream["num_res_blocks"], "num_heads": upstream["num_heads"],
            "cross_attention_dim": upstream["context_dim"], "norm_num_groups": 32}


def _refuse_others(upstream: Mapping) -> None:
    for name, value in SUPPORTED.items():
        if upstream.get(name, value) != value:
            raise ValueError(f"upstream's configuration has {name} = {upstream[name]!r}; only {value!r} is supported")
