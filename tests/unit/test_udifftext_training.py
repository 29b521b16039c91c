"""UDiffText as a model: what is trained, what is saved, and words that are written."""

from __future__ import annotations

import copy
import json

import lightning.pytorch as pl
import pytest
import torch
import yaml

from anytext_lib import udifftext
from anytext_lib.cli import main
from anytext_lib.models.storage import StorageError
from anytext_lib.recipes.udifftext_start import starting_model
from anytext_lib.training import AnyTextData
from anytext_lib.training.cli import find_config, system_of
from anytext_lib.udifftext.euler import Sampling, write_words
from anytext_lib.udifftext.label_encoder import LabelEncoder, LabelEncoderConfig
from anytext_lib.udifftext.model import SIZES, UDiffTextModel
from anytext_lib.udifftext.word_training import UDiffTextTraining

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
SIZE = (32, 96)


@pytest.fixture(scope="module")
def start():
    torch.manual_seed(0)
    return UDiffTextModel("tiny")


@pytest.fixture
def model(start):
    return copy.deepcopy(start)


@pytest.fixture(scope="module")
def data():
    module = AnyTextData(train="scenes", val="scenes", scenes={"epoch_length": 8}, val_limit=2, batch_size=2,
                         image_size=SIZE, max_lines=1, max_chars=12, mask_ratio=1.0, font_hint_prob=0.0)
    module.setup("fit")
    return module


@pytest.fixture(scope="module")
def batch(data):
    return next(data.plain_batches(2, 2))


class Recorder(pl.Callback):
    """What was logged after each batch."""

    def __init__(self):
        self.rows = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.rows.append({key: float(value) for key, value in trainer.callback_metrics.items()})


def fit(model, data, folder, steps: int = 2, **options):
    module, recorder = UDiffTextTraining(model, min_size=8, **options), Recorder()
    pl.Trainer(default_root_dir=folder, accelerator="cpu", devices=1, max_steps=steps, logger=False,
               enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[recorder],
               use_distributed_sampler=False, val_check_interval=2).fit(module, data)
    return module, recorder.rows


