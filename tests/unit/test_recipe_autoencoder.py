"""The auto-encoder of the mini model: its latents are centred without changing what it draws."""

import copy

import pytest
import torch

from anytext_lib.models import read_config
from anytext_lib.recipes.autoencoder import (
    PHASES,
    autoencoder_loss,
    build_autoencoder,
    centre_latents,
    colour_axes,
    random_crops,
    scene_images,
    starting_model,
    train_autoencoder,
    wake_channels,
)


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return build_autoencoder().eval()


def test_centring_moves_the_latents_and_keeps_the_pictures(autoencoder):
    images, centred = scene_images(6, "train", 0), copy.deepcopy(autoencoder)
    centre_latents(centred, images)
    with torch.no_grad():
        before, after = autoencoder.encode(images).latent_dist, centred.encode(images).latent_dist
        pictures = autoencoder.decode(before.mean).sample, centred.decode(after.mean).sample
    assert after.mean.mean((0, 2, 3)).abs().max() < 1e-4
    torch.testing.assert_close(after.mean.std((0, 2, 3)), torch.ones(4), rtol=1e-4, atol=0)
    torch.testing.assert_close(*pictures, rtol=0, atol=1e-5)
    scale = after.mean.std((0, 2, 3)) / before.mean.std((0, 2, 3))
    torch.testing.assert_close(after.std.mean((0, 2, 3)), scale * before.std.mean((0, 2, 3)), rtol=1e-3, atol=0)


def test_crops_and_loss(autoencoder):
    images = scene_images(2, "train", 3)
    assert images.shape == (2, 3, 64, 192) and torch.equal(images, scene_images(2, "train", 3))
    crops = next(random_crops(images, 5, 32, torch.Generator().manual_seed(0)))
    assert crops.shape == (5, 3, 32, 32)
    still = [autoencoder_loss(autoencoder, crops, *weights, generator=torch.Generator().manual_seed(1))
             for weights in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))]
    assert 0 < still[0] < still[1] and still[0] < still[2]


def test_balanced_colours_vary_equally():
    images = scene_images(8, "train", 0)
    turned = torch.einsum("bchw,ck->bkhw", images, colour_axes(images))
    spread = turned.permute(1, 0, 2, 3).flatten(1).std(1)
    torch.testing.assert_close(spread, spread[:1].expand(3), rtol=1e-4, atol=0)


def test_a_drowned_channel_is_woken(autoencoder):
    images, woken = scene_images(4, "train", 0), copy.deepcopy(autoencoder)
    wake_channels(woken, images)
    with torch.no_grad():
        before, after = autoencoder.encode(images).latent_dist, woken.encode(images).latent_dist
    assert torch.equal(before.mean, after.mean)
    limit = 2 * (0.08 * after.mean.std((0, 2, 3))).log()
    torch.testing.assert_close(after.logvar.mean((0, 2, 3)), limit, rtol=0, atol=1e-4)


def test_a_few_steps_and_the_start_of_the_mini_model():
    lines = []
    phases = [{**phase, "steps": 1} for phase in PHASES]
    trained = train_autoencoder(4, phases=phases, batch_size=2, side=32, log=lines.append)
    assert not trained.training and len(lines) == 6 and "means" in lines[-1]
    model = starting_model(trained)
    assert model.config["vae"] == read_config("mini")["vae"] and model.vae.config.scaling_factor == 1.0
    assert torch.equal(model.vae.quant_conv.weight, trained.quant_conv.weight)


def test_from_scratch_nothing_starts_at_zero(autoencoder):
    model = starting_model(autoencoder)
    layers = [layer for part in (model.writenet, model.text_embedding) for layer in part.modules()
              if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) > 40 and all(bool(layer.weight.any()) for layer in layers)
