"""Attention maps out of diffusers UNets."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from anytext_lib.models.attnx import build_attnx_unet
from anytext_lib.udifftext import attention_memory, capture_attention, cross_attention_names, local_attention_loss
from anytext_lib.udifftext.attention import map_size

TOKENS = 5


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), block_out_channels=(16, 32), layers_per_block=1,
        cross_attention_dim=24, attention_head_dim=4, norm_num_groups=8).eval().requires_grad_(False)


def inputs(batch: int = 2, size: tuple[int, int] = (16, 16)) -> tuple[torch.Tensor, int, torch.Tensor]:
    return torch.randn(batch, 4, *size), 300, torch.randn(batch, TOKENS, 24)


def test_maps_of_every_text_attention_and_the_same_output(unet):
    x, t, context = inputs()
    plain, names = unet(x, t, context).sample, cross_attention_names(unet)
    with capture_attention(unet) as maps:
        seen = unet(x, t, context).sample
    torch.testing.assert_close(seen, plain, atol=1e-5, rtol=1e-5)
    assert sorted(maps.maps) == sorted(names) and all(name.endswith("attn2") for name in names)
    for layer in maps.layers():
        assert layer.shape[:2] == (2, TOKENS)
        torch.testing.assert_close(layer.sum(dim=1), torch.ones(2, *layer.shape[2:]))  # tokens share each position


def test_the_fast_processors_are_back_afterwards_even_after_an_error(unet):
    before = [type(p) for p in unet.attn_processors.values()]
    with pytest.raises(ZeroDivisionError), capture_attention(unet):
        raise ZeroDivisionError
    assert [type(p) for p in unet.attn_processors.values()] == before
    with capture_attention(unet) as maps:
        pass
    unet(*inputs())
    assert maps.maps == {}


def test_chosen_layers(unet):
    with capture_attention(unet, ["up_blocks.*"]) as maps:
        unet(*inputs())
    assert maps.maps and all(name.startswith("up_blocks.") for name in maps.maps)
    with pytest.raises(ValueError, match="matches 'output_blocks.*'; there are down_blocks"), \
            capture_attention(unet, ["output_blocks.*"]):
        pass


def test_no_pass_no_maps(unet):
    with capture_attention(unet) as maps, pytest.raises(RuntimeError, match="no attention was captured"):
        maps.layers()


def test_the_gradient_of_a_loss_reaches_the_latents_and_the_context(unet):
    x, t, context = inputs()
    x.requires_grad_(True)
    context.requires_grad_(True)
    segments = torch.zeros(2, TOKENS, 16, 16)
    segments[:, :, :8] = 1
    with capture_attention(unet) as maps:
        unet(x, t, context)
    local_attention_loss(maps.layers(), segments, torch.ones(2, TOKENS), min_size=8).sum().backward()
    assert x.grad.abs().sum() > 0 and context.grad.abs().sum() > 0


def test_maps_that_are_not_square(unet):
    with capture_attention(unet) as maps:
        unet(*inputs(size=(8, 24)))
    assert {tuple(layer.shape[-2:]) for layer in maps.layers()} == {(8, 24), (4, 12)}


def test_attnx_is_captured_too_and_a_mask_of_the_context_counts():
    torch.manual_seed(0)
    network = build_attnx_unet({"block_out_channels": [16, 32], "attention_levels": [0, 1], "layers_per_block": 1,
                                "num_heads": 2, "cross_attention_dim": 24, "norm_num_groups": 8, "attnx_levels": [1]})
    keep = torch.ones(2, TOKENS)
    keep[:, 3:] = 0
    with torch.no_grad(), capture_attention(network) as maps:
        network(*inputs(), encoder_attention_mask=keep)
    assert any(name.endswith("attn2x") for name in maps.maps)
    assert all(float(layer[:, 3:].max()) < 1e-6 for layer in maps.layers())


def test_memory_is_what_is_kept(unet):
    rows = attention_memory(unet, (16, 16), batch_size=2, tokens=TOKENS)
    with torch.no_grad(), capture_attention(unet) as maps:
        unet(*inputs())
    assert {row.name: row.mean for row in rows} == {name: layer.nbytes for name, layer in maps.maps.items()}
    assert all(row.total == row.mean * (1 + row.heads) for row in rows)


def test_memory_of_the_official_size_without_making_it():
    with torch.device("meta"):
        network = UNet2DConditionModel(sample_size=64, in_channels=9, cross_attention_dim=2048,
                                       attention_head_dim=(5, 10, 20, 20), use_linear_projection=True)
    rows = attention_memory(network, (64, 64), batch_size=1, tokens=12)
    finest = max(rows, key=lambda row: row.probabilities)
    assert len(rows) == 16 and finest.size == (64, 64) and finest.probabilities == 5 * 64 * 64 * 12 * 4
    assert sum(row.total for row in rows) == 9_956_352  # 9.5 MiB a row of the batch


def test_sizes_that_cannot_be():
    assert map_size((9, 15), 5 * 8) == (5, 8)
    with pytest.raises(ValueError, match="no halving of 16 x 16 latents has 100 positions"):
        map_size((16, 16), 100)
    with pytest.raises(ValueError, match="call the UNet itself"):
        map_size(None, 100)
