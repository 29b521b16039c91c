"""UDiffText on a text-to-image base: what is taken from it, a network that predicts v, and the way from the start over
a run that is resumed to a word in a picture, on the command line."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image

from anytext_lib.cli import main
from anytext_lib.data.pictures import read_picture
from anytext_lib.diffusion import add_noise, prediction_target
from anytext_lib.models import AnyText2Model
from anytext_lib.models.config import read_config
from anytext_lib.recipes.udifftext_start import main as start
from anytext_lib.recipes.udifftext_start import model_on_base
from anytext_lib.training.run_files import checkpoints_in
from anytext_lib.udifftext.label_encoder import LabelEncoder, LabelEncoderConfig
from anytext_lib.udifftext.model import SIZES, UDiffTextModel
from anytext_lib.udifftext.original_checkpoint import is_text_attention
from anytext_lib.udifftext.word_data import UDiffTextData
from anytext_lib.udifftext.word_losses import denoising_loss
from anytext_lib.udifftext.word_training import UDiffTextTraining

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def base():
    """A tiny text-to-image model that predicts v, on a schedule that ends darker than Stable Diffusion's."""
    torch.manual_seed(0)
    config = read_config("tiny")
    config["scheduler"] |= {"beta_end": 0.02, "prediction_type": "v_prediction"}
    return AnyText2Model.from_config(config).eval()


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(1)
    return LabelEncoder(LabelEncoderConfig.mini(width=48, heads=2, layers=1)).freeze()


@pytest.fixture(scope="module")
def begun(base, encoder):
    return model_on_base(base, encoder)


@pytest.fixture(scope="module")
def batch():
    data = UDiffTextData(train="scenes", val="scenes", val_scenes={"split": "validation", "style": "mixed"},
                         val_limit=2, batch_size=2, image_size=(32, 96), max_lines=1, max_chars=12, mask_ratio=1.0,
                         font_hint_prob=0.0)
    data.setup("fit")
    return next(data.plain_batches(2, 2))


class TestStart:
    def test_it_draws_as_the_base_without_captions_whatever_mask_and_word(self, base, begun):
        own = copy.deepcopy(base)
        own.set_attnx_scale(0.0)
        for name, parameter in own.unet.named_parameters():
            if ".attn2.to_out." in name:
                parameter.data.zero_()
        x, t, place = torch.randn(2, 4, 8, 16), torch.tensor([3, 990]), torch.rand(2, 5, 8, 16)
        with torch.no_grad():
            v = own.unet(x, t, torch.randn(2, 7, 32)).sample
            a = base.alphas_cumprod[t][:, None, None, None]
            wanted = a.sqrt() * v + (1 - a).sqrt() * x
            torch.testing.assert_close(begun(x, t, torch.randn(2, 12, 48), place), wanted, rtol=1e-4, atol=1e-5)
        assert begun.prediction_type == "v_prediction" and torch.equal(begun.alphas_cumprod, base.alphas_cumprod)

    def test_what_is_taken_and_what_is_new(self, base, begun, encoder):
        given, found = base.unet.state_dict(), begun.unet.state_dict()
        assert torch.equal(found["conv_in.weight"][:, :4], given["conv_in.weight"])
        assert not found["conv_in.weight"][:, 4:].any() and found["conv_in.weight"].shape[1] == 9
        for name, value in found.items():
            if name != "conv_in.weight" and not is_text_attention(name):
                assert torch.equal(value, given[name]), name
        queries = [name for name in found if name.endswith(".attn2.to_q.weight")]
        assert queries and not any(torch.equal(found[name], given[name]) for name in queries)
        assert all(torch.equal(value, base.vae.state_dict()[name]) for name, value in begun.vae.state_dict().items())
        assert torch.equal(begun.label_encoder.label_embedding.weight, encoder.label_embedding.weight)

    def test_the_command_needs_a_label_encoder_for_a_base(self, tmp_path, capsys):
        with pytest.raises(SystemExit):
            start([str(tmp_path / "out"), "--base", str(tmp_path)])
        assert "--base needs --label-encoder" in capsys.readouterr().err


