"""The recipe of the base: scenes are encoded once, a run goes on, and AnyText2's training begins from it unharmed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from anytext_lib.data import data_folder
from anytext_lib.errors import OptionError
from anytext_lib.models import AnyText2Model
from anytext_lib.recipes import base, training_state
from anytext_lib.recipes.base import Base, BaseRecipe, begin_anytext2, encoded_scenes, fresh_model, main, train_base
from anytext_lib.recipes.training_state import lerp_average

AUTOENCODER = data_folder() / "mini2" / "vae"
SHORT = BaseRecipe(steps=3, batch_size=2, warmup=1, scenes=6)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return encoded_scenes(tmp_path_factory.mktemp("scenes"), fresh_model(AUTOENCODER), 6, 0, log=lambda _: None)


def weights(model: AnyText2Model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before: dict, model: AnyText2Model) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_scenes_are_encoded_once(drawn, tmp_path):
    latents, captions = drawn
    assert latents.shape == (6, 12, 16, 48) and latents.dtype == np.float16 and len(captions) == 6
    said = []
    again = encoded_scenes(tmp_path, fresh_model(AUTOENCODER), 6, 0, said.append)
    np.testing.assert_array_equal(again[0], latents)
    assert again[1] == captions and said == ["6 of 6 scenes drawn"]
    encoded_scenes(tmp_path, fresh_model(AUTOENCODER), 6, 0, said.append)
    assert len(said) == 1


def test_a_run_that_goes_on_equals_one_that_was_not_stopped(drawn, tmp_path, monkeypatch):
    def run(state=None):
        return weights(train_base(fresh_model(AUTOENCODER), *drawn, SHORT, state, log=lambda _: None).unet)

    def stop_at_the_third(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(arguments)
        lerp_average(*arguments)

    whole, calls, state = run(), [], tmp_path / "state.pt"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(training_state, "SAVE_EVERY", -1.0)
        patched.setattr(base, "lerp_average", stop_at_the_third)
        run(state)
    assert torch.load(state, weights_only=True)["step"] == 2
    for name, value in run(state).items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=0, msg=name)


def test_only_the_unet_and_the_captions_are_trained_and_anytext2_begins_as_the_base(drawn):
    model = fresh_model(AUTOENCODER)
    before, latents, captions = weights(model), *drawn
    train_base(model, latents, captions, SHORT, log=lambda _: None)
    parts = {name.split(".")[0] for name in changed(before, model)}
    assert parts == {"unet", "text_encoder", "writenet", "text_embedding"}  # the last two: made ready, see below
    assert all(getattr(model.text_embedding, f"{part}_proj")[0].weight.any() for part in ("glyph", "style", "color"))
    x, t = torch.from_numpy(latents[:2].astype(np.float32)), torch.tensor([500, 900])
    with torch.no_grad():
        context, mask = model.captions.encode_image_captions(captions[:2])
        for extra, own in (("attn1x", "attn1"), ("attn2x", "attn2")):
            for block in model.unet.attnx_blocks():
                torch.testing.assert_close(getattr(block, extra).to_q.weight, getattr(block, own).to_q.weight)
        control = model.writenet(torch.ones(2, 1, 64, 192), torch.ones(2, 1, 64, 192), x, context[:, :32])
        assert not any(part.any() for part in (*control.down, control.mid))
        plain = Base(model)(x, t, captions[:2])
        model.set_attnx_scale(0.0)
        torch.testing.assert_close(model.unet(x, t, context, encoder_attention_mask=mask).sample, plain)
    begin_anytext2(model)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_command_writes_a_model_that_training_begins_with(tmp_path):
    options = ["--steps", "2", "--batch_size", "2", "--scenes", "4", "--warmup", "1"]
    assert main([str(tmp_path / "base"), "--autoencoder", str(AUTOENCODER), *options]) == 0
    model = AnyText2Model.from_pretrained(tmp_path / "base" / "model")
    assert model.config["text_encoder"]["max_position_embeddings"] == 32
    assert {path.name for path in Path(tmp_path / "base").iterdir()} == {
        "model", "state.pt", "latents.npy", "captions.json", "recipe.json"}
    with pytest.raises(OptionError, match="was begun with scenes 4: give the same, or another folder"):
        main([str(tmp_path / "base"), "--autoencoder", str(AUTOENCODER), *options, "--scenes", "6"])
