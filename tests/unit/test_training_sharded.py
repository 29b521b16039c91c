"""Two processes that share the model out (FSDP2) do what one process does, and save and resume as one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anytext_lib.cli import main
from anytext_lib.files import data_folder
from anytext_lib.models import AnyText2Model
from anytext_lib.models.freezing import apply
from anytext_lib.models.sharding import shared_modules, whole
from anytext_lib.udifftext.model import UDiffTextModel
from tests.unit.two_processes import (
    assert_close,
    assert_same,
    command,
    fit,
    results,
    start,
    together,
    train,
    train_and_resume,
)

slow = pytest.mark.slow  # the processes wait for each other some hundred times a step
CASES = ("full", "blank", "checkpointed", "everything")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes computed, and one."""
    folder = tmp_path_factory.mktemp("sharded")
    two, one = str(folder / "two"), str(folder / "one")
    together((train, "fsdp2", two, *CASES), (train_and_resume, "fsdp2", two))
    train("alone", one, *(case for case in CASES if case != "checkpointed"))
    train_and_resume("alone", one)
    return folder


@slow
@pytest.mark.parametrize("case", [*CASES, "uneven"])
def test_two_processes_equal_one(folder, case):
    """Measured: gradients differ by 2e-14 of their norm at the first step, by 2e-7 after one step of AdamW."""
    (one,), two = results(folder / "one", case.replace("checkpointed", "full"), 1), results(folder / "two", case)
    assert_same(one, two)
    assert all(torch.equal(value, two[1]["weights"][name]) for name, value in two[0]["weights"].items())


@slow
def test_a_process_without_lines_takes_part(folder):
    first, second = results(folder / "two", "blank")
    assert first["lines"] > [0] and second["lines"] == [0] and first["loss"] != second["loss"]


@slow
def test_a_resumed_run_ends_with_the_same_bits(folder):
    whole_run, resumed = results(folder / "two", "uneven"), results(folder / "two-resumed", "uneven")
    for a, b in zip(whole_run, resumed, strict=True):
        assert len(b["gradients"]) == 1 and a["loss"][2:] == b["loss"]
        assert all(torch.equal(value, b["weights"][name]) for name, value in a["weights"].items())


@slow
def test_checkpoint_and_average_are_those_of_one_process(folder):
    one, two = (torch.load(folder / f"{name}.ckpt", weights_only=True) for name in ("one", "two"))
    assert one["state_dict"].keys() == two["state_dict"].keys() and one["loops"].keys() == two["loops"].keys()
    assert_close(one["state_dict"], two["state_dict"])
    (own,), (shared,) = one["optimizer_states"], two["optimizer_states"]
    assert own["param_groups"] == shared["param_groups"]
    for key, values in own["state"].items():
        assert_close(values, shared["state"][key])
    averages = [torch.load(folder / f"{name}-average-0.pt", weights_only=True)["average"] for name in ("one", "two")]
    assert_close(*averages)


@slow
def test_one_process_goes_on_from_two(folder, tmp_path):
    fit("alone", str(tmp_path / "on"), "uneven", start(), resume=str(folder / "two.ckpt"))
    (wanted,), (found,) = results(folder / "one", "uneven", 1), results(tmp_path / "on", "uneven", 1)
    assert_close(wanted["weights"], found["weights"])


@slow
def test_the_first_process_writes_the_whole_model(folder):
    saved = AnyText2Model.from_pretrained(folder / "two-model", dtype=torch.float64)
    assert_close(results(folder / "one", "uneven", 1)[0]["weights"], dict(saved.double().named_parameters()))


@slow
def test_as_a_user_has_it(tmp_path, capsys):
    """Pictures, a judge and an average along the way; what two processes left one takes up."""
    runs = str(tmp_path)
    together((command, "fsdp2", runs, "--devices", "2", "--max_steps", "1", "--ema", "0.9", "--images.every", "1",
              "--images.steps", "1", "--gradient_clip_val", "1.0", "--batch_size", "1", "--val_check_interval", "1",
              "--val", str(data_folder() / "annotations.json"), "--val_limit", "2"))
    assert "the trained model is in" in capsys.readouterr().err
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} == {"checkpoints", "config.yaml", "images", "model"}
    command("auto", runs, "--max_steps", "2", "--ema", "0.9", "--batch_size", "2", "--ckpt_path", "last")
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == [
        f"step=000000{step}.ckpt" for step in (1, 2)]
    assert AnyText2Model.from_pretrained(run / "model").text_embedding.config.width == 32


# what is shared out

def modules(**switches):
    model = AnyText2Model.from_config("tiny", pretrained_recognizer=False)
    apply(model, **switches)
    return model, shared_modules(model)


def test_frozen_parts_stay_whole():
    model, names = modules()
    assert {name.split(".")[0] for name in names} == {"unet", "writenet", "text_embedding"}
    assert names[-1] == "text_embedding" and {"unet", "writenet"} < set(names)
    assert all(isinstance(model.get_submodule(name), nn.Module) for name in names)


@pytest.mark.parametrize("switches", [{}, {"train_all": True}, {"cond_stage_trainable": True}])
def test_every_trained_weight_is_shared_out_once_and_inner_modules_come_first(switches):
    model, names = modules(**switches)
    order = {name: i for i, name in enumerate(names)}
    assert len(order) == len(names)
    for name in names:
        assert all(order[other] < order[name] for other in names if other.startswith(f"{name}."))
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or any(name.startswith(f"{module}.") for module in names), name


def test_the_largest_piece_of_the_official_size():
    """What a process holds beside its share: one block at a time."""
    with torch.device("meta"):
        model = AnyText2Model.from_config("sd15", "bytes")
    apply(model)
    sizes, taken = {}, set()
    for name in shared_modules(model):
        own = [p for key, p in model.get_submodule(name).named_parameters() if id(p) not in taken]
        taken |= set(map(id, own))
        sizes[name] = sum(p.numel() for p in own)
    assert max(sizes.values()) < 55e6 and sum(sizes.values()) == 1_287_297_693


def test_of_udifftext_the_unet_alone_is_shared_out():
    model = UDiffTextModel("tiny")
    model.train_only_text_attention(False)
    assert {name.split(".")[0] for name in shared_modules(model)} == {"unet"}


def test_whole_tensors_are_left_alone():
    tensor = torch.ones(2)
    assert whole(tensor) is tensor


@pytest.mark.parametrize(("options", "message"), [
    (["--precision", "16-mixed"], "Choose a different precision among: 32-true, bf16-mixed, bf16-true"),
    (["--lora_rank", "2"], "leave out trainer.strategy, or lora_rank")])
def test_what_does_not_go_is_refused_in_one_line(tmp_path, capsys, options, message):
    try:
        assert main(["fit", "--config", "tiny.yaml", "--runs", str(tmp_path), "--trainer.strategy", "fsdp2",
                     *options]) == 2
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    error = capsys.readouterr().err
    assert message in error and error.count("anytext fit:") == 1 and "Traceback" not in error
