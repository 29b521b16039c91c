"""The auto-encoder's recipe: its linear start, runs that go on, latents centred without changing a picture."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from anytext_lib.data.batch import to_tensor
from anytext_lib.models import read_config
from anytext_lib.recipes.autoencoder import (
    LADDER,
    Recipe,
    autoencoder_loss,
    build_autoencoder,
    centre_latents,
    mixed_scenes,
    random_crops,
    run_ladder,
    start_model,
    starting_model,
    train_autoencoder,
    train_model,
)
from anytext_lib.recipes.linear_start import linear_network, trained_parameters
from anytext_lib.recipes.reconstruction import decoding_cost, measure, sheet

SHORT = Recipe(steps=3, linear_steps=2, batch_size=2, side=32, warmup=1)


@pytest.fixture(scope="module")
def scenes():
    return mixed_scenes(6, "validation", 0)


@pytest.fixture(scope="module")
def images(scenes):
    return np.stack([scene.image for scene in scenes])


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return build_autoencoder().eval()


def silent(_):
    pass


def test_centring_moves_the_latents_and_keeps_the_pictures(autoencoder, images):
    images, centred = to_tensor(list(images)), copy.deepcopy(autoencoder)
    centre_latents(centred, images)
    with torch.no_grad():
        before, after = autoencoder.encode(images).latent_dist, centred.encode(images).latent_dist
        pictures = autoencoder.decode(before.mean).sample, centred.decode(after.mean).sample
    assert after.mean.mean((0, 2, 3)).abs().max() < 1e-4
    torch.testing.assert_close(after.mean.std((0, 2, 3)), torch.ones(after.mean.shape[1]), rtol=1e-4, atol=0)
    torch.testing.assert_close(*pictures, rtol=0, atol=1e-5)
    scale = after.mean.std((0, 2, 3)) / before.mean.std((0, 2, 3))
    torch.testing.assert_close(after.std.mean((0, 2, 3)), scale * before.std.mean((0, 2, 3)), rtol=1e-3, atol=0)


def test_scenes_and_crops_depend_on_the_seed_only(images):
    assert images.shape == (6, 64, 192, 3)
    assert np.array_equal(images[:2], [scene.image for scene in mixed_scenes(2, "validation", 0)])
    crops = [random_crops(images, SHORT, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert crops[0].shape == (2, 3, 64, 32) and torch.equal(*crops)


def test_each_part_of_the_loss_counts(autoencoder, images):
    crops, none = to_tensor(list(images[:2])), Recipe(kl_weight=0, square_weight=0, colour_weight=0)
    losses = {name: autoencoder_loss(autoencoder, crops, replace(none, **{name: 1.0} if name else {}),
                                     torch.Generator().manual_seed(1)).item()
              for name in ("", "kl_weight", "square_weight", "colour_weight")}
    assert 0 < losses[""] < min(value for name, value in losses.items() if name)


def test_leaving_the_linear_network_keeps_nearly_its_pictures(images):
    torch.manual_seed(0)
    model, pictures = build_autoencoder(norm_num_groups=1), to_tensor(list(images))
    with torch.no_grad():
        model.post_quant_conv.weight.mul_(20)  # the picture counts, not the biases alone
        with linear_network(model):
            twice = model(2 * pictures).sample - model(0 * pictures).sample
            once = model(pictures).sample
            torch.testing.assert_close(twice, 2 * (once - model(0 * pictures).sample), rtol=1e-3, atol=1e-4)
        after = model(pictures).sample
    assert (after - once).square().mean() < 0.01 * (once - once.mean()).square().mean()
    assert not any("forward" in vars(layer) for layer in model.modules())


def test_the_constants_of_the_norms_are_not_trained(images):
    model = start_model(SHORT, {"norm_num_groups": 1}, images, silent)
    before = model.decoder.conv_norm_out.bias.detach().clone()
    train_autoencoder(model, images, SHORT, log=silent)
    assert torch.equal(model.decoder.conv_norm_out.bias, before) and before.abs().min() > 0
    assert len(trained_parameters(model, linear_start=False)) == len(trained_parameters(model, linear_start=True)) + 6


def test_a_run_that_was_stopped_ends_where_one_in_one_go_does(tmp_path, images, monkeypatch):
    whole = train_model(tmp_path, images, SHORT, log=silent)
    (tmp_path / "state.pt").unlink()
    monkeypatch.setattr("anytext_lib.recipes.training_state.SAVE_EVERY", -1.0)

    calls = []

    def stop(model, crops, recipe, generator):
        calls.append(1)
        if len(calls) == SHORT.linear_steps + 3:
            raise KeyboardInterrupt
        return autoencoder_loss(model, crops, recipe, generator)

    with monkeypatch.context() as patch:
        patch.setattr("anytext_lib.recipes.autoencoder.autoencoder_loss", stop)
        with pytest.raises(KeyboardInterrupt):
            train_model(tmp_path, images, SHORT, log=silent)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 2
    again = train_model(tmp_path, images, SHORT, log=silent)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=5e-4)  # strides differ, and so the rounding


def test_the_ladder_repeats_no_arm(tmp_path, images, scenes):
    arms = {name: LADDER[name] for name in ("base", "random start")}
    options = {"arms": arms, "log": silent, "recipe": SHORT}
    rows = run_ladder(tmp_path, images, scenes, **options)
    assert [row["arm"] for row in rows] == list(arms) and rows == json.loads((tmp_path / "ladder.json").read_text())
    assert rows == run_ladder(tmp_path, images, scenes, **options)


def test_measures_of_a_model(autoencoder, scenes):
    found = measure(autoencoder, scenes)
    assert 0 < found["psnr_least"] <= found["psnr"] and len(found["block_colours"]) == 3
    assert found["psnr_noise"]["0.2"] < found["psnr"] + 0.5
    cost = decoding_cost(autoencoder)
    assert 0 < cost["decode"] < cost["with_gradient"] < 4 * cost["decode"]
    assert sheet(autoencoder, scenes[:4]).shape == (134, 4 * 198, 3)


def test_the_start_of_the_mini_model(autoencoder):
    model = starting_model(autoencoder)
    assert model.config["vae"] == read_config("mini2")["vae"] and model.vae.config.scaling_factor == 1.0
    assert torch.equal(model.vae.quant_conv.weight, autoencoder.quant_conv.weight)
    layers = [layer for part in (model.writenet, model.text_embedding) for layer in part.modules()
              if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) > 40 and all(bool(layer.weight.any()) for layer in layers)
