"""`anytext udifftext`: words written from the command line, and upstream's checkpoints read."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from anytext_lib.cli import main
from anytext_lib.data.pictures import read_picture
from anytext_lib.recipes.udifftext_grid import GridWord, render
from anytext_lib.udifftext.label_encoder import LabelEncoder, LabelEncoderConfig
from anytext_lib.udifftext.model import SIZES, UDiffTextModel
from anytext_lib.udifftext.original_checkpoint import TEXT_NAMES, is_text_attention
from anytext_lib.udifftext.word_losses import same_word
from anytext_lib.upstream.keys import KeyMap

OURS = {ours: theirs for theirs, ours in TEXT_NAMES.items() if theirs.startswith("t_")}


@pytest.fixture
def picture(tmp_path):
    """A picture of a word on a grid, and the mask of the word."""
    Image.fromarray(render(GridWord("STONE", (4, 0), (210, 200, 180)))).save(tmp_path / "word.png")
    mask = np.zeros((32, 112), np.uint8)
    mask[:28, 4:104] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(1)
    return UDiffTextModel("tiny").eval()


def original_state(model: UDiffTextModel, first_version: bool = False) -> dict[str, torch.Tensor]:
    """What upstream's checkpoint of a model would hold."""
    def named(name: str) -> str:
        theirs = KeyMap("unet", model.unet.config).to_upstream(name)
        if not is_text_attention(name):
            return theirs
        inner = re.sub(r"\.(attn2|norm2)\.", lambda found: f".{OURS[found[1]]}.", theirs)
        return inner.replace(".t_", ".add_") if first_version else inner

    vae = KeyMap("vae", model.vae.config).state_to_upstream(model.vae.state_dict())
    labels = {f"conditioner.embedders.0.{name}": value for name, value in model.label_encoder.state_dict().items()}
    return {
        **{f"model.diffusion_model.{named(name)}": value for name, value in model.unet.state_dict().items()},
        **{f"first_stage_model.{name}": value for name, value in vae.items()},
        **{f"conditioner.embedders.2.model.{name}": value.clone() for name, value in vae.items()},
        **labels, "conditioner.embedders.0.pos_embedding.pe": model.label_encoder.places.clone(),
        "denoiser.sigmas": torch.rand(1000), "loss_fn.g_kernel": torch.rand(12, 1, 3, 3),
    }


class TestWrite:
    def test_a_word_into_a_mask_is_read_by_a_judge(self, picture, monkeypatch, capsys):
        monkeypatch.chdir(picture)
        assert main(["udifftext", "write", "word.png", "HOUSE", "--mask", "mask.png", "--steps", "10", "--candidates",
                     "1", "--guidance", "3", "--read", "ppocrv4"]) == 0
        told = capsys.readouterr().out
        assert "wrote word_written.png: 'HOUSE' at 112 x 32 pixels" in told
        found = re.search(r"ppocrv4 reads '(\w*)': the word", told)
        assert found and same_word(found[1], "HOUSE")
        before, after = (read_picture(picture / name).astype(int) for name in ("word.png", "word_written.png"))
        assert before.shape == after.shape and abs(before - after).mean() > 5

    def test_a_box_of_a_larger_picture_and_what_is_around_it(self, picture, tiny, capsys):
        photo = np.random.default_rng(0).integers(0, 256, (90, 170, 3), np.uint8)
        Image.fromarray(photo).save(picture / "photo.png")
        tiny.save_pretrained(picture / "model")
        options = ["udifftext", "write", str(picture / "photo.png"), "Tea!", "--box", "20", "10", "80", "40",
                   "--model", str(picture / "model"), "--steps", "2", "--candidates", "1", "--output",
                   str(picture / "out.png")]
        assert main([*options, "--composite", "--refine", "--size", "96", "64"]) == 0
        assert "at 96 x 64 pixels" in capsys.readouterr().out
        after = read_picture(picture / "out.png")
        inside = np.zeros(photo.shape[:2], bool)
        inside[10:50, 20:100] = True
        assert np.array_equal(after[~inside], photo[~inside]) and (after[inside] != photo[inside]).mean() > 0.9
        assert main(options) == 2 and "exists already" in capsys.readouterr().err
        assert main([*options, "--force"]) == 0 and read_picture(picture / "out.png").shape == photo.shape
        assert "at 168 x 88 pixels" in capsys.readouterr().out  # the picture's own, rounded to the model's grid

    @pytest.mark.parametrize("options, message", [
        (["HOUSE"], "by --mask FILE or by --box"),
        (["HOUSE", "--mask", "mask.png", "--box", "0", "0", "9", "9"], "one of the two"),
        (["HOUSE", "--box", "200", "0", "9", "9"], "no area"),
        (["", "--mask", "mask.png"], "the word is empty"),
        (["two words", "--mask", "mask.png"], "no class: ' '"),
        (["Donaudampfschiff", "--mask", "mask.png"], "16 characters, the encoder takes at most 12"),
        (["HOUSE", "--mask", "mask.png", "--size", "100", "30"], "multiples of 8"),
        (["HOUSE", "--mask", "nowhere.png"], "nowhere.png"),
        (["HOUSE", "--mask", "mask.png", "--output", "out.jpg"], "written as PNG"),
        (["HOUSE", "--mask", "mask.png", "--model", "nowhere/model"], "no model nowhere/model")])
    def test_what_cannot_be_done_is_said(self, picture, monkeypatch, capsys, options, message):
        monkeypatch.chdir(picture)
        assert main(["udifftext", "write", "word.png", *options]) == 2
        assert message in capsys.readouterr().err and not (picture / "word_written.png").exists()