def test_every_public_name_is_there():
    assert all(getattr(udifftext, name) is not None for name in udifftext.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        udifftext.nothing  # noqa: B018


class TestModel:
    def test_the_official_size_trains_75_9_million_parameters(self):
        from diffusers import UNet2DConditionModel

        with torch.device("meta"):
            unet = UNet2DConditionModel(**SIZES["sd2"]["unet"])
        assert sum(p.numel() for name, p in unet.named_parameters() if ".attn2." in name) == 75_911_360

    def test_conditions_of_a_batch(self, model, batch):
        told = model.conditions(batch)
        assert told.context.shape == (2, 12, 32) and told.place.shape == (2, 5, SIZE[0] // 4, SIZE[1] // 4)
        assert told.valid.sum(dim=1).tolist() == [len(text) for text in batch.lines.texts]
        assert set(told.place[:, 0].unique().tolist()) == {0, 1} and told.mask.shape == (2, 1, *SIZE)
        inside = (told.segments.sum(dim=1, keepdim=True) > 0) & (told.mask == 0)
        assert inside.float().mean() < 0.02  # characters lie in the mask but for its edge

    def test_the_text_itself_is_hidden(self, model, batch):
        told, changed = model.conditions(batch), batch.images.clone()
        changed[told.mask.expand_as(changed) > 0] = 1.0
        from dataclasses import replace

        torch.testing.assert_close(model.conditions(replace(batch, images=changed)).place, told.place)

    def test_labels_that_are_dropped(self, model, batch):
        told = model.conditions(batch).without_labels(torch.tensor([True, False]))
        assert not told.context[0].any() and not told.valid[0].any() and told.context[1].any() and told.valid[1].any()

    def test_saved_and_loaded(self, model, batch, tmp_path):
        model.save_pretrained(tmp_path)
        found, told = UDiffTextModel.from_pretrained(tmp_path), model.eval().conditions(batch)
        x, t = torch.randn(2, 4, *told.place.shape[-2:]), torch.tensor([5, 900])
        with torch.no_grad():
            torch.testing.assert_close(found(x, t, told.context, told.place), model(x, t, told.context, told.place))
        (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\0" * 20)
        with pytest.raises(StorageError, match="damaged or cut off"):
            UDiffTextModel.from_pretrained(tmp_path)

    def test_models_that_are_none(self, tmp_path):
        with pytest.raises(StorageError, match="udifftext.json is missing"):
            UDiffTextModel.from_pretrained(tmp_path)
        with pytest.raises(FileNotFoundError, match="one of the sizes tiny, mini, sd2"):
            UDiffTextModel.load("nowhere/model")
        with pytest.raises(ValueError, match="no size 'huge'"):
            UDiffTextModel("huge")
        with pytest.raises(ValueError, match="tokens are 16 wide, the UNet's context 32"):
            UDiffTextModel("tiny", LabelEncoder(LabelEncoderConfig.mini(width=16, heads=2)))

    def test_a_start_takes_its_parts(self, start, tmp_path):
        start.save_pretrained(tmp_path / "other")
        LabelEncoder(LabelEncoderConfig.mini(width=32, heads=2, layers=2)).save(tmp_path / "labels.safetensors")
        found = starting_model(tmp_path / "other", tmp_path / "labels.safetensors", "tiny", seed=5)
        assert found.label_encoder.config.layers == 2 and found.label_encoder.frozen
        assert torch.equal(found.vae.quant_conv.weight, start.vae.quant_conv.weight)
        assert not torch.equal(found.unet.conv_in.weight, start.unet.conv_in.weight)


class TestTraining:
    def test_only_the_text_attention_moves_and_dropout_stays_off(self, model, start, data, tmp_path):
        module, rows = fit(model, data, tmp_path, learning_rate=1e-2)
        before, after = start.state_dict(), module.model.state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved and all(name.startswith("unet.") and ".attn2." in name for name in moved)
        logged = set(rows[-1]) | set(module.trainer.callback_metrics)
        assert {"t/diff", "t/local", "t/loss", "v/diff", "v/local/t500"} <= logged
        assert not module.model.label_encoder.training and not module.model.vae.training

    def test_everything_moves_when_asked(self, model, start, data, tmp_path):
        module, _ = fit(model, data, tmp_path, learning_rate=1e-2, train_all=True)
        assert not torch.equal(module.model.unet.conv_in.weight, start.unet.conv_in.weight)
        assert torch.equal(module.model.vae.quant_conv.weight, start.vae.quant_conv.weight)

    def test_a_run_repeats_from_its_seed(self, start, data, tmp_path):
        one, other, third = (fit(copy.deepcopy(start), data, tmp_path, seed=s)[1] for s in (3, 3, 4))
        assert one == other and one[-1]["t/loss"] != third[-1]["t/loss"]

    def test_the_local_loss_moves_attention_into_place(self, model, batch):
        """A few steps on one batch with L_loc alone, at one noise."""
        module = UDiffTextTraining(model, min_size=8, local_weight=1.0)
        latents, told = model.encode(batch.images), model.conditions(batch)
        noise, t = torch.randn_like(latents), torch.full((2,), 400)
        optimizer = torch.optim.Adam([p for _, p in module.trained["text_attention"]], 1e-2)
        losses = []
        for _ in range(12):
            terms = module.evaluate(latents, noise, t, told)
            losses.append(float(terms.local.mean()))
            optimizer.zero_grad()
            terms.local.mean().backward()
            optimizer.step()
        assert losses[-1] < losses[0] - 0.015 and losses[-1] == min(losses)

    def test_the_loss_is_that_of_eps_but_for_the_local_term(self, model, batch):
        module = UDiffTextTraining(model.eval(), min_size=8)
        latents, told = model.encode(batch.images), model.conditions(batch)
        noise, t = torch.randn_like(latents), torch.tensor([700, 300])
        terms = module.evaluate(latents, noise, t, told)
        from anytext_lib.losses import add_noise, diffusion_loss

        x_t = add_noise(latents, noise, model.alphas_cumprod[t])
        eps = model(x_t, t, told.context, told.place)
        torch.testing.assert_close(terms.diffusion, diffusion_loss(eps, noise), rtol=1e-4, atol=1e-4)

    def test_wrong_options(self, model):
        with pytest.raises(ValueError, match="probability in"):
            UDiffTextTraining(model, label_dropout=2.0)


class TestCommand:
    def test_the_packaged_configuration(self, tmp_path):
        options = {"model": "tiny", "runs": tmp_path, "trainer.max_steps": 1, "trainer.val_check_interval": 1,
                   "data.batch_size": 2, "data.val_limit": 2, "trainer.accelerator": "cpu", "model.warmup_steps": 0,
                   "trainer.log_every_n_steps": 1, "model.lr_schedule": "constant", "words.every": 1,
                   "words.images": 2, "words.steps": 2, "words.refine": "true"}
        assert main(["fit", "--config", "udifftext_mini.yaml", *(f"--{k}={v}" for k, v in options.items())]) == 0
        folder = tmp_path / "udifftext_mini"
        assert UDiffTextModel.from_pretrained(folder / "model").unet.config.cross_attention_dim == 32
        assert list((folder / "checkpoints").glob("*.ckpt"))
        rows = json.loads((folder / "images" / "step=0000001.json").read_text(encoding="utf-8"))
        assert len(rows) == 2 and set(rows[0]) == {"wanted", "written", "written_refined"}
        assert (folder / "images" / "step=0000001.png").stat().st_size > 1000

    def test_it_starts_from_the_shipped_model_in_any_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        start = yaml.safe_load(find_config("udifftext_mini.yaml").read_text(encoding="utf-8"))["model"]["model"]
        trained = UDiffTextTraining(start).trained
        assert trained and all(".attn2." in name for pairs in trained.values() for name, _ in pairs)

    @pytest.mark.parametrize("arguments, system", [
        (["--config", "udifftext_mini.yaml"], "udifftext"), (["--config=udifftext_mini"], "udifftext"),
        (["-c", "udifftext_mini"], "udifftext"), (["--config", "tiny.yaml"], "training"), ([], "training")])
    def test_which_configuration_is_meant(self, arguments, system):
        assert system_of(arguments).__module__.split(".")[1] == system

    def test_errors_are_told_without_a_traceback(self, tmp_path, capsys):
        options = ["--config", "udifftext_mini.yaml", "--model", "nowhere/model", "--runs", str(tmp_path / "runs")]
        assert main(["fit", *options, "--trainer.accelerator", "cpu"]) == 2
        assert "anytext fit: no model nowhere/model" in capsys.readouterr().err
        assert not (tmp_path / "runs").exists()


class TestWriting:
    quick = Sampling(steps=3, candidates=2, min_size=8)

    def test_refinement_on_and_off(self, model, batch):
        model.eval()
        plain = write_words(model, batch, self.quick)
        refined = write_words(model, batch, Sampling(steps=3, candidates=2, min_size=8, refine=True))
        assert plain.images.shape == refined.images.shape == (2, 3, *SIZE) and plain.images.abs().max() <= 1
        assert plain.choice.losses.shape == (2, 2) and plain.focus.shape == (3, 2)
        assert (refined.focus[0] <= plain.focus[0] + 1e-4).all()
        assert all(p.grad is None for p in model.parameters())

    def test_a_sample_does_not_depend_on_the_others(self, model, data):
        model.eval()
        together = write_words(model, next(data.plain_batches(2, 2)), self.quick)
        for i, alone in enumerate(data.plain_batches(2, 1)):
            found = write_words(model, alone, self.quick, places=[i])
            torch.testing.assert_close(found.images[0], together.images[i], atol=1e-4, rtol=1e-4)

    def test_other_words_and_no_search(self, model, batch):
        model.eval()
        one, other = (write_words(model, batch, Sampling(steps=2, candidates=1, min_size=8), labels=labels)
                      for labels in (None, ["xyz", "q"]))
        assert one.choice is None and not torch.equal(one.images, other.images)
