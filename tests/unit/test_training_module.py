"""The training step on the real classes, at the size for tests."""
import copy
import json
import math

import lightning.pytorch as pl
import pytest
import torch

from anytext_lib.cli import main
from anytext_lib.files import data_folder
from anytext_lib.losses import NonFiniteError
from anytext_lib.models import AnyText2Model
from anytext_lib.training import AnyText2Training, AnyTextData
from anytext_lib.training.callbacks import (
    CudaMemoryAdvice,
    ExponentialAverage,
    GradientNorms,
    ImageLogger,
    NonFiniteReport,
    Speed,
    TextJudge,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def start():
    """Weights that every test starts from."""
    torch.manual_seed(0)
    return AnyText2Model.from_config("tiny")


@pytest.fixture
def model(start):
    return copy.deepcopy(start)


def data(**options):
    """Six pictures of the sample set, small."""
    settings = {"train": str(data_folder() / "annotations.json"), "percent": 0.125, "batch_size": 2,
                "image_size": (32, 64)}
    return AnyTextData(**{**settings, **options})


def trainer(folder, callbacks=(), **options):
    settings = {"accelerator": "cpu", "devices": 1, "max_steps": 2, "logger": False, "enable_checkpointing": False,
                "enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False,
                "log_every_n_steps": 1}
    return pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**settings, **options})


class Recorder(pl.Callback):
    """Keeps what was logged after each batch, and gradients before each step."""

    def __init__(self):
        self.rows, self.gradients = [], []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients.append({name: p.grad.clone() for name, p in module.model.named_parameters()
                               if p.grad is not None})

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.rows.append({key: float(value) for key, value in trainer.callback_metrics.items()})


def run(model, folder, callbacks=(), module_options=None, data_options=None, **options):
    recorder = Recorder()
    module = AnyText2Training(model, **(module_options or {}))
    trainer(folder, [*callbacks, recorder], **options).fit(module, data(**(data_options or {})))
    return module, recorder


def test_options_reach_the_objective(model, tmp_path):
    options = {"loss_alpha": 0.02, "loss_beta": 0.03, "latin_weight": 0.5, "with_step_weight": False, "loss_start": 1,
               "prediction_type": "v_prediction", "learning_rate": 3e-4, "warmup_steps": 2}
    module, recorder = run(model, tmp_path, [GradientNorms(), Speed()], options)
    terms = module.objective.terms
    assert {name: term.weight_at(None) for name, term in terms.items()} == {"simple": 1, "ocr": 0.02, "ctc": 0.03}
    assert module.instruments.latin_weight == 0.5 and module.instruments.process.prediction_type == "v_prediction"
    assert all(torch.equal(terms[name].weighting(torch.tensor([0.1])), torch.ones(1)) for name in ("ocr", "ctc"))
    first, second = recorder.rows
    assert first["t/ocr"] == first["t/ctc"] == 0 and first["t/loss"] == pytest.approx(first["t/sim"])
    assert second["t/ocr"] > 0 and second["t/ctc"] > 0
    assert second["t/loss"] == pytest.approx(second["t/sim"] + second["t/ocr"] + second["t/ctc"])
    assert (second["t/loss_alpha"], second["t/loss_beta"]) == pytest.approx((0.02, 0.03))
    assert {"t/grad/writenet", "t/grad/attnx", "t/grad/all", "t/samples_per_s", "t/ram_gib", "t/lr"} <= set(second)
    assert first["t/grad/all"] == pytest.approx(
        math.sqrt(sum(g.square().sum() for g in recorder.gradients[0].values())), rel=1e-4)


def test_watching_the_terms_changes_nothing(model, start, tmp_path):
    off = run(copy.deepcopy(start), tmp_path, max_steps=1)[1]
    watched = run(model, tmp_path, module_options={"monitor_every": 1}, max_steps=1)[1]
    assert watched.rows[0]["t/ocr_raw"] > 0 and watched.rows[0]["t/ctc_raw"] > 0 and watched.rows[0]["t/ocr"] == 0
    assert all(torch.equal(off.gradients[0][name], value) for name, value in watched.gradients[0].items())


