"""The counted work of a training step: exact where it can be counted by hand, and what each option changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from anytext_lib.experiments.patches import stacked_lines
from anytext_lib.models import AnyText2Model
from anytext_lib.training.memory import MemoryPlan, build, gpu_arithmetic, inputs, training_memory
from anytext_lib.training.work import GPUS, PARTS, Gpu, Operation, Tally, floor_seconds, flops, moved, step_work

SMALL = MemoryPlan(rank=0, size=(64, 64), batch=2)
SQUARE = 64 * 64 * 4


@pytest.fixture(scope="module")
def plain():
    return step_work(SMALL, "tiny")


def empty(*shape, **options):
    return torch.empty(*shape, device="meta", **options)


def test_a_layer_by_hand():
    layer, x = nn.Conv2d(8, 16, 3, padding=1, bias=False, device="meta"), empty(2, 8, 32, 32)
    with Tally() as tally:
        layer(x).detach().flatten()
    (only,) = tally.operations
    values = x.numel() + 2 * 16 * 32 * 32 + 16 * 8 * 9
    assert only == Operation("convolution", 2 * 2 * 32 * 32 * 16 * 8 * 9, 4 * values)


def test_views_are_free_and_changes_in_place_are_not():
    with Tally() as tally:
        x = empty(64, 64)
        x.t()[3:].unsqueeze(0).expand(5, -1, -1)
        x.add_(1)
    assert [(found.name, found.bytes) for found in tally.operations] == [("add_", 2 * SQUARE)]


def test_attention_by_hand():
    query, key = empty(2, 4, 100, 16, requires_grad=True), empty(2, 4, 77, 16)
    tally, product = Tally(), 2 * 2 * 4 * 100 * 77 * 16
    with gpu_arithmetic(report=tally.attention):
        F.scaled_dot_product_attention(query, key, key).sum().backward()
    assert [found.flops for found in tally.operations] == [2 * product, 5 * product]


def test_the_floor_is_the_larger_of_two_times():
    gpu = Gpu(single=100.0, half=200.0, bandwidth=10.0, memory=80, link=1.0)
    slow, wide = Operation("a", 1000, 10), Operation("b", 10, 1000)
    assert slow.floor(gpu) == 10.0 and wide.floor(gpu) == 100.0
    assert replace(slow, half=True).floor(gpu) == 5.0
    assert floor_seconds([slow, wide], gpu) == 110.0
    assert all(gpu.half > gpu.single > 1e3 * gpu.bandwidth / 40 for gpu in GPUS.values())


def test_parts_add_up_to_what_torch_counts(plain):
    """Forward passes; torch counts attention on the meta device as plain products, with the same FLOPs."""
    model, _ = build(SMALL, "tiny")
    latents, told = inputs(model, SMALL)
    with FlopCounterMode(display=False) as counter:
        model(latents, torch.zeros(2, device="meta"), told)
    assert flops(plain["WriteNet"].forward) + flops(plain["UNet"].forward) == counter.get_total_flops()
    with FlopCounterMode(display=False) as counter:
        model.encode(empty(3, 3, 64, 64), sample=False)
    assert flops(plain["encoder"].forward) == counter.get_total_flops(), "two pictures and the black one"


def test_the_frozen_encoder_of_the_unet_has_no_backward_pass(plain):
    unet, control = plain["UNet"], plain["WriteNet"]
    assert flops(unet.backward) / flops(unet.forward) < 0.8 * flops(control.backward) / flops(control.forward)
    assert flops(control.backward) > 1.8 * flops(control.forward), "gradients of inputs and weights"
    assert not plain["encoder"].backward and plain["encoder"].kept == 0
    assert set(plain) == set(PARTS) - {"decoder"}


def test_adamw_reads_four_numbers_a_weight_and_writes_three(plain):
    trained = training_memory(SMALL, "tiny").trained
    assert moved(plain["optimizer"].operations) == 28 * trained


def test_what_each_option_changes(plain):
    again = step_work(replace(SMALL, checkpointing=True), "tiny")
    for part in ("WriteNet", "UNet"):
        assert flops(again[part].backward) > flops(plain[part].backward)
        assert flops(again[part].forward) == flops(plain[part].forward) and again[part].kept < plain[part].kept
    assert all(not operation.half for part in plain.values() for operation in part.operations)
    mixed = step_work(replace(SMALL, mixed=True), "tiny")
    for part in ("WriteNet", "UNet", "encoder"):
        assert flops(mixed[part].operations) == flops(plain[part].operations)
        assert all(operation.half for operation in mixed[part].operations if operation.flops)
    low_rank = step_work(replace(SMALL, rank=2), "tiny")
    assert flops(low_rank["WriteNet"].backward) < flops(plain["WriteNet"].backward)
    assert moved(low_rank["optimizer"].operations) < 0.1 * moved(plain["optimizer"].operations)


def test_decoding_around_the_lines_is_counted():
    """One line in a picture of 512 pixels, the tiny model's decoder."""
    whole = MemoryPlan(rank=0, size=(512, 512), reading=True)
    around = replace(whole, lines=stacked_lines(1, (190, 70)))
    decoders = [step_work(plan, "tiny")["decoder"] for plan in (whole, around)]
    assert flops(decoders[1].operations) < 0.5 * flops(decoders[0].operations)
    assert decoders[1].kept < 0.5 * decoders[0].kept


def test_mixed_arithmetic_has_the_types_of_autocast():
    """Products in bfloat16, norms in float32, sums in the wider type; as `torch.autocast` lists them for CUDA."""
    conv, norm = nn.Conv2d(4, 4, 3, device="meta"), nn.GroupNorm(2, 4, device="meta")
    with gpu_arithmetic(mixed=True):
        low = conv(empty(1, 4, 8, 8))
        high = norm(low)
        assert (low.dtype, high.dtype, F.silu(low).dtype) == (torch.bfloat16, torch.float32, torch.bfloat16)
        assert (low + high).dtype == torch.float32 and torch.matmul(high, high).dtype == torch.bfloat16
        assert F.scaled_dot_product_attention(*[empty(1, 2, 8, 8)] * 3).dtype == torch.bfloat16
        assert F.linear(high, empty(3, 6)).dtype == torch.bfloat16 and F.softmax(low, -1).dtype == torch.float32
    high.sum().backward()
    assert conv.weight.grad.dtype == torch.float32, "gradients of float32 weights"
    assert conv(empty(1, 4, 8, 8)).dtype == torch.float32, "and outside of it everything is as before"


def test_mixed_arithmetic_goes_with_checkpointing():
    plans = [replace(SMALL, mixed=True, checkpointing=checkpointing) for checkpointing in (False, True)]
    plain, again = (step_work(plan, "tiny")["UNet"] for plan in plans)
    assert all(operation.half for operation in again.backward if operation.flops)
    assert flops(again.backward) > flops(plain.backward) and again.kept < plain.kept


def test_mixed_arithmetic_saves_activations_and_nothing_else():
    plain, mixed = (training_memory(replace(SMALL, size=(256, 256), mixed=mixed), "tiny") for mixed in (False, True))
    assert (plain.weights, plain.gradients, plain.optimizer) == (mixed.weights, mixed.gradients, mixed.optimizer)
    assert mixed.activations < 0.95 * plain.activations


def test_building_leaves_nothing_but_the_meta_device():
    model, groups = build(replace(SMALL, rank=2), "tiny")
    assert isinstance(model, AnyText2Model) and groups
    assert all(parameter.is_meta for parameter in model.parameters())
