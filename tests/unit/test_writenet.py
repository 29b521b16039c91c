"""The control branch: what it sees, its sizes, its zero start."""

from __future__ import annotations

import pytest
import torch

from anytext_lib.models.attnx import build_attnx_unet
from anytext_lib.models.writenet import WriteNet, hint_block

ENCODER = {"block_out_channels": (8, 16), "layers_per_block": 1, "cross_attention_dim": 12, "norm_num_groups": 4}
TINY = ENCODER | {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 2,
                  "latent_factor": 4, "glyph_channels": (4, 8, 8), "position_channels": (4, 4, 8)}


def tiny(randomised: bool = True, **changes) -> WriteNet:
    torch.manual_seed(0)
    network = WriteNet(**(TINY | changes))
    if randomised:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def inputs(scale: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    ink = (torch.rand(2, 1, 32 * scale, 48 * scale, generator=generator) > 0.5).float()
    return {"glyphs": ink, "positions": torch.randint(0, 3, (2, 1, 32, 48), generator=generator).float(),
            "masked_latents": torch.randn(2, 4, 8, 12, generator=generator),
            "text_context": torch.randn(2, 77, 12, generator=generator)}


def latents() -> dict[str, torch.Tensor]:
    return {"noisy_latents": torch.randn(2, 4, 8, 12), "timesteps": torch.tensor([3, 600])}


@torch.no_grad()
def test_it_adds_nothing_at_first():
    out = tiny(randomised=False)(**inputs())
    assert [tuple(value.shape[1:]) for value in out.down] == [(8, 8, 12), (8, 8, 12), (8, 4, 6), (16, 4, 6)]
    assert all((value == 0).all() for value in [*out.down, out.mid])


@torch.no_grad()
def test_fast_control_does_not_see_the_noise():
    network = tiny()
    a, b = network(**inputs()), network(**inputs(), **latents())
    assert all(torch.equal(x, y) for x, y in zip([*a.down, a.mid], [*b.down, b.mid], strict=True))


@torch.no_grad()
def test_slow_control_sees_the_noise():
    network = tiny(fast_control=False)
    a, b = (network(**inputs(), **latents()) for _ in range(2))
    assert not torch.allclose(a.mid, b.mid)
    with pytest.raises(ValueError, match="noisy_latents and timesteps"):
        network(**inputs())


def test_first_convolution_gets_a_zero_gradient_with_fast_control():
    network = tiny()
    network(**inputs()).mid.square().mean().backward()
    assert (network.conv_in.weight.grad == 0).all() and (network.conv_in.bias.grad != 0).any()


@torch.no_grad()
def test_glyphs_are_ink_or_not_and_positions_are_sums():
    network, given = tiny(), inputs()
    plain = network.hint(given["glyphs"], given["positions"], given["masked_latents"])
    coloured = network.hint(0.3 * given["glyphs"], given["positions"], given["masked_latents"])
    clamped = network.hint(given["glyphs"], given["positions"].clamp(max=1), given["masked_latents"])
    assert torch.equal(plain, coloured) and not torch.allclose(plain, clamped)


@torch.no_grad()
def test_larger_glyph_images():
    network = tiny(glyph_scale=2, glyph_channels=(4, 4, 8, 8))
    assert network(**inputs(scale=2)).mid.shape == (2, 16, 4, 6)
    with pytest.raises(ValueError, match="glyphs have shape .*8 times"):
        network(**inputs())


def test_upstream_hint_blocks():
    """The indices of layers are those of upstream's names."""
    block = hint_block("glyph_channels", (16, 32, 96, 256), 8)
    shapes = {name: tuple(value.shape[:2]) for name, value in block.state_dict().items() if name.endswith("weight")}
    assert shapes == {"0.weight": (16, 1), "2.weight": (16, 16), "4.weight": (32, 16), "6.weight": (32, 32),
                      "8.weight": (96, 32), "10.weight": (96, 96), "12.weight": (256, 96)}


@pytest.mark.parametrize(("change", "message"), [({"latent_factor": 6}, "powers of two"),
                                                 ({"latent_factor": 8}, "shrinking 8 times takes 4"),
                                                 ({"down_block_types": ("DownBlock2D",)}, "1 down_block_types")])
def test_wrong_configurations(change, message):
    with pytest.raises(ValueError, match=message):
        tiny(**change)


def test_encoder_is_copied_from_the_unet():
    config = {name: list(value) if isinstance(value, tuple) else value for name, value in ENCODER.items()}
    unet = build_attnx_unet(config | {"attention_levels": [0], "num_heads": 2, "attnx_levels": [0]})
    network = tiny()
    network.copy_encoder(unet)
    for name in ("conv_in.weight", "time_embedding.linear_2.bias", "mid_block.attentions.0.proj_in.weight",
                 "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"):
        assert torch.equal(network.get_parameter(name), unet.get_parameter(name))
    with pytest.raises(ValueError, match="does not fit WriteNet at conv_in.weight"):
        tiny(block_out_channels=(16, 16)).copy_encoder(unet)


@torch.no_grad()
def test_residuals_can_be_scaled_and_cut():
    out = tiny()(**inputs())
    assert out.scaled(1) is out and torch.equal(out.scaled(0.5).mid, 0.5 * out.mid)
    assert out.mid_only().down is None and out.mid_only().scaled(2).down is None


def test_it_is_stored_by_diffusers(tmp_path):
    network = tiny()
    network.save_pretrained(tmp_path)
    loaded = WriteNet.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), loaded.parameters(), strict=True))