def test_compile_reaches_both_networks_and_changes_no_name(model, start, tmp_path, monkeypatch):
    plain = run(copy.deepcopy(start), tmp_path, max_steps=1)[1]
    ran = []

    def compiled(function):
        return lambda *values, **options: ran.append(function.__self__) or function(*values, **options)

    monkeypatch.setattr(torch, "compile", compiled)
    module, recorder = run(model, tmp_path, module_options={"compile": True}, max_steps=1)
    assert {id(network) for network in ran} == {id(module.model.unet), id(module.model.writenet)}
    assert module.model.state_dict().keys() == start.state_dict().keys()
    assert recorder.rows[0]["t/loss"] == pytest.approx(plain.rows[0]["t/loss"])


def test_region_weight_counts_the_text_more(model, tmp_path):
    row = run(model, tmp_path, module_options={"region_weight": 5.0}, max_steps=1)[1].rows[0]
    assert row["t/loss"] == pytest.approx(row["t/sim"] + row["t/region"]) and 0 < row["t/region"] < 4 * row["t/sim"]


def test_true_features_are_kept_between_epochs(start, tmp_path):
    def losses(cache):
        module, recorder = run(copy.deepcopy(start), tmp_path, module_options={
            "loss_alpha": 0.1, "reference_cache": cache}, data_options={"position_jitter": False, "percent": 0.05},
            max_steps=2)
        return module, [row["t/ocr"] for row in recorder.rows]

    module, kept = losses(1.0)
    assert kept == pytest.approx(losses(0.0)[1], rel=1e-4)
    assert module.instruments.cache.hits == module.instruments.cache.misses > 0


@pytest.mark.parametrize("style_trained", [True, False])
def test_what_frozen_networks_see_is_kept_between_epochs(start, tmp_path, style_trained):
    def losses(cache):
        module, recorder = run(copy.deepcopy(start), tmp_path, max_steps=2, data_options={
            "percent": 0.05, "font_hint_prob": 1.0}, module_options={
            "encoder_cache": cache, "style_ocr_trainable": style_trained})
        return module, [row["t/sim"] for row in recorder.rows]

    module, kept = losses(1.0)
    assert kept == pytest.approx(losses(0.0)[1], rel=1e-4)
    assert module.cache.hits > 0  # hints and masks are drawn anew in every epoch
    lines = sum(value.shape == (40, 64) for value in module.cache.kept.values())
    pictures = sum(value.ndim == 3 for value in module.cache.kept.values())
    assert pictures >= 2 and lines >= (1 if style_trained else 2)


def test_validation_is_the_same_at_every_time(model, tmp_path):
    module, recorder = AnyText2Training(model, val_timesteps=[100, 500], loss_alpha=0.1), Recorder()
    pictures = data(val=data().hparams.train, val_limit=3)
    found = []
    for _ in range(2):
        judge = trainer(tmp_path, [recorder])
        judge.validate(module, pictures, verbose=False)
        found.append({key: float(value) for key, value in judge.callback_metrics.items()})
        torch.rand(5)
    assert found[0] == found[1]
    assert found[0]["v/sim"] == pytest.approx((found[0]["v/sim/t100"] + found[0]["v/sim/t500"]) / 2)
    assert {"v/sim", "v/ocr", "v/loss", "v/ocr_raw", "v/ocr_raw/t500"} <= set(found[0])
    assert not {"v/ctc", "v/ctc_raw"} & set(found[0]) and module.not_computed() == {
        "v/ctc": "loss_beta is 0; --monitor_every 1 shows the unweighted term"}


def test_checkpointing_and_half_precision(start, tmp_path):
    def first(**options):
        return run(copy.deepcopy(start), tmp_path, data_options={"max_lines": 1}, max_steps=1, **options)[1]

    plain, again = first(), first(module_options={"gradient_checkpointing": True})
    assert again.rows[0]["t/loss"] == pytest.approx(plain.rows[0]["t/loss"], rel=1e-6)
    for name, value in plain.gradients[0].items():
        assert torch.allclose(again.gradients[0][name], value, rtol=1e-4, atol=1e-7), name
    half = first(precision="bf16-mixed")
    assert half.rows[0]["t/loss"] == pytest.approx(plain.rows[0]["t/loss"], rel=0.05)
    assert all(value.dtype == torch.float32 for value in half.gradients[0].values())


