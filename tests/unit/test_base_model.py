"""Another base model beneath AnyText2's layers: what is taken, what stays, undo, and what a user types."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from anytext_lib.adapters.base_model import read_base
from anytext_lib.cli import main
from anytext_lib.generation import AnyText2Pipeline, Defaults
from anytext_lib.generation.metadata import read_record
from anytext_lib.models.attnx import is_extra
from anytext_lib.upstream.checkpoint import CheckpointError
from tests.unit.generation_model import lively_model
from tests.unit.lora_samples import UNET, factors, lora_file
from tests.unit.upstream_files import upstream_state

UNET_KEY = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def other():
    """The model whose layers are taken."""
    return lively_model(seed=3)


@pytest.fixture(scope="module")
def state(other):
    """It as one file in the original layout, with averages and an old buffer that nobody asks for."""
    kept = {name: value.contiguous() for name, value in upstream_state(other).items() if not is_extra(name)
            and name.startswith(("model.diffusion_model.", "first_stage_model.", "cond_stage_model."))}
    return kept | {"model_ema.decay": torch.ones(1), "cond_stage_model.logit_scale": torch.ones(1),
                   "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]}


@pytest.fixture
def file(state, tmp_path):
    save_file(state, tmp_path / "base.safetensors")
    return tmp_path / "base.safetensors"


@pytest.fixture(scope="module")
def folder(other, tmp_path_factory):
    """It as a folder in diffusers' layout."""
    root = tmp_path_factory.mktemp("base")
    for part, name in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"),
                       ("text_encoder", "model")):
        (root / part).mkdir()
        clip = "text_model." if part == "text_encoder" else ""
        save_file({clip + name: value for name, value in getattr(other, part).state_dict().items()
                   if not is_extra(name)}, root / part / f"{name}.safetensors")
    return root


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def differing(first, second):
    return {name for name, value in first.items() if not torch.equal(value, second[name])}


@pytest.mark.parametrize("layout, vae", [("file", False), ("file", True), ("folder", False), ("folder", True)])
def test_stable_diffusions_layers_are_taken_and_given_back(file, folder, other, layout, vae):
    pipeline = AnyText2Pipeline(lively_model())
    before, theirs = weights(pipeline.model), other.state_dict()
    report, = pipeline.load_base(file if layout == "file" else folder, vae)
    after = weights(pipeline.model)
    taken = {name for name in after if name.startswith(("unet.", "text_encoder.", *(["vae."] if vae else [])))
             and not is_extra(name)}
    assert all(torch.equal(after[name], theirs[name]) for name in taken)
    assert differing(before, after) <= taken and len(differing(before, after)) > 0.7 * len(taken)
    parts = "text_encoder, unet" + (", vae" if vae else "")
    unknown = "; left out, unknown: 1 (cond_stage_model.logit_scale)" if layout == "file" else ""
    assert report.endswith(f"{len(taken)} tensors of {parts}{unknown}")
    pipeline.unload_base()
    assert differing(before, weights(pipeline.model)) == set(), "to the last bit"


def test_a_lora_lies_on_the_base_that_holds(file, tmp_path, other):
    pipeline = AnyText2Pipeline(lively_model())
    before, name = weights(pipeline.model), f"unet.{UNET}.weight"
    down, up = factors(other, f"unet.{UNET}")
    pipeline.load_lora(lora_file(tmp_path / "a.safetensors", other, layers=[f"unet.{UNET}"]), 0.5)
    on_own = pipeline.model.state_dict()[name].clone()
    pipeline.load_base(file)
    torch.testing.assert_close(pipeline.model.state_dict()[name], other.state_dict()[name] + 0.5 * up @ down)
    pipeline.unload_base()
    assert torch.equal(pipeline.model.state_dict()[name], on_own)
    pipeline.unload_lora()
    assert differing(before, weights(pipeline.model)) == set()


def test_a_file_without_clip_leaves_the_models_own(state, tmp_path, other):
    save_file({name: value for name, value in state.items() if name.startswith("model.diffusion_model.")},
              tmp_path / "unet.safetensors")
    pipeline = AnyText2Pipeline(lively_model())
    before = weights(pipeline.model)
    pipeline.load_base(tmp_path / "unet.safetensors")
    assert {name.split(".")[0] for name in differing(before, weights(pipeline.model))} == {"unet"}
    with pytest.raises(CheckpointError, match="has no tensors first_stage_model."):
        pipeline.load_base(tmp_path / "unet.safetensors", vae=True)


def test_the_names_of_2022_and_half_precision(state, tmp_path, other):
    old = {name.replace("transformer.text_model.", "transformer."): value.half() if value.is_floating_point() else value
           for name, value in state.items()}
    torch.save({"state_dict": old, "global_step": 3}, tmp_path / "old.ckpt")
    found = read_base(tmp_path / "old.ckpt", other)
    assert sum(name.startswith("text_encoder.") for name in found.tensors) == len(other.text_encoder.state_dict())


@pytest.mark.parametrize("change, pattern", [
    ({UNET_KEY: torch.ones(16, 9, 3, 3)}, r"does not fit at .*input_blocks.0.0.weight: it holds \(16, 9, 3, 3\).*"
     "inpainting models have other sizes"),
    ({UNET_KEY: torch.full((16, 4, 3, 3), torch.inf)}, "NaN or infinite"),
    ({UNET_KEY: None}, "lacks 1 tensors of Stable Diffusion 1.5: unet.conv_in.weight"),
])
def test_files_of_other_models(state, tmp_path, other, change, pattern):
    kept = {name: value for name, value in (state | change).items() if value is not None}
    save_file(kept, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=pattern):
        read_base(tmp_path / "a.safetensors", other)


def test_objects_are_not_loaded(tmp_path, other):
    class Evil:
        def __reduce__(self):
            return print, ("code ran",)

    torch.save({"state_dict": {UNET_KEY: Evil()}}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="keep its state_dict only"):
        read_base(tmp_path / "a.ckpt", other)


def test_generate_with_a_base_model_and_again(file, folder, tmp_path, capsys):
    model = tmp_path / "model"
    AnyText2Pipeline(lively_model(), defaults=Defaults(96, 48, 2)).save_pretrained(model)
    ask = ["generate", "--model", str(model), "--out", str(tmp_path), "--device", "cpu", "--line", "Tea"]
    assert main([*ask, "--seed", "1", "--base", str(file), "--base-vae"]) == 0
    assert f"base model {file}: " in capsys.readouterr().err
    assert main([*ask, "--seed", "2", "--base", str(folder)]) == 0
    assert read_record(tmp_path / "picture_1.png")["adaptation"]["base"]["vae"] is True
    assert main(["generate", "--from", str(tmp_path / "picture_2.png"), "--out", str(tmp_path)]) == 0
    made, again = (np.array(Image.open(tmp_path / f"picture_2{end}.png")) for end in ("", "_again"))
    assert np.array_equal(made, again)
    assert main([*ask, "--seed", "3", "--base-vae"]) == 2
    assert "no base model: name one" in capsys.readouterr().err
    assert main([*ask, "--seed", "3", "--base", str(tmp_path / "none.safetensors")]) == 2
    assert "there is no file" in capsys.readouterr().err
