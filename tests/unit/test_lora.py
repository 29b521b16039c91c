"""Low-rank updates at inference: the formula, the forms of files, several at once, undo, and what a user types."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from anytext_lib.adapters.adaptation import Adaptation, Adapter, parse_lora
from anytext_lib.adapters.lora_files import read_lora, write_kohya, write_lora
from anytext_lib.adapters.low_rank import LoraError, LowRank
from anytext_lib.cli import main
from anytext_lib.generation import AnyText2Pipeline, Defaults
from anytext_lib.generation.metadata import read_record
from anytext_lib.upstream.checkpoint import CheckpointError
from tests.unit.generation_model import lively_model
from tests.unit.lora_samples import CLIP, CONV, LAYERS, UNET, factors, in_form, lora_file

EXTRA_LAYER = "unet.up_blocks.0.attentions.1.transformer_blocks.0.attn1x.to_q"


@pytest.fixture(scope="module")
def model():
    return lively_model()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    AnyText2Pipeline(model, defaults=Defaults(96, 48, 2)).save_pretrained(folder)
    return folder


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before, after) -> set[str]:
    return {name.removesuffix(".weight") for name, value in before.items() if not torch.equal(value, after[name])}


# the formula


@pytest.mark.parametrize("shape, kernel", [((6, 4), None), ((6, 4, 1, 1), 1), ((6, 4, 3, 3), 3)])
def test_the_merged_weight_computes_what_both_projections_compute(shape, kernel):
    torch.manual_seed(0)
    weight, down, up = torch.randn(shape), torch.randn(2, *shape[1:]), torch.randn(6, 2, *(1,) * (len(shape) - 2))
    update = LowRank(down, up, alpha=3.0)
    x = torch.randn(5, 4) if kernel is None else torch.randn(5, 4, 7, 7)
    run = F.linear if kernel is None else (lambda x, w: F.conv2d(x, w, padding=w.shape[-1] // 2))
    apart = run(x, weight) + 3.0 / 2 * run(run(x, down), up)
    assert update.fits(weight)
    torch.testing.assert_close(run(x, weight + update.delta(weight)), apart, rtol=1e-4, atol=1e-4)


def test_projections_of_a_linear_layer_may_be_kernels_of_one():
    update = LowRank(torch.randn(2, 4, 1, 1), torch.randn(6, 2, 1, 1), 2.0)
    assert update.fits(torch.zeros(6, 4)) and update.delta(torch.zeros(6, 4)).shape == (6, 4)
    assert not update.fits(torch.zeros(6, 4, 3, 3)) and not update.fits(torch.zeros(4, 6))


# the forms of files


@pytest.mark.parametrize("form, alpha", [("kohya", 1.0), ("kohya", None), ("diffusers", 1.0), ("diffusers", None),
                                         ("old diffusers", None), ("peft", None)])
def test_every_form_is_read_to_the_same_layers(model, tmp_path, form, alpha):
    found = read_lora(lora_file(tmp_path / "a.safetensors", model, form, alpha), model)
    assert set(found.layers) == set(LAYERS) and found.unknown == []
    for number, (name, update) in enumerate(found.layers.items()):
        down, up = factors(model, name, seed=list(LAYERS).index(name))
        assert torch.equal(update.down, down) and torch.equal(update.up, up), number
        assert update.scale == (0.5 if alpha else 1.0), "alpha 1 over rank 2; without alpha the product as it is"


def test_ldm_names_lead_to_the_same_layer(model, tmp_path):
    down, up = factors(model, f"unet.{UNET}")
    ldm = "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q"
    save_file({f"{ldm}.lora_down.weight": down, f"{ldm}.lora_up.weight": up}, tmp_path / "a.safetensors")
    assert set(read_lora(tmp_path / "a.safetensors", model).layers) == {f"unet.{UNET}"}


@pytest.mark.parametrize("config, scale", [({"r": 2, "lora_alpha": 6}, 3.0),
                                           ({"r": 2, "lora_alpha": 6, "use_rslora": True}, 6 / 2**0.5),
                                           ({"r": 2, "lora_alpha": 6, "alpha_pattern": {"attn1.to_q": 1}}, 0.5)])
def test_a_folder_of_peft_has_its_alpha_in_a_file_beside(model, tmp_path, config, scale):
    lora_file(tmp_path / "adapter_model.safetensors", model, "peft", layers=[f"unet.{UNET}"])
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert read_lora(tmp_path, model).layers[f"unet.{UNET}"].scale == pytest.approx(scale)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(LoraError, match="of the form DoRA"):
        read_lora(tmp_path, model)


def test_what_the_model_does_not_have_is_counted_and_named(model, tmp_path):
    odd = {"lora_unet_down_blocks_9_attn_to_q.lora_down.weight": torch.ones(2, 2),
           "lora_unet_down_blocks_9_attn_to_q.lora_up.weight": torch.ones(2, 2),
           f"{in_form('kohya', EXTRA_LAYER)}.lora_down.weight": torch.ones(2, 32),  # AnyText2's own attentions
           "unet.conv_in.hada_w1_a": torch.ones(2, 2),
           f"{in_form('kohya', 'unet.' + CONV)}.dora_scale": torch.ones(1)}
    found = read_lora(lora_file(tmp_path / "a.safetensors", model, more=odd), model)
    assert set(found.layers) == set(LAYERS) - {f"unet.{CONV}"}, "a layer of another form is not taken by halves"
    assert set(found.unknown) == {"lora_unet_down_blocks_9_attn_to_q", in_form("kohya", EXTRA_LAYER), "unet.conv_in",
                                  in_form("kohya", "unet." + CONV)}
    assert "4 layers (text_encoder 1, unet 3) of rank 2; left out, unknown to this model: 4 (lora_unet" in str(found)


@pytest.mark.parametrize("tensors, pattern", [
    ({"lora_unet_x.lora_down.weight": torch.ones(2, 2)}, "no low-rank update of a layer of this model"),
    ({"unet.conv_in.hada_w1_a": torch.ones(2, 2)}, "of another form than LoRA"),
    ({f"unet.{UNET}.lora_A.weight": torch.ones(2, 2048), f"unet.{UNET}.lora_B.weight": torch.ones(16, 2)},
     r"holds \(2, 2048\) and \(16, 2\) for a layer of \(16, 16\); it was made for another base model"),
    ({f"unet.{UNET}.lora_A.weight": torch.full((2, 16), torch.nan), f"unet.{UNET}.lora_B.weight": torch.ones(16, 2)},
     "NaN or infinite"),
    ({f"unet.{UNET}.lora_A.weight": torch.ones(2), f"unet.{UNET}.lora_B.weight": torch.ones(16, 2)}, "is damaged at"),
])
def test_wrong_files(model, tmp_path, tensors, pattern):
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(LoraError, match=pattern):
        read_lora(tmp_path / "a.safetensors", model)


def test_files_that_cannot_be_read_safely(model, tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("code ran",)

    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="not loaded because that could"):
        read_lora(tmp_path / "evil.pt", model)
    with pytest.raises(CheckpointError, match="there is no file"):
        read_lora(tmp_path / "none.safetensors", model)
    with pytest.raises(LoraError, match="has no adapter_model.safetensors"):
        read_lora(tmp_path, model)


# several at once, and undo


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_two_files_add_up_and_leave_no_trace(tmp_path, dtype):
    pipeline = AnyText2Pipeline(lively_model()).to(dtype)
    model, before = pipeline.model, weights(pipeline.model)
    first = lora_file(tmp_path / "a.safetensors", model, alpha=1.0)
    second = lora_file(tmp_path / "b.safetensors", model, "diffusers", seed=9,
                       layers=[f"unet.{UNET}", f"text_encoder.{CLIP}"])
    pipeline.load_lora(first, 0.7)
    alone = weights(model)
    assert changed(before, alone) == set(LAYERS)
    name = f"unet.{UNET}"
    down, up = factors(model, name)
    expected = before[f"{name}.weight"].float() + 0.7 * 0.5 * up @ down
    found, rounding = model.get_submodule(name).weight, torch.finfo(dtype).eps
    torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=rounding)
    assert len(pipeline.load_lora(second, -0.4)) == 2
    assert changed(alone, weights(model)) == {name, f"text_encoder.{CLIP}"}
    pipeline.unload_lora(second)
    assert changed(alone, weights(model)) == set(), "as if the second had never been there"
    pipeline.load_lora(first, 0.2)
    assert pipeline.adapter.adaptation.loras == ((str(first), 0.2),), "the same file again is another ratio"
    pipeline.unload_lora()
    assert changed(before, weights(model)) == set(), "to the last bit"


def test_a_file_that_fails_changes_nothing(model, tmp_path):
    adapter, before = Adapter(model), weights(model)
    good = lora_file(tmp_path / "a.safetensors", model)
    with pytest.raises(CheckpointError):
        adapter.apply(Adaptation(loras=((str(good), 1.0), (str(tmp_path / "none"), 1.0))))
    assert changed(before, weights(model)) == set() and adapter.adaptation == Adaptation()


def test_what_is_typed_for_a_file(tmp_path):
    (tmp_path / "a:2").touch()
    assert parse_lora("dir/a.safetensors:0.8") == ("dir/a.safetensors", 0.8)
    assert parse_lora(" a.safetensors ") == ("a.safetensors", 1.0) and parse_lora("a:-1") == ("a", -1.0)
    assert parse_lora(str(tmp_path / "a:2")) == (str(tmp_path / "a:2"), 1.0), "a name with a colon"
    for wrong in ("", ":1", "a:strong"):
        with pytest.raises(LoraError, match="write FILE or FILE:RATIO"):
            parse_lora(wrong)
    with pytest.raises(LoraError, match="ratio of a is nan"):
        Adaptation.of(loras=["a:nan"])


# what other programs read


def written(model) -> dict[str, LowRank]:
    names = [*LAYERS, EXTRA_LAYER, "writenet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"]
    return {name: LowRank(*factors(model, name), alpha=4.0) for name in names}


def test_both_forms_are_read_back(model, tmp_path):
    layers = written(model)
    write_lora(layers, tmp_path / "peft.safetensors")
    assert write_kohya(layers, tmp_path / "kohya.safetensors")
    own, kohya = (read_lora(tmp_path / f"{form}.safetensors", model) for form in ("peft", "kohya"))
    assert set(own.layers) == set(layers) and own.unknown == []
    assert set(kohya.layers) == set(LAYERS), "what Stable Diffusion does not have is left out"
    for file in (own, kohya):
        for name, update in file.layers.items():
            weight = model.get_submodule(name).weight
            torch.testing.assert_close(update.delta(weight), layers[name].delta(weight))
    assert not write_kohya({EXTRA_LAYER: layers[EXTRA_LAYER]}, tmp_path / "none.safetensors")
    assert not (tmp_path / "none.safetensors").exists()


def test_diffusers_reads_both_forms(model, tmp_path):
    from diffusers import StableDiffusionPipeline

    layers = {name: update for name, update in written(model).items() if name.endswith(("to_q", "v_proj"))}
    write_lora(layers, tmp_path / "peft.safetensors")
    write_kohya(layers, tmp_path / "kohya.safetensors")
    state, alphas = StableDiffusionPipeline.lora_state_dict(str(tmp_path / "peft.safetensors"))
    assert alphas is None and all("lora" in name for name in state)
    assert f"unet.{UNET}.lora_A.weight" in state and f"text_encoder.text_model.{CLIP}.lora_B.weight" in state
    state, alphas = StableDiffusionPipeline.lora_state_dict(str(tmp_path / "kohya.safetensors"))
    down, _ = factors(model, f"unet.{UNET}")
    processor = UNET.replace("attn1.to_q", "attn1.processor.to_q_lora.down.weight")
    assert torch.equal(state[f"unet.{processor}"], down) and set(alphas.values()) == {4.0}
    assert len(state) == 2 * (len(layers) - 1), "all but AnyText2's own attention"


# what a user types


def generate(folder, out, *arguments):
    return main(["generate", "--model", str(folder), "--out", str(out), "--device", "cpu", "--line", "Tea", "--seed",
                 "1", *map(str, arguments)])


def pixels(path):
    with Image.open(path) as picture:
        return np.array(picture)


def test_generate_with_files_and_again(model, folder, tmp_path, capsys):
    first = lora_file(tmp_path / "a.safetensors", model, more={"odd.lora_A.weight": torch.ones(1, 1)})
    second = lora_file(tmp_path / "b.safetensors", model, "diffusers", seed=5)
    assert generate(folder, tmp_path / "plain") == 0
    assert generate(folder, tmp_path / "two", "--lora", f"{first}:0.8", "--lora", second) == 0
    said = capsys.readouterr().err
    assert f"anytext: LoRA {first}: 5 layers (text_encoder 1, unet 4) of rank 2; left out, unknown to this model: 1 " \
           "(odd), ratio 0.8" in said and "ratio 1\n" in said
    made = tmp_path / "two" / "picture_1.png"
    assert not np.array_equal(pixels(made), pixels(tmp_path / "plain" / "picture_1.png"))
    assert [lora["ratio"] for lora in read_record(made)["adaptation"]["loras"]] == [0.8, 1.0]
    assert main(["generate", "--from", str(made), "--out", str(tmp_path / "two")]) == 0
    assert np.array_equal(pixels(tmp_path / "two" / "picture_1_again.png"), pixels(made))
    lora_file(first, model, seed=77)
    assert main(["generate", "--from", str(made), "--out", str(tmp_path)]) == 2
    assert "has changed since the picture was made" in capsys.readouterr().err
    first.unlink()
    assert main(["generate", "--from", str(made), "--out", str(tmp_path)]) == 2
    assert "is not there any more" in capsys.readouterr().err


def test_edit_takes_a_file_and_wrong_ones_are_told(model, folder, tmp_path, capsys):
    Image.new("RGB", (96, 48), "gray").save(tmp_path / "photo.png")
    file = lora_file(tmp_path / "a.safetensors", model)
    region = ["--line", "{text: Tea, box: [10, 6, 70, 34]}", "--seed", "1", "--device", "cpu"]
    edit = ["edit", str(tmp_path / "photo.png"), "--model", str(folder), "--out", str(tmp_path), *region]
    assert main([*edit, "--lora", f"{file}:0.5"]) == 0
    assert read_record(tmp_path / "photo_1.png")["adaptation"]["loras"][0]["path"] == str(file)
    for wrong, pattern in ((f"{file}:much", "write FILE or FILE:RATIO"), ("/no/such", "there is no file /no/such")):
        assert main([*edit, "--lora", wrong]) == 2
        assert pattern in capsys.readouterr().err