def test_nan_names_the_term_and_the_picture(model, tmp_path, monkeypatch):
    encode = model.encode

    def spoilt(images, *args, **kwargs):
        latents = encode(images, *args, **kwargs).clone()
        latents[1, 0, 0, 0] = float("nan")
        return latents

    monkeypatch.setattr(model, "encode", spoilt)
    with pytest.raises(NonFiniteError, match="simple term: .* of sample 1") as caught:
        run(model, tmp_path, [NonFiniteReport()])
    (path,) = (tmp_path / "nonfinite").iterdir()
    saved = torch.load(path, weights_only=True)
    assert torch.isnan(saved["latents"][1]).any() and len(saved["noise"]) == 2 and saved["step"] == 0
    where, who = caught.value.__notes__
    assert str(path) in where and saved["batch"]["names"][1] in who and "at timestep" in who


def test_a_bad_gradient_never_reaches_the_weights(model, start, tmp_path):
    class Spoil(pl.Callback):
        def on_after_backward(self, trainer, module):
            module.model.writenet.fuse_block.weight.grad.fill_(float("inf"))

    with pytest.raises(NonFiniteError, match="gradient of writenet.fuse_block.weight .*weights were not touched"):
        run(model, tmp_path, [Spoil(), GradientNorms()])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), start.parameters(), strict=True))


def test_out_of_memory_says_what_to_reduce(model, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.unet, "forward", full)
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        run(model, tmp_path, [CudaMemoryAdvice()], {"loss_alpha": 0.1})
    assert "batch_size 2 -> 1 with grad_accum 1 -> 2" in caught.value.__notes__[0]


def test_pictures_of_a_run(model, tmp_path):
    pictures = ImageLogger(every=1, images=2, steps=2, guidance=2.0)
    run(model, tmp_path, [pictures], max_steps=1)
    rows = json.loads((tmp_path / "images" / "step=0000001.json").read_text(encoding="utf-8"))
    assert rows and set(rows[0]) == {"wanted", "input", "reconstruction", "sample", "guidance 2"}
    import cv2

    assert cv2.imread(str(tmp_path / "images" / "step=0000001.png")).shape == (18 + 2 * 36, 7 * 68 - 4, 3)


def test_judge_and_average(model, start, tmp_path):
    """The average lies between start and end; the judge measures with it and puts the weights back."""
    average, judge = ExponentialAverage(0.9), TextJudge(every=1, images=2, steps=2)
    module, recorder = run(model, tmp_path, [average, judge], {"learning_rate": 1e-2}, {
        "val": data().hparams.train, "val_limit": 2}, max_steps=2, limit_val_batches=0)
    assert {"v/sen_acc", "v/ned", "v/sen_acc_trained_on", "v/ned_trained_on"} <= set(recorder.rows[0])
    name = "writenet.fuse_block.weight"
    first, last = dict(start.named_parameters())[name], dict(module.model.named_parameters())[name]
    middle = average.average[name]
    assert 0 < (middle - first).norm() < (last - first).norm() and (middle - last).norm() > 0
    restored = ExponentialAverage(0.9)
    restored.load_state_dict(average.state_dict())
    assert torch.equal(restored.average[name], middle)


def test_freezing_and_training_modes(model):
    module = AnyText2Training(model, unlock_qkv=True)
    assert "unet_qkv" in module.trained and not model.vae.training and model.writenet.training
    assert not any(p.requires_grad for p in model.vae.parameters())


def test_missing_model_and_unwritable_folder(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="no model some/where: give a folder"):
        AnyText2Training("some/where")
    (tmp_path / "file").write_text("")
    assert main(["fit", "--config", "tiny.yaml", "--runs", str(tmp_path / "file")]) == 2
    assert "cannot be written: Not a directory" in capsys.readouterr().err


def test_training_at_high_noise_only(model, tmp_path):
    module = AnyText2Training(model, min_timestep=950)
    trainer(tmp_path).fit(module, data())
    assert module.last_inputs["timesteps"].min() >= 950
    with pytest.raises(ValueError, match="min_timestep 1000 is no timestep"):
        AnyText2Training(model, min_timestep=1000)


