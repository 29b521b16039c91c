"""`anytext fit --lora_rank`: only low-rank weights are trained and saved, runs go on, and the file is read back."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from anytext_lib.adapters.adaptation import Adaptation, Adapter
from anytext_lib.adapters.low_rank import attach, attached, target_layers
from anytext_lib.cli import main
from anytext_lib.errors import OptionError
from anytext_lib.files import data_folder
from anytext_lib.generation import AnyText2Pipeline, Defaults
from anytext_lib.models import AnyText2Model
from anytext_lib.training.low_rank_run import FINGERPRINT, is_low_rank
from tests.unit.generation_model import lively_model

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

STEPS = 3


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The folder of the model that training starts from."""
    folder = tmp_path_factory.mktemp("start")
    AnyText2Pipeline(lively_model(), defaults=Defaults(96, 48, 2)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def fit(start, runs, name, *more):
    return main(["fit", "--config", "tiny.yaml", "--model.model", str(start), "--runs", str(runs), "--name", name,
                 "--train", str(data_folder() / "annotations.json"), "--val", "null", "--percent", "0.125",
                 "--lora_rank", "4", "--learning_rate", "1e-2", "--save_steps", "1", "--max_steps", str(STEPS),
                 "--trainer.logger", "false", *more])


def newest(runs, name, step=STEPS):
    return torch.load(runs / name / "checkpoints" / f"step={step:07d}.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def run(start, runs):
    """Three steps, with everything that has a state."""
    assert fit(start, runs, "whole", "--ema", "0.9", "--lr_schedule", "cosine", "--lora_alpha", "8") == 0
    return runs / "whole"


# low-rank weights beside frozen ones


def test_the_first_step_begins_at_the_model_as_it_is_and_only_low_rank_weights_learn():
    model, plain = lively_model(), lively_model()
    groups = attach(model, ["unet", "attnx", "writenet", "text_encoder"], rank=2, alpha=1.0, seed=5)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for members in groups.values() for name, _ in members} == trained and all(map(is_low_rank, trained))
    assert set(model.state_dict()) - trained == set(plain.state_dict()), "all other names stay"
    x, time, context = torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 77, 32)
    assert torch.equal(model.unet(x, time, context).sample, plain.unet(x, time, context).sample)
    model.unet(x, time, context).sample.sum().backward()
    up, down = (model.get_parameter(f"unet.mid_block.attentions.0.transformer_blocks.0.attn1x.to_q.{key}.weight")
                for key in ("lora_B", "lora_A"))
    assert up.grad.any() and not down.grad.any(), "A waits for B, which starts at zero"
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if not is_low_rank(name))


def test_targets():
    with torch.device("meta"):
        model = AnyText2Model("sd15")
    counts = {target: len(target_layers(model, [target])) for target in ("unet", "attnx", "writenet", "text_encoder")}
    assert counts == {"unet": 128, "attnx": 56, "writenet": 56, "text_encoder": 48}
    groups = attach(model, ["unet", "attnx", "writenet"], rank=8)
    sizes = {target: sum(p.numel() for _, p in members) for target, members in groups.items()}
    assert sizes == {"unet": 1_594_368, "attnx": 874_496, "writenet": 731_136}
    for wrong in (["decoder"], []):
        with pytest.raises(OptionError, match="name some of unet, attnx, writenet, text_encoder"):
            target_layers(model, wrong)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_update_follows_the_dtype_of_the_frozen_weights(dtype):
    model = lively_model().unet.to(dtype)
    layer = model.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
    attach(torch.nn.ModuleDict({"unet": model}), ["unet"], 2)
    torch.nn.init.normal_(layer.lora_B.weight, std=0.1)
    x = torch.randn(3, 32).to(dtype)
    found = layer(x)
    merged = layer.weight.float() + layer.lora_B.weight @ layer.lora_A.weight
    assert found.dtype == dtype and layer.lora_B.weight.dtype == torch.float32
    torch.testing.assert_close(found.float(), x.float() @ merged.T, rtol=0, atol=20 * torch.finfo(dtype).eps)


# a run


def test_only_low_rank_weights_are_saved(run, start):
    state = newest(run.parent, run.name)
    assert all(map(is_low_rank, state["state_dict"])) and state[FINGERPRINT]
    assert len(state["optimizer_states"][0]["state"]) == len(state["state_dict"])
    before = AnyText2Model.from_pretrained(start).state_dict()
    assert len(state["state_dict"]) == 2 * len(target_layers(AnyText2Model.from_pretrained(start),
                                                             ["unet", "attnx", "writenet"]))
    assert not set(before) & set(state["state_dict"]) and not (run / "model").exists()
    assert sorted(path.name for path in run.glob("*.safetensors")) == ["lora.safetensors", "lora_kohya.safetensors"]


