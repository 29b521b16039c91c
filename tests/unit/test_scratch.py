"""The scratch model from Stable Diffusion 1.5: a folder or one file, at the tiny size; what is copied."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from anytext_lib.cli import main
from anytext_lib.models import AnyText2Model, read_config
from anytext_lib.models.attnx import EXTRA
from anytext_lib.ocr.network import PPOCRv3Network
from anytext_lib.upstream.checkpoint import CheckpointError
from anytext_lib.upstream.keys import UnknownKeysError
from anytext_lib.upstream.scratch import check, init_from_sd15
from anytext_lib.upstream.stable_diffusion import BASE, OLD_ATTENTION
from tests.unit.upstream_files import upstream_state

PREFIXES = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")


@pytest.fixture(scope="module")
def config() -> dict:
    """The tiny model with an attention in the auto-encoder, as the official one has."""
    config = read_config("tiny")
    config["vae"]["mid_block_add_attention"] = True
    return config


@pytest.fixture(scope="module")
def origin(config) -> AnyText2Model:
    torch.manual_seed(1)
    return AnyText2Model.from_config(config, pretrained_recognizer=False)


def base_state(origin: AnyText2Model, part: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in getattr(origin, part).state_dict().items()
            if not any(f".{extra}." in name for extra in EXTRA)}


@pytest.fixture(scope="module")
def folder(origin, tmp_path_factory) -> Path:
    """diffusers' layout, with the old names that Stable Diffusion 1.5's copies have, in mixed formats and dtypes."""
    root = tmp_path_factory.mktemp("sd15")
    vae = base_state(origin, "vae")
    for old, new in OLD_ATTENTION.items():
        vae = {name.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): value for name, value in vae.items()}
    assert any(".proj_attn." in name for name in vae)
    clip = {f"text_model.{name}": value for name, value in base_state(origin, "text_encoder").items()}
    for part in BASE:
        (root / part).mkdir()
    save_file(base_state(origin, "unet"), root / "unet" / "diffusion_pytorch_model.safetensors")
    torch.save(vae, root / "vae" / "diffusion_pytorch_model.bin")
    save_file(clip | {"text_model.embeddings.position_ids": torch.arange(77)[None]},
              root / "text_encoder" / "model.safetensors")
    origin.tokenizer.save_pretrained(str(root / "tokenizer"))
    return root


@pytest.fixture(scope="module")
def original(origin) -> dict[str, torch.Tensor]:
    """The original layout, with averages and schedule that nobody asks for."""
    state = {name: value for name, value in upstream_state(origin).items()
             if name.startswith(PREFIXES) and not any(f".{extra}." in name for extra in EXTRA)}
    return state | {"model_ema.decay": torch.ones(1), "betas": torch.ones(1000),
                    "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]}


@pytest.fixture
def file(original, tmp_path) -> Path:
    torch.save({"state_dict": original}, tmp_path / "sd15.ckpt")
    return tmp_path / "sd15.ckpt"


@pytest.mark.parametrize("layout", ["folder", "file"])
def test_has_stable_diffusion_and_its_copies(layout, config, origin, folder, original, tmp_path):
    path = folder
    if layout == "file":
        path = tmp_path / "sd15.safetensors"
        save_file({name: value.contiguous() for name, value in original.items()}, path)
    model, report = init_from_sd15(path, config)
    for part in BASE:
        own = getattr(model, part).state_dict()
        assert all(torch.equal(own[name], value) for name, value in base_state(origin, part).items())
    unet, writenet = model.unet.state_dict(), model.writenet.state_dict()
    extras = [name for name in unet if "attn1x" in name or "attn2x" in name]
    assert len(extras) == 30
    assert all(torch.equal(unet[name], unet[name.replace("1x.", "1.").replace("2x.", "2.")]) for name in extras)
    shared = [name for name in writenet if name.startswith(("conv_in", "time_embedding", "down_blocks", "mid_block"))]
    assert all(torch.equal(writenet[name], unet[name]) for name in shared)
    reading = PPOCRv3Network.from_pretrained().state_dict()
    for recognizer in (model.recognizer, model.text_embedding.style_recognizer):
        assert all(torch.equal(value, reading[name]) for name, value in recognizer.state_dict().items())
    zero = [*model.writenet.controlnet_down_blocks, model.writenet.controlnet_mid_block, model.writenet.fuse_block,
            model.text_embedding.glyph_proj[0], model.text_embedding.style_proj[0], model.text_embedding.color_proj[0]]
    assert not any(value.any() for module in zero for value in module.parameters())
    assert model.writenet.glyph_block[0].weight.std() > 0
    assert model.text_embedding.position_encoder.conv1.weight.std() > 0
    assert sum(tensors for tensors, _ in report.origins.values()) == len(model.state_dict())
    assert report.origins["both recognisers: PP-OCRv3"] == (456, 2 * 2_652_289)
    assert report.origins["AttnX: copies of attn1 and attn2"][0] == 30
    assert "Stable Diffusion 1.5" in str(report)
    assert not model.training and model.text_encoder.embeddings.position_ids[0, 76] == 76


def test_fresh_control_changes_nothing(config, folder):
    model, _ = init_from_sd15(folder, config)
    size = (1, 1, 64, 64)
    residuals = model.writenet(torch.ones(size), torch.ones(size), torch.randn(1, 4, 8, 8), torch.randn(1, 77, 32))
    assert not residuals.mid.any() and not any(value.any() for value in residuals.down)


def test_command_writes_a_model(folder, config, origin, tmp_path, capsys):
    import json

    (tmp_path / "c.json").write_text(json.dumps(config))
    arguments = [str(tmp_path / "m"), "--init-from-sd15", str(folder), "--config", str(tmp_path / "c.json")]
    assert main(["convert", *arguments]) == 0
    assert "every copy was compared" in capsys.readouterr().out
    model = AnyText2Model.from_pretrained(tmp_path / "m")
    assert torch.equal(model.unet.conv_in.weight, origin.unet.conv_in.weight)
    assert torch.equal(model.writenet.conv_in.weight, origin.unet.conv_in.weight)
    assert (tmp_path / "m" / "tokenizer").is_dir() and not (tmp_path / "m" / "recognizer").exists()
    assert main(["convert", *arguments]) == 2
    assert "there already" in capsys.readouterr().err
    assert main(["convert", "--init-from-sd15", str(folder)]) == 2
    assert "takes only TARGET" in capsys.readouterr().err


def test_half_precision_is_read_as_float32(original, config, tmp_path):
    save_file({name: value.half().contiguous() for name, value in original.items()}, tmp_path / "x.safetensors")
    model, _ = init_from_sd15(tmp_path / "x.safetensors", config)
    assert model.unet.conv_in.weight.dtype == torch.float32


def test_other_models_are_refused(original, config, folder, tmp_path):
    def saved(state: dict) -> Path:
        torch.save(state, tmp_path / "x.ckpt")
        return tmp_path / "x.ckpt"

    inpainting = {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(16, 9, 3, 3)}
    with pytest.raises(CheckpointError, match=r"input_blocks.0.0.weight: it holds \(16, 9, 3, 3\), expected \(16, 4,"):
        init_from_sd15(saved(original | inpainting), config)
    with pytest.raises(UnknownKeysError, match="model.diffusion_model.label_emb.0.0.weight"):
        init_from_sd15(saved(original | {"model.diffusion_model.label_emb.0.0.weight": torch.ones(1)}), config)
    less = {name: value for name, value in original.items() if not name.endswith("out.2.bias")}
    with pytest.raises(CheckpointError, match="lacks 1 tensors of Stable Diffusion 1.5: unet.conv_out.bias"):
        init_from_sd15(saved(less), config)
    with pytest.raises(CheckpointError, match="no tensors cond_stage_model"):
        init_from_sd15(saved({name: value for name, value in original.items() if name[:4] != "cond"}), config)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no weights in unet/"):
        init_from_sd15(tmp_path / "empty", config)
    with pytest.raises(CheckpointError, match="no file"):
        init_from_sd15(tmp_path / "nothing", config)


@pytest.mark.parametrize("name", ["writenet.mid_block.resnets.0.conv1.weight", "recognizer.head.fc.bias",
                                  "unet.mid_block.attentions.0.transformer_blocks.0.attn2x.to_q.weight",
                                  "writenet.fuse_block.bias", "text_embedding.color_proj.0.weight"])
def test_check_finds_a_wrong_copy(folder, config, name):
    model, _ = init_from_sd15(folder, config)
    recognizer = PPOCRv3Network.from_pretrained()
    check(model, recognizer)
    with torch.no_grad():
        model.state_dict()[name].view(-1)[0].add_(1)
    with pytest.raises(CheckpointError, match=f"{name} differs"):
        check(model, recognizer)


def test_a_wrong_file_of_weights_is_named(folder, config, tmp_path):
    for part in BASE:
        (tmp_path / part).mkdir()
        for path in (folder / part).iterdir():
            (tmp_path / part / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    save_file(tensors | {"more": torch.ones(1)}, tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(UnknownKeysError, match="unet/more"):
        init_from_sd15(tmp_path, config)