class TestPrediction:
    def test_the_loss_is_that_of_v(self, begun, batch):
        module = UDiffTextTraining(copy.deepcopy(begun), min_size=4)
        latents, told = module.encode(batch), module.conditions(batch)
        noise, t = torch.randn_like(latents), torch.tensor([20, 950])
        abar = begun.alphas_cumprod[t]
        x = add_noise(latents, noise, abar)
        with torch.no_grad():
            v = begun.unet(torch.cat([x, told.place], dim=1), t, told.context).sample
            found = module.evaluate(latents, noise, t, told).diffusion
        wanted = (v - prediction_target(latents, noise, abar, "v_prediction")).square().flatten(1).mean(dim=1)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)

    def test_a_sample_prediction_has_the_plain_error(self):
        x0, sigma = torch.randn(2, 4, 3, 3), torch.tensor([0.1, 9.0])
        torch.testing.assert_close(denoising_loss(x0 + 0.5, x0, sigma, "sample"), torch.full((2,), 0.25))
        with pytest.raises(ValueError, match="got 'x'"):
            denoising_loss(x0, x0, sigma, "x")

    def test_an_unknown_one_is_refused(self):
        with pytest.raises(ValueError, match="'noise'"):
            UDiffTextModel({**SIZES["tiny"], "scheduler": {**SIZES["tiny"]["scheduler"], "prediction_type": "noise"}})


class TestTraining:
    def test_the_first_convolution_is_trained_when_asked(self, begun):
        names = [name for group in UDiffTextTraining(copy.deepcopy(begun), train_input=True).trained.values()
                 for name, _ in group]
        assert {"unet.conv_in.weight", "unet.conv_in.bias"} <= set(names)
        assert all(".attn2." in name or name.startswith("unet.conv_in.") for name in names)

    def test_latents_are_kept_between_epochs(self, begun, batch):
        module = UDiffTextTraining(copy.deepcopy(begun), encoder_cache=1.0)
        plain = UDiffTextTraining(copy.deepcopy(begun))
        for _ in range(2):
            assert torch.equal(module.encode(batch), plain.encode(batch))
            assert torch.equal(module.conditions(batch).place, plain.conditions(batch).place)
        assert module.cache.misses == 4 and module.cache.hits == 4  # a picture and a masked one of each scene
        module.eval().encode(batch)
        assert module.cache.hits == 4


def test_from_a_base_over_a_resumed_run_to_a_word(base, encoder, tmp_path, capsys):
    base.save_pretrained(tmp_path / "base")
    encoder.save(tmp_path / "labels.safetensors")
    assert start([str(tmp_path / "start"), "--base", str(tmp_path / "base"), "--label-encoder",
                  str(tmp_path / "labels.safetensors")]) == 0
    options = {"model": tmp_path / "start", "runs": tmp_path, "data.batch_size": 2, "data.val_limit": 2,
               "data.scenes.epoch_length": 2, "words.images": 2, "words.steps": 2, "words.every": 2,
               "trainer.val_check_interval": 2, "trainer.log_every_n_steps": 1, "trainer.accelerator": "cpu",
               "model.lr_schedule": "constant"}
    command = ["fit", "--config", "mini2_udifftext.yaml", *(f"--{k}={v}" for k, v in options.items())]
    assert main([*command, "--trainer.max_steps=1"]) == 0
    assert main([*command, "--trainer.max_steps=2", "--ckpt_path", "last"]) == 0
    folder = tmp_path / "mini2_udifftext"
    assert [file.name for file in checkpoints_in(folder / "checkpoints")] == ["step=0000001.ckpt", "step=0000002.ckpt"]
    rows = json.loads((folder / "images" / "step=0000002.json").read_text(encoding="utf-8"))
    assert len(rows) == 2 and set(rows[0]) == {"wanted", "written"}
    trained, before = (UDiffTextModel.from_pretrained(path) for path in (folder / "model", tmp_path / "start"))
    assert not torch.equal(trained.unet.conv_out.weight, before.unet.conv_out.weight)
    assert trained.config["scheduler"]["prediction_type"] == "v_prediction"
    Image.fromarray(np.full((50, 100, 3), 200, np.uint8)).save(tmp_path / "sign.png")
    capsys.readouterr()
    assert main(["udifftext", "write", str(tmp_path / "sign.png"), "Tea", "--box", "10", "10", "70", "30",
                 "--model", str(folder / "model"), "--output", str(tmp_path / "out.png"),
                 "--steps", "2", "--candidates", "2"]) == 0
    assert "'Tea' at 192 x 64 pixels" in capsys.readouterr().out
    assert read_picture(tmp_path / "out.png").shape == (50, 100, 3)
