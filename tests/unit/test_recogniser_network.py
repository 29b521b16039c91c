"""The network with batch norms: equal to the folded one in evaluation mode, right gradients, upstream's tensors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from anytext_lib.ocr import PPOCRv3Recognizer, WeightsError
from anytext_lib.ocr.network import BatchNorm, PPOCRv3Network
from anytext_lib.ocr.onnx_weights import load_onnx, read_layers, recognizer_path, state_from_layers
from anytext_lib.ocr.recogniser import reader_of


@pytest.fixture(scope="module")
def trainable() -> PPOCRv3Network:
    return PPOCRv3Network.from_pretrained()


def noise(n: int, width: int = 320) -> torch.Tensor:
    return torch.rand(n, 3, 48, width, generator=torch.Generator().manual_seed(n)) * 2 - 1


def gradient(function, crops: torch.Tensor) -> torch.Tensor:
    crops = crops.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(crops).square().mean(), crops)
    return found


def test_has_upstreams_tensors_in_upstreams_order(trainable):
    state = trainable.state_dict()
    assert len(state) == 228
    assert sum(value.numel() for value in state.values()) == 2_652_289
    assert len(list(trainable.parameters())) == 132
    names = list(state)
    assert names[:2] == ["backbone.conv1._conv.weight", "backbone.conv1._batch_norm.weight"]
    assert "backbone.block_list.11._se.conv2.bias" in names
    assert "neck.encoder.svtr_block.1.mixer.qkv.weight" in names
    assert names[-2:] == ["head.fc.weight", "head.fc.bias"]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_equals_the_folded_recogniser(trainable, recognizer, n):
    crops = noise(n)
    with torch.no_grad():
        got, want = trainable(crops), recognizer(crops)
    assert got.features.shape == (n, 40, 64)
    torch.testing.assert_close(got.features, want.features, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(got.logits, want.logits, atol=2e-3, rtol=1e-3)


def test_folding_is_the_formula(trainable):
    """g W and shift - g mean, g = scale / sqrt(variance + eps)."""
    stored, folded = trainable.backbone.conv1, trainable.folded().backbone.conv1
    norm = stored._batch_norm
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    torch.testing.assert_close(folded._conv.weight, (stored._conv.weight * gain.view(-1, 1, 1, 1)).float())
    torch.testing.assert_close(folded._conv.bias, (norm.bias - gain * norm.running_mean).float())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trainable.folded().modules())


def test_a_reader_follows_moves_and_loads_and_is_not_copied(trainable):
    network = copy.deepcopy(trainable)
    reader = reader_of(network)
    assert reader_of(network) is reader and reader_of(copy.deepcopy(network)) is not reader
    network.load_state_dict({name: value + 1 for name, value in network.state_dict().items()})
    again = reader_of(network)
    torch.testing.assert_close(again.network.head.bias, reader.network.head.bias + 1)
    parent = nn.ModuleDict({"recognizer": network}).bfloat16()
    assert reader_of(network) is not again and reader_of(network).network.head.bias.dtype == torch.float32
    parent.load_state_dict(parent.state_dict())
    assert not network.derived and "derived" not in network.state_dict()


def test_folding_copies_and_reads(trainable):
    reader = reader_of(trainable)
    assert isinstance(reader, PPOCRv3Recognizer) and len(reader.charset) == 6625
    assert not any(p.requires_grad for p in reader.parameters())
    assert {p.data_ptr() for p in reader.parameters()}.isdisjoint(p.data_ptr() for p in trainable.parameters())
    assert all(p.requires_grad for p in trainable.parameters())


@pytest.mark.parametrize("n", [1, 2])
def test_gradient_equals_the_folded_one(trainable, recognizer, n):
    crops = noise(n, 160)
    got, want = gradient(trainable.features, crops), gradient(recognizer.features, crops)
    assert (got - want).norm() < 1e-3 * want.norm()


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
def test_batch_norm_of_one_transposed_gradient(training, layout):
    norm = BatchNorm(6).double().train(training)
    nn.init.normal_(norm.weight)
    x = torch.randn(1, 6, 3, 5, dtype=torch.double).to(memory_format=layout).requires_grad_()
    target = torch.randn(1, 15, 6, dtype=torch.double)
    (got,) = torch.autograd.grad((norm(x).flatten(2).permute(0, 2, 1) * target).sum(), x)
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), keepdim=True, unbiased=False)
    if not training:
        variance, mean = torch.ones_like(variance), torch.zeros_like(mean)
    plain = (x - mean) / (variance + norm.eps).sqrt() * norm.weight.view(1, -1, 1, 1)
    (want,) = torch.autograd.grad((plain.flatten(2).permute(0, 2, 1) * target).sum(), x)
    torch.testing.assert_close(got, want)


def test_training_mode_drops_out_and_updates_statistics():
    network = PPOCRv3Network(classes=12).train()
    crops = noise(2, 64)
    before = network.backbone.conv1._batch_norm.running_mean.clone()
    first, second = network.features(crops), network.features(crops)
    assert (first - second).abs().max() > 1e-3
    assert not torch.equal(before, network.backbone.conv1._batch_norm.running_mean)
    assert network.backbone.conv1._batch_norm.num_batches_tracked == 2
    network.eval()
    torch.testing.assert_close(network.features(crops), network.features(crops), rtol=0, atol=0)
    network(crops).logits.square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_state_dict_round_trip_keeps_the_counters(trainable):
    other = PPOCRv3Network()
    state = {name: torch.full_like(v, 7) if v.ndim == 0 else v for name, v in trainable.state_dict().items()}
    other.load_state_dict(state)
    assert other.neck["encoder"].conv1.norm.num_batches_tracked == 7
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), state.values(), strict=True))


def test_foreign_weights_are_refused(trainable):
    layers = read_layers(load_onnx(recognizer_path()))
    like = trainable.state_dict()
    with pytest.raises(WeightsError, match="another network"):
        state_from_layers(like, layers[:-1], "x.onnx")
    layers[0]["weight"] = layers[0]["weight"][:8]
    with pytest.raises(WeightsError, match=r"x.onnx .*backbone.conv1._conv.weight"):
        state_from_layers(like, layers, "x.onnx")


def test_wrong_crops_are_refused(trainable):
    with pytest.raises(ValueError, match="48 pixels high"):
        trainable(torch.zeros(1, 3, 32, 320))
