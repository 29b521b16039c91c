"""The mini model that is shipped: small, whole, unharmed, and better at writing after than before."""

import json
import re
from dataclasses import replace

import pytest
import torch

from anytext_lib.data import data_folder
from anytext_lib.generation import sample_images
from anytext_lib.models import AnyText2Model, freezing, read_config
from anytext_lib.recipes.mini import WINDOW, held_out, score
from anytext_lib.scenes.words import split_of, words_of

FOLDER = data_folder() / "mini"
NAMES = ["early", "before", "after"]


@pytest.fixture(scope="module")
def models():
    return {name: AnyText2Model.from_pretrained(FOLDER / name).eval() for name in NAMES}


def test_size(models):
    for name in NAMES:
        assert sum(path.stat().st_size for path in (FOLDER / name).rglob("*")) < 25e6
    groups = freezing.trainable_parameters(models["after"], freezing.Freezing(train_all=True))
    assert sum(values for _, values in freezing.count(groups).values()) < 12e6


@pytest.mark.parametrize("name", NAMES)
def test_the_checkpoint_is_of_the_configuration(models, name):
    expected = {key: read_config("mini")[key] for key in ("unet", "vae", "writenet", "text_encoder")}
    if name == "after":
        expected["text_encoder"] = {**expected["text_encoder"], "max_position_embeddings": WINDOW}
    assert {key: models[name].config[key] for key in expected} == expected
    assert all(bool(p.isfinite().all()) for p in models[name].parameters())


def test_fine_tuning_left_the_auto_encoder_alone(models):
    first, *others = (models[name].vae.state_dict() for name in NAMES)
    assert all(bool((first[key] == other[key]).all()) for other in others for key in first)


def test_it_writes_words_that_it_has_never_seen(models):
    assert all(split_of(word) == "test" for word in words_of("test"))
    before, after = (score(models[name], scenes=12)["ppocrv4"]["ned"] for name in ("before", "after"))
    assert after > before + 0.2 and after > 0.7


def test_it_follows_the_brightness_that_is_asked_for(models):
    batch = next(held_out(4, batch_size=4))
    place = batch.glyphs.expand(-1, 3, -1, -1) > 0

    def letters(name, grey):
        """Mean grey value, in [-1, 1], where the letters are told to be, against the rest of the picture."""
        images = sample_images(models[name], replace(batch, colors=torch.full((4, 3), float(grey))), 5, 1.0, 0)
        return float(images[place].mean() - images[~place].mean())

    assert letters("after", 20) < -0.1 and letters("after", 235) > 0.1
    assert letters("before", 235) == pytest.approx(letters("before", 20), abs=1e-3)


def test_the_card_tells_what_was_measured():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    measured = json.loads((FOLDER / "metrics.json").read_text(encoding="utf-8"))
    for name in NAMES:
        row = next(line for line in card.splitlines() if line.startswith(f"| `{name}`"))
        shown = [float(value) for value in re.findall(r"\.\d+", row)]
        expected = [measured[name][judge][key] for judge in ("ppocrv4", "tesseract", "training recogniser")
                    for key in ("sen_acc", "ned")]
        assert shown == pytest.approx(expected, abs=0.0051)
