"""The assembled model: its parts, conditions, forward and backward, storing, and the official sizes."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch

from anytext_lib.diffusion import scaled_linear_abar
from anytext_lib.models import (
    AnyText2Model,
    Conditions,
    ModelConfigError,
    StorageError,
    TokenizerError,
    config_names,
    read_config,
)
from tests.unit.model_batch import make_batch


@pytest.fixture(scope="module")
def tiny() -> AnyText2Model:
    torch.manual_seed(0)
    return AnyText2Model.from_config("tiny").eval()


def test_official_sizes():
    with torch.device("meta"):
        model = AnyText2Model.from_config("sd15")
    found = {name: (len(part.state_dict()), sum(value.numel() for value in part.state_dict().values()))
             for name, part in model.named_children()}
    assert found == {"vae": (248, 83653863), "unet": (756, 917042884), "writenet": (354, 361511208),
                     "text_embedding": (252, 8756225), "text_encoder": (196, 123060480), "recognizer": (228, 2652289)}
    extra = [value.numel() for name, value in model.unet.named_parameters() if "attn1x" in name or "attn2x" in name]
    assert (len(extra), sum(extra)) == (70, 57521920)


def test_forward_and_backward(tiny):
    batch = make_batch()
    latents, conditions = tiny.encode(batch.images), tiny.conditions(batch)
    assert latents.shape == (2, 4, 8, 16) and not latents.requires_grad
    with torch.no_grad():  # at first the control branch adds nothing, and says nothing about the text embedding
        tiny.writenet.controlnet_mid_block.weight.normal_(std=0.1)
    control = tiny.control(conditions)
    out = tiny(latents, torch.tensor([3, 700]), conditions, control)
    assert out.shape == latents.shape
    out.square().mean().backward()
    assert tiny.text_embedding.glyph_proj[0].weight.grad.norm() > 0
    assert tiny.text_embedding.style_recognizer.backbone.conv1._conv.weight.grad is not None
    assert tiny.unet.down_blocks[0].resnets[0].conv1.weight.grad is not None
    for part in (tiny.vae, tiny.text_encoder, tiny.recognizer):
        assert not any(parameter.requires_grad for parameter in part.parameters())
    with torch.no_grad():
        torch.testing.assert_close(tiny(latents, torch.tensor([3, 700]), conditions), out)
        alone = tiny(latents, torch.tensor([3, 700]), conditions, control_scale=0)
    assert not torch.allclose(alone, out)
    tiny.zero_grad()


def test_decoding_is_differentiable(tiny):
    latents = torch.randn(1, 4, 8, 8, requires_grad=True)
    images = tiny.decode(latents)
    assert images.shape == (1, 3, 64, 64)
    (gradient,) = torch.autograd.grad(images.mean(), latents)
    assert gradient.norm() > 0


@torch.no_grad()
def test_conditions(tiny):
    batch = make_batch()
    found = tiny.conditions(batch)
    assert found.image_context.shape == found.text_context.shape == (2, 77, 32) and found.image_mask is None
    torch.testing.assert_close(found.positions[0], batch.positions[0] + batch.positions[1])
    torch.testing.assert_close(found.masked_latents, tiny.encode(batch.masked_images))
    mixed = make_batch(editing=(1,), images=3, captions=["a", "b " * 90, "c"])
    found = tiny.conditions(mixed)
    torch.testing.assert_close(found.masked_latents, tiny.encode(mixed.masked_images))
    assert found.image_mask.sum(dim=1).tolist() == [77, 154, 77]
    known = torch.zeros(3, 4, 8, 16)
    assert tiny.conditions(mixed, masked_latents=known).masked_latents is known


@torch.no_grad()
def test_an_image_does_not_depend_on_its_batch(tiny):
    """Also with captions of different lengths: windows that another caption needs do not count."""
    batch = make_batch(captions=["a sign", "two words " * 20])
    conditions = tiny.conditions(batch)
    latents, t = tiny.encode(batch.images), torch.tensor([10, 500])
    together = tiny(latents, t, conditions)
    for row in range(2):
        short = conditions.select([row])
        if row == 0:
            short = replace(short, image_context=short.image_context[:, :77], image_mask=None)
        torch.testing.assert_close(tiny(latents[[row]], t[[row]], short), together[[row]], atol=1e-5, rtol=1e-4)
    joined = Conditions.cat([replace(conditions.select([0]), image_context=conditions.image_context[:1, :77],
                                     image_mask=None), conditions.select([1])])
    torch.testing.assert_close(tiny(latents, t, joined), together)


def test_conditions_can_be_moved_repeated_and_detached(tiny):
    conditions = tiny.conditions(make_batch())
    assert conditions.text_context.requires_grad and not conditions.detach().text_context.requires_grad
    assert len(conditions.repeat(3)) == 6 and conditions.to(torch.float64).glyphs.dtype == torch.float64


def test_a_batch_without_lines(tiny):
    batch = make_batch(boxes=())
    conditions = tiny.conditions(batch)
    tiny(tiny.encode(batch.images), torch.tensor([1, 2]), conditions).square().mean().backward()
    assert (tiny.text_embedding.glyph_proj[0].weight.grad == 0).all()
    tiny.zero_grad()


def test_slow_control_needs_the_latents():
    config = read_config("tiny")
    config["writenet"]["fast_control"] = False
    model = AnyText2Model.from_config(config, pretrained_recognizer=False)
    batch = make_batch()
    with torch.no_grad():
        conditions, latents = model.conditions(batch), model.encode(batch.images)
        assert model(latents, torch.tensor([1, 2]), conditions).shape == latents.shape
    with pytest.raises(ValueError, match="slow control"):
        model.control(conditions)


def test_the_frozen_reader_follows_the_stored_weights(tiny):
    reader = tiny.reader
    assert tiny.reader is reader and not any("_reader" in name for name in tiny.state_dict())
    twin = copy.deepcopy(tiny)
    assert twin.reader is not reader
    weights = twin.recognizer.state_dict()
    twin.recognizer.load_state_dict(weights | {"head.fc.bias": weights["head.fc.bias"] + 1})
    torch.testing.assert_close(twin.reader.network.head.bias, reader.network.head.bias + 1)


def test_schedule(tiny):
    abar = scaled_linear_abar()
    assert [round(abar[t].item(), 4) for t in (0, 50, 500, 999)] == [0.9991, 0.9516, 0.2763, 0.0047]
    assert torch.equal(tiny.alphas_cumprod, abar) and tiny.prediction_type == "epsilon" and tiny.latent_factor == 8
    with pytest.raises(ValueError, match="scaled_linear"):
        scaled_linear_abar(beta_schedule="cosine")


def test_under_autocast(tiny):
    batch = make_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = tiny(tiny.encode(batch.images), torch.tensor([3, 700]), tiny.conditions(batch))
        tiny.decode(out).float().mean().backward()
    with torch.no_grad():
        torch.testing.assert_close(out.float(), outputs(tiny), atol=0.05, rtol=0.05)
    tiny.zero_grad()


def test_the_posterior_can_be_drawn(tiny):
    images = make_batch().images
    draws = [tiny.encode(images, sample=True, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.allclose(draws[0], draws[2])


def test_gradient_checkpointing(tiny):
    tiny.set_gradient_checkpointing()
    assert tiny.unet.is_gradient_checkpointing and tiny.writenet.is_gradient_checkpointing
    tiny.set_gradient_checkpointing(False)
    assert not tiny.unet.is_gradient_checkpointing


def outputs(model: AnyText2Model) -> torch.Tensor:
    batch = make_batch()
    with torch.no_grad():
        return model(model.encode(batch.images), torch.tensor([3, 700]), model.conditions(batch))


def test_storing(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "exact")
    assert not (tmp_path / "exact" / "recognizer").exists()  # it is the package's
    loaded = AnyText2Model.from_pretrained(tmp_path / "exact")
    assert loaded.state_dict().keys() == tiny.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), tiny.state_dict().values(), strict=True))
    assert torch.equal(outputs(loaded), outputs(tiny))
    tiny.save_pretrained(tmp_path / "half", dtype=torch.float16)
    half = AnyText2Model.from_pretrained(tmp_path / "half")
    assert half.dtype == torch.float32
    torch.testing.assert_close(outputs(half), outputs(tiny), atol=0.02, rtol=0.02)
    low = AnyText2Model.from_pretrained(tmp_path / "half", dtype=torch.bfloat16)
    assert low.recognizer.head["fc"].weight.dtype == torch.float32 and outputs(low).dtype == torch.bfloat16


def test_a_model_whose_tokenizer_is_elsewhere(tmp_path):
    config = read_config("tiny") | {"tokenizer": "nowhere"}
    AnyText2Model.from_config(config, pretrained_recognizer=False).save_pretrained(tmp_path)
    loaded = AnyText2Model.from_pretrained(tmp_path)
    with pytest.raises(TokenizerError, match="no CLIP tokenizer in nowhere"):
        loaded.conditions(make_batch())
    assert len(AnyText2Model.from_config(config, tokenizer="bytes", pretrained_recognizer=False).tokenizer) == 514


def test_a_changed_recogniser_is_stored(tmp_path):
    model = AnyText2Model.from_config("tiny", pretrained_recognizer=False)
    model.save_pretrained(tmp_path)
    loaded = AnyText2Model.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(loaded.recognizer.state_dict().values(),
                                                 model.recognizer.state_dict().values(), strict=True))


def test_damaged_folders(tiny, tmp_path):
    with pytest.raises(StorageError, match="anytext2.json is missing"):
        AnyText2Model.from_pretrained(tmp_path)
    tiny.save_pretrained(tmp_path)
    weights = tmp_path / "writenet" / "diffusion_pytorch_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(StorageError, match="writenet.*damaged or cut off"):
        AnyText2Model.from_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(StorageError, match="are missing"):
        AnyText2Model.from_pretrained(tmp_path)
    weights.write_bytes((tmp_path / "unet" / weights.name).read_bytes())
    with pytest.raises(StorageError, match="does not fit: .* missing"):
        AnyText2Model.from_pretrained(tmp_path)
    weights.write_bytes(content)
    config = json.loads((tmp_path / "anytext2.json").read_text())
    config["writenet"]["glyph_channels"][0] = 6
    (tmp_path / "anytext2.json").write_text(json.dumps(config))
    with pytest.raises(StorageError, match="does not fit at glyph_block.0"):
        AnyText2Model.from_pretrained(tmp_path)


def test_packaged_configurations(tmp_path):
    assert {"mini", "sd15", "tiny"} <= set(config_names())
    with pytest.raises(ModelConfigError, match="one of .*'mini'"):
        read_config("maxi")
    path = tmp_path / "model.json"
    path.write_text("{")
    with pytest.raises(ModelConfigError, match="cannot read"):
        read_config(path)


@pytest.mark.parametrize(("change", "message"), [
    ({"unet": {"cross_attention_dim": 16}}, "must be the same everywhere"),
    ({"vae": {"latent_channels": 8, "block_out_channels": [8]}}, "latents' channels do not agree"),
    ({"colour": {}}, "unknown sections \\['colour'\\]"),
    ({"format": "other"}, "has format 'other'"),
])
def test_wrong_configurations(change, message):
    with pytest.raises(ModelConfigError, match=message):
        read_config(read_config("tiny") | change)
    incomplete = read_config("tiny")
    del incomplete["vae"]
    with pytest.raises(ModelConfigError, match="missing sections \\['vae'\\]"):
        read_config(incomplete)


def test_mini_builds_and_is_small():
    config = read_config("mini")
    with torch.device("meta"):
        model = AnyText2Model.from_config(config)
    trained = sum(parameter.numel() for part in (model.unet, model.writenet) for parameter in part.parameters())
    assert trained < 12e6 and model.latent_factor == 4
