"""The UNet with extra attentions: what they add, where they are, storing, and the encoder without gradient."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from anytext_lib.models.attnx import AttnXUNet, build_attnx_unet, copy_attentions, set_attnx_scale, unet_arguments

TINY = {"block_out_channels": [8, 16, 16], "attention_levels": [1, 2], "layers_per_block": 1, "num_heads": 2,
        "cross_attention_dim": 12, "norm_num_groups": 4, "attnx_mid": True, "attnx_levels": [1]}
INPUT = (torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(1)), torch.tensor([5, 900]),
         torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(2)))


def tiny(**changes) -> AttnXUNet:
    torch.manual_seed(0)
    return build_attnx_unet(TINY | changes)


def test_it_is_diffusers_unet_where_attnx_is_off():
    unet = tiny()
    plain = UNet2DConditionModel(**{name: value for name, value in unet_arguments(TINY).items()
                                    if not name.startswith("attnx")})
    plain.load_state_dict({name: value for name, value in unet.state_dict().items() if "x." not in name})
    set_attnx_scale(unet, 0)
    with torch.no_grad():
        torch.testing.assert_close(unet(*INPUT).sample, plain(*INPUT).sample)


def test_odd_sizes_are_as_in_diffusers():
    unet = tiny(attnx_mid=False, attnx_levels=[])
    plain = UNet2DConditionModel(**{name: value for name, value in unet_arguments(TINY).items()
                                    if not name.startswith("attnx")})
    plain.load_state_dict(unet.state_dict())
    odd = (INPUT[0][:, :, :7, :9], *INPUT[1:])
    with torch.no_grad():
        torch.testing.assert_close(unet(*odd).sample, plain(*odd).sample)


def test_extra_attentions_are_where_they_were_asked_for_and_start_as_copies():
    unet = tiny()
    names = {name.rpartition(".attn1x")[0] for name in unet.state_dict() if "attn1x" in name}
    assert names == {"mid_block.attentions.0.transformer_blocks.0", "up_blocks.1.attentions.0.transformer_blocks.0",
                     "up_blocks.1.attentions.1.transformer_blocks.0"}
    state = unet.state_dict()
    extra = [name for name in state if "attn1x" in name or "attn2x" in name]
    assert len(extra) == 30  # three blocks, two attentions, q, k, v and the output's weight and bias
    assert all(torch.equal(state[name], state[name.replace("x.", ".", 1)]) for name in extra)


def test_copies_can_be_made_anew():
    unet = tiny()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    copy_attentions(unet)
    state = unet.state_dict()
    assert all(torch.equal(state[name], state[name.replace("x.", ".", 1)]) for name in state if "attn2x" in name)


def test_scale_changes_the_output():
    unet = tiny()
    with torch.no_grad():
        full, again = unet(*INPUT).sample, unet(*INPUT).sample
        set_attnx_scale(unet, 0.5)
        half = unet(*INPUT).sample
    assert torch.equal(full, again) and not torch.allclose(full, half)
    assert "attnx_scale" not in "".join(unet.state_dict())


@pytest.mark.filterwarnings("ignore::UserWarning:diffusers")
def test_diffusers_stores_and_loads_it(tmp_path, caplog):
    unet = tiny()
    unet.save_pretrained(tmp_path)
    loaded = AttnXUNet.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert loaded.config.attnx_levels == [1] and loaded.config.down_block_types[0] == "DownBlock2D"
    assert all(torch.equal(a, b) for a, b in zip(unet.state_dict().values(), loaded.state_dict().values(), strict=True))
    assert "not expected" not in caplog.text


@pytest.mark.parametrize(("setting", "frozen", "has_gradient"), [(None, False, True), (None, True, False),
                                                                 (True, False, False), (False, False, True)])
def test_encoder_runs_without_gradient(setting, frozen, has_gradient):
    unet = tiny()
    for parameter in unet.encoder_parameters():
        parameter.requires_grad_(not frozen)
    unet.encoder_no_grad = setting
    unet(*INPUT).sample.square().mean().backward()
    assert (unet.down_blocks[1].resnets[0].conv1.weight.grad is not None) == has_gradient
    assert (unet.time_embedding.linear_1.weight.grad is not None) == has_gradient
    assert unet.up_blocks[1].attentions[0].transformer_blocks[0].attn2x.to_q.weight.grad is not None


def test_masked_tokens_do_not_count():
    unet = tiny()
    sample, t, context = INPUT
    longer = torch.cat([context, 100 * torch.ones(2, 3, 12)], dim=1)
    mask = torch.arange(10)[None].expand(2, -1) < 7
    with torch.no_grad():
        torch.testing.assert_close(unet(sample, t, longer, encoder_attention_mask=mask).sample,
                                   unet(sample, t, context).sample)


def test_gradient_checkpointing_gives_the_same_gradients():
    unet, norms = tiny(), []
    for on in (False, True):
        if on:
            unet.enable_gradient_checkpointing()
        unet.zero_grad()
        unet(*INPUT).sample.square().mean().backward()
        norms.append(torch.stack([parameter.grad.norm() for parameter in unet.parameters()]))
    torch.testing.assert_close(*norms)


@pytest.mark.parametrize(("change", "message"), [({"attnx_levels": [0]}, "level 0, which has no attention"),
                                                 ({"attention_levels": [3]}, "names \\[3\\]"),
                                                 ({"heads": 3}, "unknown entries.*heads")])
def test_wrong_configurations(change, message):
    with pytest.raises(ValueError, match=message):
        tiny(**change)


def test_wrong_arguments():
    unet = tiny()
    with pytest.raises(ValueError, match="6 skip connections, got 1"):
        unet(*INPUT, down_block_additional_residuals=[INPUT[0]])
    with pytest.raises(ValueError, match="does not take class_labels"):
        unet(*INPUT, class_labels=torch.zeros(2))
    with pytest.raises(ValueError, match="timesteps"):
        unet(INPUT[0], torch.tensor([1, 2, 3]), INPUT[2])
