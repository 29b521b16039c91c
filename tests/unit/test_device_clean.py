"""Every part of the library keeps to its device, and the host seldom waits for the GPU: on a GPU that is not there.

The lists of waits are limits: they may only get shorter.  What Lightning does every so many steps (bars, logs) is not
in them.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from anytext_lib.db.dbnet import DBNet
from anytext_lib.db.labels import LabelMaps
from anytext_lib.db.loss import PRESETS, DBLoss
from anytext_lib.generation import sample_images
from anytext_lib.generation.denoise import denoise, make_scheduler
from anytext_lib.losses import AnyText2Objective
from anytext_lib.models import AnyText2Model
from anytext_lib.training.module import AnyText2Training
from anytext_lib.udifftext.attention import attention_focus_loss
from anytext_lib.udifftext.model import UDiffTextModel
from anytext_lib.udifftext.word_training import UDiffTextTraining
from tests.unit.fake_gpu import GPU, FakeGpu
from tests.unit.model_batch import make_batch

SIZE = (128, 128)
CAPTIONS = ["a sign", "two words on a wall", "many words " * 50]
CTC, FINITE = "to CPU: losses/fast_ctc.py forward", "value: losses/step.py test"
STEP = [CTC, FINITE]
TERMS = [{"name": "region", "weight": 4}, {"name": "ocr", "weight": 0.003}, {"name": "ctc", "weight": 0.001}]


def batch_on_gpu(**options):
    return make_batch(**{"images": 3, "size": SIZE, "editing": (1,), "captions": CAPTIONS} | options).to(GPU)


@pytest.fixture(scope="module", params=["tiny", "mini"])
def model(request):
    tokenizer = "bytes" if request.param == "tiny" else None
    return AnyText2Model.from_config(request.param, tokenizer).to(GPU)


@pytest.fixture(scope="module")
def tiny():
    return AnyText2Model.from_config("tiny", "bytes").to(GPU)


def waits_of(function) -> list[str]:
    """What the host waits for in the second of two calls; the first may move tables and fold networks."""
    for _ in range(2):
        with FakeGpu() as gpu:
            function()
    return sorted(gpu.waits)


def steps_of(module, batch):
    """A function that trains one step, the optimizer's part included."""
    epoch = SimpleNamespace(total_batch_idx=0)
    module._trainer = SimpleNamespace(world_size=1, global_rank=0, global_step=0, accumulate_grad_batches=1,
                                      num_training_batches=10, fit_loop=SimpleNamespace(epoch_loop=epoch),
                                      strategy=SimpleNamespace(global_rank=0))
    logged = {}
    module.log_dict = lambda values, **_: logged.update(values)
    module.to(GPU).train()
    optimizer = module.configure_optimizers()["optimizer"]

    def step():
        module.on_train_batch_start(batch, 0)
        module.training_step(batch, 0).backward()
        torch.nn.utils.clip_grad_norm_([p for p in module.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        assert all(isinstance(value, torch.Tensor) for value in logged.values())  # a number would be copied to the GPU
        for group in module.trained.values():
            assert all(p.grad is None or p.grad.device == GPU for _, p in group)
    return step


def test_the_fake_gpu_sees_what_a_gpu_would_wait_for():
    here, there = torch.ones(3, 4), torch.ones(3, 4, device=GPU)
    seen = {"to GPU": [lambda: here.to(GPU), lambda: torch.tensor([1], device=GPU), lambda: there[[0, 1]],
                       lambda: there.new_tensor([1.0]), lambda: there[torch.tensor([1])], lambda: there.copy_(here)],
            "to CPU": [there.cpu, there.tolist, lambda: here.copy_(there)],
            "value": [lambda: there[0, 0].item(), lambda: bool(there.any()), lambda: float(there.sum())],
            "size": [there.nonzero, lambda: there[there > 0], lambda: torch.unique(there)]}
    for kind, functions in seen.items():
        for function in functions:
            with FakeGpu() as gpu:
                function()
            assert gpu.waits == [f"{kind}: elsewhere"]
    with FakeGpu() as gpu:
        here.to(GPU, non_blocking=True), there[0], there + 1, torch.where(there > 0, 1.0, there), here.tolist()
        assert not gpu.waits
        with pytest.raises(AssertionError, match=r"on the GPU and of \(4, 4\) on the CPU"):
            there @ torch.ones(4, 4)


# AnyText2

def test_a_training_step_waits_twice(model):
    assert waits_of(steps_of(AnyText2Training(model, terms=TERMS), batch_on_gpu())) == STEP


@pytest.mark.parametrize("options", [{"editing": ()}, {"boxes": ((0, 4, 4, 60, 20), (2, 10, 9, 20, 50))}])
def test_whatever_the_batch(tiny, options):
    module = AnyText2Training(tiny, terms=TERMS, train_all=True)
    assert waits_of(steps_of(module, batch_on_gpu(**options))) == STEP


def test_a_training_step_without_reading_waits_once(tiny):
    assert waits_of(steps_of(AnyText2Training(tiny), batch_on_gpu())) == [FINITE]


def test_conditions_and_networks_wait_for_nothing(model):
    batch = batch_on_gpu()

    def run():
        latents = model.encode(batch.images)
        conditions = model.conditions(batch)
        output = model(latents, torch.zeros(3, dtype=torch.int64, device=GPU), conditions)
        model.decode(output).sum().backward()
    assert waits_of(run) == []


def test_the_networks_refuse_what_lies_on_the_cpu(tiny):
    with FakeGpu(), torch.no_grad():
        conditions = tiny.conditions(batch_on_gpu())
        with pytest.raises(AssertionError, match="on the CPU"):
            tiny(torch.zeros(3, 4, 16, 16), torch.zeros(3, dtype=torch.int64, device=GPU), conditions)


@pytest.mark.parametrize("extra, more", [
    ({"name": "ocr", "weight": 0.1, "layers": ["block3", "neck"]}, []),
    ({"name": "anytext_lib.udifftext.attention_term.local", "weight": 0.1},
     ["to CPU: udifftext/attention_term.py star_tokens"])])
def test_other_terms(tiny, extra, more):
    step = steps_of(AnyText2Training(tiny, terms=[extra]), batch_on_gpu())
    assert waits_of(step) == sorted([FINITE, *more])


def test_the_objective_alone(tiny, alphas_cumprod):
    objective = AnyText2Objective(tiny.reader, alphas_cumprod.to(GPU), tiny.decode, loss_alpha=0.1, loss_beta=0.1)
    batch = batch_on_gpu()
    latents = torch.zeros(3, 4, *(side // tiny.latent_factor for side in SIZE), device=GPU)
    output = latents.clone().requires_grad_()
    times = torch.zeros(3, dtype=torch.int64, device=GPU)

    def run():
        reference = objective.reference_features(batch.images, batch.lines)
        terms = objective(output, latents, latents, times, batch.images, batch.lines, batch.invalid_mask, reference)
        terms.loss.backward()
        terms.log("t")
    assert waits_of(run) == STEP


def test_sampling_waits_for_its_schedule_once(model):
    model.eval()
    batch = batch_on_gpu()
    assert waits_of(lambda: sample_images(model, batch, steps=2, guidance=2.0, eta=0.5)) == [
        "to CPU: diffusion.py ddim_levels"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name, most", [("ddim", 0), ("dpmsolver++", 0), ("unipc", 18)])
def test_schedulers(tiny, name, most):
    """UniPC of diffusers makes small tables on the GPU at every step."""
    noise = torch.zeros(2, 4, 16, 16, device=GPU)

    def run():
        denoise(lambda x, t: x, noise, make_scheduler(name, tiny), 4, tiny.alphas_cumprod)
    found = waits_of(run)
    assert len(found) <= most and set(found) <= {"to GPU: generation/denoise.py denoise"}


def test_the_official_size():
    with torch.device(GPU):
        model = AnyText2Model.from_config("sd15", "bytes")
    latents, times = torch.zeros(1, 4, 32, 32, device=GPU), torch.zeros(1, dtype=torch.int64, device=GPU)
    batch = batch_on_gpu(images=1, size=(256, 256), boxes=((0, 4, 4, 60, 20),), editing=(), captions=["a sign"])

    def run():
        model.decode(model(latents, times, model.conditions(batch))).sum().backward()
    assert waits_of(run) == []


# UDiffText

def test_a_training_step_of_udifftext():
    module = UDiffTextTraining(UDiffTextModel("tiny"), min_size=8)
    batch = batch_on_gpu(images=2, boxes=((0, 4, 4, 60, 20), (1, 4, 40, 60, 20)), editing=(), captions=["a", "b"])
    batch = replace(batch, lines=replace(batch.lines, texts=["word", "text"]))
    assert waits_of(steps_of(module, batch)) == [FINITE]


def test_attention_focus():
    maps = [torch.rand(2, 6, 16, 16).to(GPU).requires_grad_()]
    mask, valid = torch.ones(2, 1, 64, 64, device=GPU), torch.ones(2, 6, device=GPU)
    assert waits_of(lambda: attention_focus_loss(maps, mask, valid).sum().backward()) == []


# DB

@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("fallback", [0, 10])
def test_db_loss(preset, fallback):
    loss = DBLoss.from_preset(preset, fallback_negatives=fallback)
    labels = LabelMaps(*torch.ones(4, 2, 64, 64), ignored=torch.zeros(0, dtype=torch.bool))
    maps, logits = torch.ones(2, 3, 64, 64, device=GPU), torch.ones(2, 64, 64, device=GPU)
    maps.requires_grad_(), logits.requires_grad_()
    mined, asked = ["to CPU: db/loss.py balanced_loss"], ["value: db/loss.py shrink_term"]
    wanted = ["to CPU: db/loss.py _check"] + mined * loss.balance_loss + asked * (fallback > 0)
    assert waits_of(lambda: loss(maps, labels, logits).loss.backward()) == wanted


def test_the_detector():
    network = DBNet().to(GPU)
    picture = torch.zeros(1, 3, 64, 64, device=GPU)
    assert waits_of(lambda: sum(part.sum() for part in network(picture)).backward()) == []
