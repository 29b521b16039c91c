"""The recipe of a decoder for noisy latents: the encoder stays, runs go on, noise costs less afterwards."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from anytext_lib.data.batch import to_tensor
from anytext_lib.files import data_folder
from anytext_lib.models.storage import load_part
from anytext_lib.recipes import autoencoder, noisy_decoder, training_state
from anytext_lib.recipes.autoencoder import WEIGHTS, build_autoencoder, mixed_scenes
from anytext_lib.recipes.noisy_decoder import NoisyRecipe, decoder_loss, main, train_decoder

SHORT = NoisyRecipe(steps=4, batch_size=2, side=32, warmup=1)


@pytest.fixture(scope="module")
def trained():
    model = build_autoencoder("mini2").eval()
    load_part(model, data_folder() / "mini2" / "vae" / WEIGHTS)
    return model


@pytest.fixture(scope="module")
def images():
    return np.stack([scene.image for scene in mixed_scenes(4, "validation", 0)])


def same(a, b, *names):
    return all(torch.equal(x, y) for name in names
               for x, y in zip(getattr(a, name).parameters(), getattr(b, name).parameters(), strict=True))


def test_only_the_decoder_changes(trained, images):
    after = train_decoder(copy.deepcopy(trained).train(), images, SHORT, log=lambda text: None)
    assert same(after, trained, "encoder", "quant_conv")
    assert not same(after, trained, "decoder") and not same(after, trained, "post_quant_conv")


def test_a_run_goes_on_where_it_was_stopped(trained, images, tmp_path, monkeypatch):
    def run(state):
        return train_decoder(copy.deepcopy(trained).train(), images, SHORT, state, log=lambda text: None)

    whole, steps = run(None), training_state.resumable_steps

    def halved(count, parts, generator, *given, **options):
        for step in steps(count, parts, generator, *given, **options):
            if step == 2:
                return training_state.keep(tmp_path / "state.pt", parts, generator, step, 0.0)
            yield step

    with monkeypatch.context() as patch:
        patch.setattr(autoencoder, "resumable_steps", halved)
        run(tmp_path / "state.pt")
    for a, b in zip(run(tmp_path / "state.pt").parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_the_loss_of_clean_latents_is_the_reconstruction_s(trained, images):
    pictures = to_tensor(list(images[:2]))
    clean = decoder_loss(trained, pictures, replace(SHORT, clean=1.0), torch.Generator().manual_seed(0))
    error = trained.decode(trained.encode(pictures).latent_dist.mean).sample - pictures
    expected = error.abs().mean() + 5 * error.square().mean() + torch.nn.functional.avg_pool2d(error, 8).abs().mean()
    torch.testing.assert_close(clean, expected)
    noisy = decoder_loss(trained, pictures, replace(SHORT, clean=0.0, largest=2.0), torch.Generator().manual_seed(0))
    assert noisy > 1.5 * clean


def test_the_command_writes_an_auto_encoder_and_its_measurements(tmp_path, monkeypatch):
    real = noisy_decoder.mixed_scenes
    monkeypatch.setattr(noisy_decoder, "mixed_scenes", lambda count, split, seed: real(16, split, seed))
    out = tmp_path / "out"
    assert main([str(out), "--autoencoder", str(data_folder() / "mini2" / "vae"), "--steps", "2", "--scenes", "2",
                 "--batch_size", "2", "--side", "32"]) == 0
    told = json.loads((out / "decoder.json").read_text())
    assert told["recipe"]["steps"] == 2 and set(told["after"]["7"]["psnr_noise"]) == {"0.1", "0.2", "0.3", "0.4"}
    assert told["before"]["7"]["psnr"] > 32 and (out / "sheet.png").exists()
    written = AutoencoderKL.from_pretrained(out, low_cpu_mem_usage=False)
    assert written.config["latent_channels"] == 12