class TestConvert:
    @pytest.mark.parametrize("first_version", [False, True])
    def test_every_weight_of_a_checkpoint_arrives(self, tiny, tmp_path, capsys, first_version):
        state = original_state(tiny, first_version)
        assert any(".add_attn." in name if first_version else ".t_attn." in name for name in state)
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "model.ckpt")
        assert main(["udifftext", "convert", str(tmp_path / "model.ckpt"), str(tmp_path / "model"), "--config",
                     "tiny"]) == 0
        found = UDiffTextModel.from_pretrained(tmp_path / "model")
        wanted = tiny.state_dict()
        assert found.state_dict().keys() == wanted.keys()
        assert all(torch.equal(value, wanted[name]) for name, value in found.state_dict().items())
        assert found.config["masked_fill"] == "grey"
        told = capsys.readouterr().out
        assert "left out: conditioner" in told and "denoiser 1" in told and "loss_fn 1" in told

    def test_safetensors_and_what_does_not_fit(self, tiny, tmp_path, capsys):
        def converted(state: dict, *more: str) -> str:
            save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "model.safetensors")
            status = main(["udifftext", "convert", str(tmp_path / "model.safetensors"), str(tmp_path / "model"),
                           "--config", "tiny", *more])
            assert status == 2 and not (tmp_path / "model").exists()
            return capsys.readouterr().err

        state = original_state(tiny)
        kernel = next(name for name in state if ".t_attn.to_q" in name)
        assert "lacks 1 tensors of the unet" in converted({k: v for k, v in state.items() if k != kernel})
        assert "another size than --config" in converted(state | {kernel: torch.zeros(3, 3)})
        assert "NaN or infinite" in converted(state | {kernel: state[kernel] * float("nan")})
        assert "1 unexpected tensors" in converted(state | {"control_model.x": torch.zeros(1)})
        copy = "conditioner.embedders.2.model.quant_conv.bias"
        assert "auto-encoder of the masked picture differs" in converted(state | {copy: state[copy] + 1})
        assert "no checkpoint of UDiffText" in converted({k: v for k, v in state.items() if "conditioner" not in k})
        assert "--label-encoder goes with --start" in converted(state, "--label-encoder", "x")

    def test_pickled_code_is_not_run(self, tmp_path, capsys):
        torch.save({"state_dict": {"a": torch.zeros(1)}, "hook": np.random.default_rng}, tmp_path / "model.ckpt")
        assert main(["udifftext", "convert", str(tmp_path / "model.ckpt"), str(tmp_path / "model")]) == 2
        assert "could run code" in capsys.readouterr().err

    def test_the_start_of_training_is_stable_diffusion_and_silent(self, tiny, tmp_path, capsys):
        """Stable Diffusion's own cross-attention (another context) is left out, the new one adds nothing yet."""
        state = {f"model.diffusion_model.{KeyMap('unet', tiny.unet.config).to_upstream(name)}": value
                 for name, value in tiny.unet.state_dict().items()}
        vae = KeyMap("vae", tiny.vae.config).state_to_upstream(tiny.vae.state_dict())
        state |= {f"first_stage_model.{name}": value for name, value in vae.items()}
        state |= {"cond_stage_model.model.logit_scale": torch.zeros(1), "alphas_cumprod": torch.rand(1000)}
        save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "sd2.safetensors")
        encoder = LabelEncoder(LabelEncoderConfig(**SIZES["tiny"]["label_encoder"]))
        heads = {"logit_scale": torch.zeros(1), "pos_embedding.pe": torch.zeros(12, 32),
                 "cls_head.1.bias": torch.ones(2)}
        torch.save({"state_dict": dict(encoder.state_dict()) | heads}, tmp_path / "labels.ckpt")
        encoder.save(tmp_path / "labels.safetensors")
        for labels in ("labels.ckpt", "labels.safetensors"):
            assert main(["udifftext", "convert", str(tmp_path / "sd2.safetensors"), str(tmp_path / "start"), "--start",
                         "--label-encoder", str(tmp_path / labels), "--config", "tiny", "--force"]) == 0
        found = UDiffTextModel.from_pretrained(tmp_path / "start")
        assert torch.equal(found.label_encoder.label_embedding.weight, encoder.label_embedding.weight)
        for name, value in found.unet.state_dict().items():
            same = torch.equal(value, tiny.unet.state_dict()[name])
            assert same or is_text_attention(name)
            assert not (".attn2.to_out." in name and value.any())
        x, place, t = torch.randn(1, 4, 8, 16), torch.rand(1, 5, 8, 16), torch.tensor([300])
        with torch.no_grad():
            one, other = (found(x, t, context, place) for context in torch.randn(2, 1, 12, 32))
        assert torch.equal(one, other)
        assert "left out: alphas_cumprod 1, cond_stage_model 1, attn2 49" in capsys.readouterr().out
