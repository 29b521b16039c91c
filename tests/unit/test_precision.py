"""Half precision: the losses stay in float32, the networks compute in 16 bits; as a user trains, and in detail."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from anytext_lib.cli import main
from anytext_lib.data.lines import TextLines
from anytext_lib.losses import Instruments, Objective, Step, process_of
from anytext_lib.losses.step import Pictures
from anytext_lib.losses.terms import Term, make_term, simple
from anytext_lib.models import AnyText2Model
from anytext_lib.training import AnyText2Training
from anytext_lib.training.callbacks import ExponentialAverage, GradientNorms
from anytext_lib.training.precision import BfloatWeights
from tests.unit.test_training_module import Recorder, data, run, trainer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def begun():
    """Weights that every test starts from."""
    torch.manual_seed(0)
    return AnyText2Model.from_config("tiny")


# the objective

@pytest.mark.parametrize("dtype", HALVES)
def test_terms_compute_in_float32_and_the_decoder_in_half_precision(alphas_cumprod, dtype):
    seen = {}

    def term(step):
        seen["matrix"] = (step.x0.flatten(1) @ step.x0.flatten(1).T).dtype
        return step.decoded.mean(dim=(1, 2, 3))

    def decode(z):
        seen["decoder"] = (z.flatten(1) @ z.flatten(1).T).dtype
        return z[:, :3].to(dtype)

    x = torch.randn(2, 4, 8, 8)
    lines = TextLines([0, 1], torch.tensor([[[0, 0], [8, 0], [8, 4], [0, 4.0]]] * 2), ["a", "b"], ["Latin"] * 2)
    step = Step(x, x, torch.tensor([1, 2]), x.to(dtype), Pictures(torch.zeros(2, 3, 8, 8), lines),
                Instruments(process_of(alphas_cumprod), decode))
    with torch.autocast("cpu", dtype=dtype):
        values = Objective([Term("simple", simple), Term("own", term)])(step)
        assert (x.flatten(1) @ x.flatten(1).T).dtype == dtype, "autocast is on again"
    assert seen == {"matrix": torch.float32, "decoder": dtype}
    assert values.samples.dtype == torch.float32 and values.terms["own"].raw.dtype == torch.float32


def test_attention_maps_are_looked_at_in_float32(monkeypatch, begun, tmp_path):
    from anytext_lib.udifftext import attention_term

    found, local = [], attention_term.local_of
    monkeypatch.setattr(attention_term, "local_of", lambda *values: found.append(
        torch.is_autocast_enabled("cpu")) or local(*values))
    term = make_term({"name": "anytext_lib.udifftext.attention_term.local", "weight": 0.1})
    run(copy.deepcopy(begun), tmp_path, module_options={"terms": [term]}, max_steps=1, precision="bf16-mixed")
    assert found == [False]


# a step

OPTIONS = {"loss_alpha": 0.5, "loss_beta": 0.5, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def exact(begun, tmp_path_factory):
    return run(copy.deepcopy(begun), tmp_path_factory.mktemp("exact"), module_options=OPTIONS, max_steps=1)[1]


@pytest.mark.parametrize(("plugin", "least", "length"), [
    (lambda: MixedPrecision("bf16-mixed", "cpu"), 0.95, 0.1), (BfloatWeights, 0.85, 0.25),
    pytest.param(lambda: MixedPrecision("16-mixed", "cpu"), 0.999, 0.01, marks=pytest.mark.slow),  # CPUs lack float16
], ids=["bf16-mixed", "bf16-true", "16-mixed"])
def test_loss_and_gradient_are_near_those_of_float32(begun, exact, tmp_path, plugin, least, length):
    """Lightning makes bf16-mixed of 16-mixed on a CPU; its plugin, scaler included, works there all the same.

    Measured: terms off by 0.9%, 0.5% and 0.008%; cosine of the gradient .982, .914 and .9997, its length .95, .82 and
    1.00 of that of float32.
    """
    module, recorder = run(copy.deepcopy(begun), tmp_path, [GradientNorms()], OPTIONS, max_steps=1, plugins=[plugin()])
    for key in ("t/sim", "t/ocr", "t/ctc", "t/loss"):
        assert recorder.rows[0][key] == pytest.approx(exact.rows[0][key], rel=0.02), key
    (wanted,), (found,) = exact.gradients, recorder.gradients
    a, b = (torch.cat([gradients[name].float().flatten() for name in wanted]) for gradients in (wanted, found))
    assert torch.cosine_similarity(a, b, dim=0) > least and abs(b.norm() / a.norm() - 1) < length
    model = module.model
    assert {p.dtype for p in model.recognizer.parameters()} == {torch.float32}
    assert all(torch.equal(*pair) for pair in zip(begun.recognizer.parameters(), model.recognizer.parameters(),
                                                  strict=True))
    halved = isinstance(module.trainer.precision_plugin, BfloatWeights)
    assert model.dtype == (torch.bfloat16 if halved else torch.float32)
    moved = [name for name, p in model.named_parameters() if not torch.equal(p.float(), begun.get_parameter(name))]
    assert moved, "the optimizer took its step"


@pytest.mark.slow
def test_a_step_that_overflows_in_float16_is_skipped(begun, tmp_path):
    """Scaled by 2^120 every gradient is infinite: the weights stay, the scale falls, and nothing is raised."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    module, _ = run(copy.deepcopy(begun), tmp_path, [GradientNorms()], {"learning_rate": 1e-3}, max_steps=1,
                    plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert scaler.get_scale() == 2.0**119
    assert all(torch.equal(*pair) for pair in zip(begun.parameters(), module.model.parameters(), strict=True))


def test_the_average_of_bfloat_weights_moves(begun, tmp_path):
    """By a thousandth of a change at a time, which bfloat16 would round away."""
    average, recorder = ExponentialAverage(0.999), Recorder()
    module = AnyText2Training(copy.deepcopy(begun), learning_rate=1e-2)
    trainer(tmp_path, [average, recorder], max_steps=2, plugins=[BfloatWeights()]).fit(module, data())
    name = "writenet.fuse_block.weight"
    assert average.average[name].dtype == torch.float32
    assert 0 < average.average[name].norm() < module.model.get_parameter(name).norm()


# as a user trains

@pytest.mark.parametrize("precision", ["16-mixed", "bf16-true"])  # on a CPU Lightning makes bf16-mixed of the first
def test_a_run_in_half_precision(tmp_path, capsys, precision):
    arguments = ["--config", "tiny.yaml", "--runs", str(tmp_path), "--trainer.logger", "false", "--val_limit", "1",
                 "--judge.images", "1", "--judge.steps", "1", "--judge.every", "1", "--loss_alpha", "0.1",
                 "--loss_beta", "0.1", "--ema", "0.9", "--precision", precision, "--progress.every", "1"]
    assert main(["fit", *arguments, "--max_steps", "1"]) == 0
    assert main(["fit", *arguments, "--max_steps", "2", "--ckpt_path", "last"]) == 0
    said = capsys.readouterr()
    assert "step 2/2" in said.out and "ppocrv4 reads" in said.err
    model = AnyText2Model.from_pretrained(tmp_path / "tiny" / "model")
    assert all(p.isfinite().all() for p in model.parameters())


def test_weights_in_float16_are_refused_in_one_line(tmp_path, capsys):
    assert main(["fit", "--config", "tiny.yaml", "--runs", str(tmp_path), "--precision", "16-true"]) == 2
    error = capsys.readouterr().err
    assert "weights in float16 cannot be trained" in error and error.count("anytext fit:") == 1
