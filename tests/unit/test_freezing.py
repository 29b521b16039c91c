"""The rule table of what is trained, on the tiny model."""

from __future__ import annotations

import pytest
import torch

from anytext_lib.models import AnyText2Model
from anytext_lib.models.freezing import RULES, Freezing, apply, count, group_of, trainable_parameters


@pytest.fixture(scope="module")
def tiny() -> AnyText2Model:
    return AnyText2Model.from_config("tiny", pretrained_recognizer=False)


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name, switches, group", [
    ("writenet.conv_in.weight", {}, "writenet"),
    ("text_embedding.glyph_proj.0.weight", {}, "text_embedding"),
    ("text_embedding.style_recognizer.head.fc.bias", {}, "style_recognizer"),
    ("text_embedding.style_recognizer.head.fc.bias", {"style_ocr_trainable": False}, None),
    ("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2x.to_q.weight", {}, "attnx"),
    ("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2x.to_q.weight", {"sd_locked": False}, "attnx"),
    ("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q.weight", {}, None),
    ("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q.weight", {"unlock_qkv": True}, "unet_qkv"),
    ("unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q.weight",
     {"unlock_qkv": True, "sd_locked": False}, "unet_decoder"),
    ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v.weight", {"unlock_qkv": True}, "unet_qkv"),
    ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v.weight", {"unlock_qkv": True}, None),
    ("unet.conv_in.weight", {"sd_locked": False}, None),
    ("unet.conv_in.weight", {"train_all": True}, "unet_encoder"),
    ("unet.conv_out.weight", {"sd_locked": False}, "unet_decoder"),
    ("text_encoder.final_layer_norm.weight", {}, None),
    ("text_encoder.final_layer_norm.weight", {"cond_stage_trainable": True}, "text_encoder"),
    ("vae.encoder.conv_in.weight", {"train_all": True}, None),
    ("recognizer.head.fc.weight", {"train_all": True}, None),
])
def test_table(name, switches, group):
    assert group_of(name, Freezing(**switches)) == group


@pytest.mark.parametrize("switches", [{}, {"unlock_qkv": True}, {"sd_locked": False},
                                      {"sd_locked": False, "unlock_qkv": True}, {"train_all": True}], ids=str)
def test_apply_sets_exactly_what_is_listed_and_each_once(tiny, switches):
    groups = apply(tiny, **switches)
    names = [name for members in groups.values() for name, _ in members]
    assert len(names) == len(set(names)) and set(names) == trained(tiny)
    assert len({id(p) for members in groups.values() for _, p in members}) == len(names)
    assert set(groups) <= {rule.group for rule in RULES} and all(groups.values())
    assert {name: len(members) for name, members in groups.items()} == {k: n for k, (n, _) in count(groups).items()}


def test_training_everything_leaves_out_only_auto_encoder_and_recogniser(tiny):
    apply(tiny, train_all=True)
    frozen = {name.split(".")[0] for name, p in tiny.named_parameters() if not p.requires_grad}
    assert frozen == {"vae", "recognizer"}


def test_apply_takes_back_what_it_unlocked(tiny):
    apply(tiny, Freezing(sd_locked=False, cond_stage_trainable=True))
    apply(tiny, Freezing())
    assert not any(name.startswith(("unet.up_blocks.0.resnets", "text_encoder")) for name in trained(tiny))
    assert trained(tiny) == {name for members in trainable_parameters(tiny).values() for name, _ in members}


def test_modes(tiny):
    apply(tiny, style_ocr_trainable=False)
    assert tiny.writenet.training and tiny.unet.training and tiny.text_embedding.training
    assert not (tiny.vae.training or tiny.text_encoder.training or tiny.recognizer.training)
    assert not tiny.text_embedding.style_recognizer.training


def test_encoder_runs_without_gradient_unless_it_is_trained(tiny):
    apply(tiny)
    assert not tiny.unet._encoder_has_grad()
    apply(tiny, sd_locked=False)
    assert not tiny.unet._encoder_has_grad()
    apply(tiny, train_all=True)
    assert tiny.unet._encoder_has_grad()


def test_wrong_use_is_refused(tiny):
    with pytest.raises(TypeError, match="not both"):
        apply(tiny, Freezing(), sd_locked=False)
    with pytest.raises(TypeError, match="sd_unlocked"):
        apply(tiny, sd_unlocked=True)
