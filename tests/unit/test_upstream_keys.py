"""Names of tensors: upstream's and ours, for several sizes, against the modules of diffusers and transformers."""

from __future__ import annotations

import pytest
import torch

from anytext_lib.models import AnyText2Model, read_config
from anytext_lib.upstream.keys import PARTS, KeyMap, UnknownKeysError


def meta_model(**unet) -> AnyText2Model:
    """The tiny model with another UNet and with an attention in the auto-encoder, without memory."""
    config = read_config("tiny")
    config["unet"] |= unet
    config["vae"]["mid_block_add_attention"] = True
    with torch.device("meta"):
        return AnyText2Model(config)


SIZES = {
    "tiny": {},
    "three levels, two layers": {"block_out_channels": [16, 32, 32], "attention_levels": [1], "layers_per_block": 2},
    "attention everywhere but in the middle level": {"block_out_channels": [8, 16, 16], "attention_levels": [0, 2],
                                                     "attnx_levels": [2]},
    "no extra attention in the decoder": {"attnx_levels": [], "attnx_mid": False, "attention_levels": []},
}


@pytest.mark.parametrize("unet", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("part", PARTS)
def test_every_tensor_has_one_name_on_the_other_side(part, unet):
    model = meta_model(**unet)
    module = getattr(model, part)
    names = KeyMap(part, module.config if part in ("unet", "writenet", "vae") else None)
    state = module.state_dict()
    theirs = names.state_to_upstream(state)
    assert len(theirs) == len(state)
    back = names.state_to_ours(theirs)
    assert {name: value.shape for name, value in back.items()} == {name: value.shape for name, value in state.items()}


@pytest.mark.parametrize("part, theirs, ours", [
    ("unet", "input_blocks.0.0.weight", "conv_in.weight"),
    ("unet", "time_embed.2.bias", "time_embedding.linear_2.bias"),
    ("unet", "input_blocks.4.0.skip_connection.weight", "down_blocks.1.resnets.0.conv_shortcut.weight"),
    ("unet", "input_blocks.6.0.op.bias", "down_blocks.1.downsamplers.0.conv.bias"),
    ("unet", "input_blocks.11.0.in_layers.2.weight", "down_blocks.3.resnets.1.conv1.weight"),
    ("unet", "middle_block.2.emb_layers.1.weight", "mid_block.resnets.1.time_emb_proj.weight"),
    ("unet", "output_blocks.2.1.conv.weight", "up_blocks.0.upsamplers.0.conv.weight"),
    ("unet", "output_blocks.8.2.conv.weight", "up_blocks.2.upsamplers.0.conv.weight"),
    ("unet", "output_blocks.3.1.transformer_blocks.0.attn1x.to_out.0.bias",
     "up_blocks.1.attentions.0.transformer_blocks.0.attn1x.to_out.0.bias"),
    ("unet", "out.2.weight", "conv_out.weight"),
    ("writenet", "zero_convs.11.0.bias", "controlnet_down_blocks.11.bias"),
    ("writenet", "middle_block_out.0.weight", "controlnet_mid_block.weight"),
    ("writenet", "fuse_block_za.weight", "fuse_block.weight"),
    ("vae", "decoder.up.3.block.0.norm1.weight", "decoder.up_blocks.0.resnets.0.norm1.weight"),
    ("vae", "decoder.up.0.block.0.nin_shortcut.weight", "decoder.up_blocks.3.resnets.0.conv_shortcut.weight"),
    ("vae", "encoder.down.2.downsample.conv.bias", "encoder.down_blocks.2.downsamplers.0.conv.bias"),
    ("vae", "encoder.mid.attn_1.proj_out.weight", "encoder.mid_block.attentions.0.to_out.0.weight"),
    ("text_encoder", "transformer.text_model.encoder.layers.3.mlp.fc1.bias", "encoder.layers.3.mlp.fc1.bias"),
    ("text_embedding", "font_predictor.head.fc.bias", "style_recognizer.head.fc.bias"),
    ("text_embedding", "proj.0.weight", "glyph_proj.0.weight"),
    ("recognizer", "neck.encoder.conv4.norm.num_batches_tracked", "neck.encoder.conv4.norm.num_batches_tracked"),
])
def test_names_of_the_official_size(part, theirs, ours):
    levels = {"layers_per_block": 2, "block_out_channels": (1, 2, 4, 4),
              "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
              "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3}
    names = KeyMap(part, levels)
    assert names.to_ours(theirs) == ours and names.to_upstream(ours) == theirs


def test_auto_encoders_attention_changes_shape():
    state = {"encoder.mid.attn_1.q.weight": torch.arange(9.0).reshape(3, 3, 1, 1),
             "encoder.mid.attn_1.q.bias": torch.ones(3), "quant_conv.weight": torch.ones(8, 8, 1, 1)}
    config = {"layers_per_block": 1, "block_out_channels": (4, 4)}
    names = KeyMap("vae", config)
    ours = names.state_to_ours(state)
    assert ours["encoder.mid_block.attentions.0.to_q.weight"].shape == (3, 3)
    assert ours["quant_conv.weight"].shape == (8, 8, 1, 1)
    back = names.state_to_upstream(ours)
    assert all(torch.equal(back[name], value) for name, value in state.items())


def test_clip_with_and_without_the_prefix():
    names = KeyMap("text_encoder")
    assert names.to_upstream("text_model.final_layer_norm.bias") == names.to_upstream("final_layer_norm.bias")
    assert set(names.state_to_ours({"transformer.text_model.final_layer_norm.bias": torch.ones(1)})) == {
        "final_layer_norm.bias"}


def test_prefixes_end_at_dots():
    assert KeyMap("text_embedding").to_ours("projection.weight") is None
    assert KeyMap("text_embedding").to_ours("proj") == "glyph_proj"


def test_unknown_names_are_refused_and_listed():
    with pytest.raises(UnknownKeysError, match="2 unexpected tensors in upstream's text_embedding") as caught:
        KeyMap("text_embedding").state_to_ours({"proj.0.bias": torch.ones(1), "y": torch.ones(1), "x.z": torch.ones(1)})
    assert caught.value.names == ["x.z", "y"]
    with pytest.raises(UnknownKeysError, match="our text_embedding"):
        KeyMap("text_embedding").state_to_upstream({"proj.0.bias": torch.ones(1)})


def test_attention_where_the_configuration_has_none_is_refused():
    config = meta_model(attention_levels=[], attnx_levels=[], attnx_mid=False).unet.config
    with pytest.raises(UnknownKeysError, match=r"input_blocks.1.1.norm.weight"):
        KeyMap("unet", config).state_to_ours({"input_blocks.1.1.norm.weight": torch.ones(1)})