def test_the_exported_file_gives_the_trained_model(run, start):
    """The file holds the average of the weights, as everything that measures during a run does."""
    state = newest(run.parent, run.name)
    average = next(value["average"] for key, value in state["callbacks"].items() if "ExponentialAverage" in key)
    trained = AnyText2Model.from_pretrained(start)
    attach(trained, ["unet", "attnx", "writenet"], 4, 8.0)
    with torch.no_grad():
        for name, value in average.items():
            trained.get_parameter(name).copy_(value)
    merged = AnyText2Model.from_pretrained(start)
    Adapter(merged).apply(Adaptation(loras=((str(run / "lora.safetensors"), 1.0),)))
    own = AnyText2Model.from_pretrained(start)
    updates = attached(trained)
    assert len(updates) > 40 and all(update.scale == 2.0 and update.up.any() for update in updates.values())
    for name, value in merged.state_dict().items():
        expected, layer = own.state_dict()[name], name.removesuffix(".weight")
        expected = expected + updates[layer].delta(expected) if layer in updates else expected
        assert torch.equal(value, expected), name
    x, time, context = torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 77, 32)
    theirs, ours = trained.unet(x, time, context).sample, merged.unet(x, time, context).sample
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert (ours - own.unet(x, time, context).sample).abs().max() > 100 * (ours - theirs).abs().max()


def test_generate_reads_the_exported_file(run, start, tmp_path, capsys):
    for name, more in (("with", ["--lora", str(run / "lora.safetensors")]), ("without", [])):
        assert main(["generate", "--model", str(start), "--out", str(tmp_path / name), "--device", "cpu", "--line",
                     "Tea", "--seed", "1", *more]) == 0
    assert "(attnx 24, unet 56, writenet 24) of rank 4" in capsys.readouterr().err
    assert (tmp_path / "with/picture_1.png").read_bytes() != (tmp_path / "without/picture_1.png").read_bytes()
    names = set(load_file(run / "lora_kohya.safetensors"))
    assert len(names) == 3 * 56 and all(name.startswith("lora_unet_") and "attn1x" not in name for name in names)


def test_a_run_goes_on_bit_for_bit(run, start, runs):
    options = ["--ema", "0.9", "--lr_schedule", "cosine", "--lora_alpha", "8"]
    assert fit(start, runs, "parts", *options, "--save_ckpt_top", "-1") == 0
    folder = runs / "parts"
    for late in (folder / "checkpoints").glob("step=000000[23].ckpt"):
        late.unlink()
    (folder / "lora.safetensors").unlink()
    assert fit(start, runs, "parts", *options, "--ckpt_path", "last") == 0
    first, second = newest(runs, "whole"), newest(runs, "parts")
    assert all(torch.equal(value, second["state_dict"][name]) for name, value in first["state_dict"].items())
    assert (folder / "lora.safetensors").read_bytes() == (run / "lora.safetensors").read_bytes()


def test_a_run_does_not_go_on_upon_another_model_or_over_another_run(run, start, runs, tmp_path, capsys):
    lively_model(seed=8).save_pretrained(tmp_path / "other")
    options = ["--ema", "0.9", "--lr_schedule", "cosine", "--lora_alpha", "8"]
    assert fit(tmp_path / "other", runs, "whole", *options, "--ckpt_path", "last", "--max_steps", "5") == 2
    assert "belong to another model than the one that --model names" in capsys.readouterr().err
    assert fit(start, runs, "whole", *options, "--ckpt_path", "last", "--lora_rank", "2") == 2
    assert "is of a model of another size" in capsys.readouterr().err
    assert fit(start, runs, "whole", *options, "--ckpt_path", "last", "--lora_rank", "0", "--lora_alpha", "null") == 2
    assert "the checkpoint is of another model" in capsys.readouterr().err
    assert fit(start, runs, "whole") == 2 and "would be overwritten" in capsys.readouterr().err


def test_frozen_weights_may_be_half_as_large(start, runs, capsys):
    assert fit(start, runs, "half", "--frozen_dtype", "bfloat16", "--loss_alpha", "0.01", "--max_steps", "2",
               "--lora_targets", "[attnx]", "--gradient_checkpointing", "true") == 0
    state = newest(runs, "half", 2)["state_dict"]
    assert {value.dtype for value in state.values()} == {torch.float32} and all("attn" in name for name in state)
    assert any(value.any() for name, value in state.items() if name.endswith("lora_B.weight"))
    assert not (runs / "half" / "lora_kohya.safetensors").exists(), "nothing in it is Stable Diffusion's"


@pytest.mark.parametrize("options, pattern", [
    (["--sd_locked", "false"], "but sd_locked false asks for more"),
    (["--train_all", "true", "--unlock_qkv", "true"], "but unlock_qkv true, train_all true asks for more"),
    (["--lora_rank", "-1"], "lora_rank is a whole number of at least 1"),
    (["--lora_alpha", "0"], "lora_alpha is a number above 0"),
    (["--lora_targets", "[decoder]"], "name some of unet, attnx, writenet, text_encoder"),
    (["--lora_rank", "0", "--frozen_dtype", "bfloat16"], "frozen_dtype is for runs with low-rank weights"),
])
def test_wrong_options(start, tmp_path, capsys, options, pattern):
    assert fit(start, tmp_path, "run", *options) == 2
    assert pattern in capsys.readouterr().err and not (tmp_path / "run").exists()
