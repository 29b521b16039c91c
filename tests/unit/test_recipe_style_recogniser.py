"""The style recogniser's recipe: hints with the numbers of their fonts, weights that the model takes up."""

import json

import torch
from safetensors.torch import load_file

from anytext_lib.data import data_folder
from anytext_lib.ocr.network import PPOCRv3Network
from anytext_lib.recipes.base import fresh_model
from anytext_lib.recipes.style_recogniser import WEIGHTS, hints_and_fonts, main, scene_fonts, scenes_of


def test_hints_come_with_the_fonts_of_their_lines():
    scenes = scenes_of("train", 3, 6)
    crops, fonts = hints_and_fonts(scenes, 0, 6)
    drawn = [line.font for i in range(6) for line in scenes.scene(i).lines]
    assert [scene_fonts()[i] for i in fonts] == drawn and len(crops) == len(drawn) > 6
    assert crops.shape[1:] == (3, 48, 320) and (crops == 1).flatten(1).any(1).all()


def test_the_command_writes_weights_for_the_model(tmp_path):
    assert main([str(tmp_path), "--steps", "2", "--scenes_a_step", "2", "--measured", "2", "--warmup", "1"]) == 0
    assert 0 <= json.loads((tmp_path / "style.json").read_text())["right"] <= 1
    model = fresh_model(data_folder() / "mini2" / "vae", tmp_path / WEIGHTS)
    found, written = model.text_embedding.style_recognizer.state_dict(), load_file(tmp_path / WEIGHTS)
    start = PPOCRv3Network.from_pretrained().state_dict()
    assert all(torch.equal(found[name], value) for name, value in written.items())
    moved = {name.split(".")[0] for name in start if not torch.equal(start[name], written[name])}
    assert moved == {"backbone", "neck"}  # neither the head, nor the statistics of the norms
    assert all(torch.equal(start[name], written[name]) for name in start if "running" in name)