def logged(folder, key, *arguments):
    """What `anytext fit` on the sample set logs under ``key``, step by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    status = main(["fit", "--config", "tiny.yaml", "--runs", str(folder), "--data.val", "null", "--loss_alpha", "1",
                   "--max_steps", "2", "--save_steps", "0", *arguments])
    assert status == 0
    (run,) = folder.iterdir()
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [event.value for event in events.Scalars(key)]


def test_the_weighting_is_an_option_of_fit(tmp_path):
    """One step, the same noise and timesteps: what differs in t/ocr is the weight."""
    chosen = {"abar": [], "capped": ["--weighting", "{name: min_snr, gamma: 0.001}"], "gate": ["--weighting", "gate"]}
    first = {name: logged(tmp_path / name, "t/ocr", "--max_steps", "1", *options)[0]
             for name, options in chosen.items()}
    assert 0 < first["abar"] < first["capped"], "capped so low it is nearly uniform"
    assert first["gate"] not in (pytest.approx(first["abar"]), pytest.approx(first["capped"]))


@pytest.mark.parametrize(("options", "message"), [
    (["--weighting", "sn"], "there is no step weighting 'sn': choose one of abar, uniform, snr, min_snr, gate"),
    (["--weighting", "{name: gate, leest: 1}"], "gate has no parameter 'leest': its only parameter is least"),
    (["--weighting", "{name: min_snr, gamma: 0}"], "gamma of min_snr is a positive number, got 0"),
    (["--weighting", "snr", "--with_step_weight", "false"], "give one of the two"),
])
def test_a_bad_weighting_is_refused_in_one_line(tmp_path, capsys, options, message):
    assert main(["fit", "--config", "tiny.yaml", "--runs", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("anytext fit:") == 1 and "Traceback" not in error


@pytest.mark.parametrize(("size", "accumulate", "factors"),
                         [(1, 2, [1, 1, 1, 1, 2]), (2, 3, [1.5, 1.5]), (1, 5, [1] * 5)])
def test_the_short_accumulation_of_an_epochs_end_pulls_as_hard(start, tmp_path, size, accumulate, factors):
    """Five pictures: the last step of an epoch follows the mean gradient of the batches that are left."""
    returned = []

    class Kept(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            returned.append(float(outputs["loss"]) * accumulate / float(trainer.callback_metrics["t/loss"]))

    recorder, steps = Recorder(), -(-len(factors) // accumulate)
    module = AnyText2Training(copy.deepcopy(start))
    trainer(tmp_path, [recorder, Kept()], max_steps=-1, max_epochs=1, accumulate_grad_batches=accumulate).fit(
        module, data(percent=0.1, batch_size=size))
    assert len(module.trainer.datamodule.train_set) == 5 and len(recorder.gradients) == steps
    assert returned == pytest.approx(factors)


def test_five_pictures_and_an_accumulation_of_two(tmp_path):
    """As a user has it: two epochs of five pictures make three steps each, and a checkpoint at the end."""
    losses = logged(tmp_path, "t/loss", "--percent", "0.1", "--batch_size", "1", "--grad_accum", "2",
                    "--max_steps", "-1", "--max_epochs", "2")
    assert len(losses) == 6 and all(map(math.isfinite, losses))
    assert [path.name for path in tmp_path.glob("*/checkpoints/*.ckpt")]


def test_losses_are_a_list_on_the_command_line(tmp_path):
    """The short options and the list that they stand for train alike; a loss of the user's own is added by its path."""
    one = ["--max_steps", "1"]
    short = logged(tmp_path / "short", "t/loss", *one, "--weighting", "min_snr", "--region_weight", "3")[0]
    listed = ["--loss_alpha", "0", "--terms"]
    terms = "{name: ocr, weight: 1, weighting: min_snr}, {name: region, weight: 2}"
    assert logged(tmp_path / "list", "t/loss", *one, *listed, f"[{terms}]")[0] == pytest.approx(short, rel=1e-4)
    local = logged(tmp_path / "local", "t/local", *one, *listed,
                   "[{name: anytext_lib.udifftext.attention_term.local, weight: 0.5}]")[0]
    assert -0.5 <= local <= 0.5 and local != 0


@pytest.mark.parametrize(("options", "message"), [
    (["--terms", "[{name: orc}]"], "there is no term 'orc'"),
    (["--terms", "[{name: ocr, wieght: 1}]"], "has no parameter 'wieght'"),
    (["--terms", "[ocr]", "--loss_beta", "1"], "loss_beta is short for a term, and there is a list"),
    (["--region_weight", "-1"], "region_weight must not be negative"),
])
def test_a_wrong_list_of_losses_is_refused_in_one_line(tmp_path, capsys, options, message):
    assert main(["fit", "--config", "tiny.yaml", "--runs", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("anytext fit:") == 1 and "Traceback" not in error
