"""The parts of training that need no model: random numbers, schedules, order of the data, files, arguments."""
import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from anytext_lib.cli import main
from anytext_lib.data.lines import TextLines
from anytext_lib.losses import LossWeightSchedule
from anytext_lib.randomness import draw_noise, draw_timesteps, places, seed_step
from anytext_lib.scenes.scene_dataset import SIZE
from anytext_lib.training import run_files
from anytext_lib.training.cache import ReferenceCache, TensorCache, digests
from anytext_lib.training.callbacks import ProgressBar
from anytext_lib.training.cli import expand, find_config
from anytext_lib.training.data import Chained, EpochBatches, ResumableLoader, read_records
from anytext_lib.training.module import learning_rate_factor


def test_two_processes_draw_what_one_draws():
    whole = draw_noise(3, 5, places(4), (2, 3))
    halves = [draw_noise(3, 5, places(2, rank, 2), (2, 3)) for rank in (0, 1)]
    assert torch.equal(torch.stack(halves, dim=1).flatten(0, 1), whole)
    times = draw_timesteps(3, 5, places(4))
    assert torch.equal(torch.stack([draw_timesteps(3, 5, places(2, r, 2)) for r in (0, 1)], dim=1).flatten(), times)


def test_draws_depend_on_seed_step_and_place_only():
    first = draw_noise(0, 1, [7], (8,))
    torch.manual_seed(99)
    assert torch.equal(draw_noise(0, 1, [7], (8,)), first)
    for other in (draw_noise(1, 1, [7], (8,)), draw_noise(0, 2, [7], (8,)), draw_noise(0, 1, [8], (8,))):
        assert not torch.equal(other, first)


def test_draws_have_the_right_distribution():
    noise, times = draw_noise(0, 0, range(64), (4, 8, 8)), draw_timesteps(0, 0, range(2000))
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03
    assert 0 <= times.min() < 10 and 990 < times.max() <= 999 and abs(times.float().mean() - 499.5) < 25
    late = draw_timesteps(0, 0, range(2000), first=900)
    assert late.min() == 900 and late.max() == 999 and abs(late.float().mean() - 949.5) < 3


def test_seeding_a_step_repeats_dropout():
    seed_step(0, 4, 1)
    first = torch.rand(3)
    torch.rand(100)
    seed_step(0, 4, 1)
    assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize("schedule, expected", [
    (LossWeightSchedule(0.3), {0: 0.3, 5: 0.3}),
    (LossWeightSchedule(0.3, start=3), {0: 0.0, 2: 0.0, 3: 0.3, 9: 0.3}),
    (LossWeightSchedule(0.3, start=2, ramp=3), {1: 0.0, 2: 0.1, 3: 0.2, 4: 0.3, 9: 0.3}),
    (LossWeightSchedule(0.0, start=2, ramp=3), {9: 0.0}),
])
def test_loss_weight_schedule(schedule, expected):
    assert {step: schedule(step) for step in expected} == pytest.approx(expected)


def test_loss_weights_are_not_negative():
    with pytest.raises(ValueError, match="value of a weight schedule must not be negative, got -1"):
        LossWeightSchedule(-1)


@pytest.mark.parametrize("kind, warmup, expected", [
    ("constant", 0, {0: 1, 50: 1}),
    ("constant", 4, {0: 0.25, 3: 1, 50: 1}),
    ("linear", 0, {0: 1, 50: 0.5, 100: 0}),
    ("cosine", 0, {0: 1, 50: 0.5, 100: 0, 120: 0}),
    ("one_cycle", 0, {0: 0.04, 30: 1, 65: 0.5, 100: 0}),
])
def test_learning_rates(kind, warmup, expected):
    found = {step: learning_rate_factor(step, kind, warmup, 100) for step in expected}
    assert found == pytest.approx(expected, abs=1e-9)


def test_learning_rate_needs_a_length():
    with pytest.raises(ValueError, match="set trainer.max_steps"):
        learning_rate_factor(0, "cosine", total=None)
    with pytest.raises(ValueError, match="lr_schedule is one of"):
        learning_rate_factor(0, "steep")


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3))
def test_processes_share_out_the_batches_of_one(length, batch, world, epoch):
    if length < batch * world:
        return
    one = EpochBatches(length, batch * world)
    many = [EpochBatches(length, batch, rank=rank, world_size=world) for rank in range(world)]
    for batches in (one, *many):
        batches.set_epoch(epoch)
    whole, parts = list(one), [list(batches) for batches in many]
    assert len(one) == len(whole) == len(parts[0])
    for step, wanted in enumerate(whole):
        woven = [part[step][i] for i in range(batch) for part in parts]
        assert woven == wanted
    seen = [index for step in whole for _, index in step]
    assert len(set(seen)) == len(seen) and all(epoch == e for step in whole for e, _ in step)


def test_order_changes_with_epoch_and_seed():
    def order(epoch, seed=0, shuffle=True):
        batches = EpochBatches(20, 4, seed, shuffle)
        batches.set_epoch(epoch)
        return [index for batch in batches for _, index in batch]

    assert order(0) == order(0) and order(0) != order(1) and order(0) != order(0, seed=1)
    assert order(0, shuffle=False) == list(range(20))


def test_validation_takes_every_sample_in_every_process():
    parts = [list(EpochBatches(5, 2, shuffle=False, rank=r, world_size=2, drop_last=False)) for r in (0, 1)]
    assert [[i for _, i in batch] for batch in parts[0]] == [[0, 2], [4]]
    assert [[i for _, i in batch] for batch in parts[1]] == [[1, 3], [0]]


def test_too_little_data_is_an_error():
    with pytest.raises(ValueError, match="5 samples do not fill one batch of 3 in each of 2 processes"):
        EpochBatches(5, 3, world_size=2)


class Told:
    """Items that tell epoch and index."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return self.epoch, i


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_goes_on_where_it_stopped(workers):
    def loader():
        return ResumableLoader(Told(), EpochBatches(10, 2), list, workers)

    whole = loader()
    whole.batch_sampler.set_epoch(3)
    wanted = list(whole)
    assert {epoch for batch in wanted for epoch, _ in batch} == {3}
    stopped = loader()
    iterator = iter(stopped)
    stopped.batch_sampler.set_epoch(3)  # Lightning tells the epoch after it has asked for the iterator
    begun = [next(iterator), next(iterator)]
    state = stopped.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    resumed.batch_sampler.set_epoch(3)
    assert begun + list(resumed) == wanted and len(resumed) == 5
    assert len(list(resumed)) == 5  # the next epoch is whole again


def test_a_finished_epoch_starts_anew():
    loader = ResumableLoader(Told(), EpochBatches(10, 2), list)
    loader.load_state_dict({"handed_out": 5})
    assert len(list(loader)) == 5


# files


def test_checkpoint_round_trip(tmp_path):
    io = run_files.AtomicCheckpointIO()
    state = {"state_dict": {"weight": torch.arange(3.0)}, "loops": {}, "optimizer_states": [], "step": 4}
    io.save_checkpoint(state, tmp_path / "new" / "step=4.ckpt")
    found = io.load_checkpoint(tmp_path / "new" / "step=4.ckpt")
    assert found["step"] == 4 and torch.equal(found["state_dict"]["weight"], torch.arange(3.0))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["step=4.ckpt"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_checkpoint_that_diverged_or_is_no_state_is_refused(tmp_path, bad):
    io, path = run_files.AtomicCheckpointIO(), tmp_path / "step=4.ckpt"
    io.save_checkpoint({"state_dict": {"net.weight": torch.tensor([1.0, bad])}, "loops": {}, "optimizer_states": []},
                       path)
    with pytest.raises(run_files.RunStateError, match=r"step=4.ckpt holds NaN or infinite values in net.weight"):
        io.load_checkpoint(path)
    io.save_checkpoint({"net.weight": torch.ones(2)}, path)
    with pytest.raises(run_files.RunStateError, match="is no state of a training run.* give it as --model"):
        io.load_checkpoint(path)


def test_checkpoints_hold_no_code(tmp_path):
    torch.save({"danger": os.system}, tmp_path / "step=1.ckpt")
    with pytest.raises(run_files.RunStateError, match="more than tensors and plain values"):
        run_files.AtomicCheckpointIO().load_checkpoint(tmp_path / "step=1.ckpt")


def test_a_cut_off_checkpoint_is_named_and_never_the_last(tmp_path):
    io = run_files.AtomicCheckpointIO()
    for step in (2, 10):
        io.save_checkpoint({"step": step}, tmp_path / f"step={step}.ckpt")
    data = (tmp_path / "step=10.ckpt").read_bytes()
    (tmp_path / "step=12.ckpt").write_bytes(data[: len(data) // 2])
    (tmp_path / ".step=14.ckpt.999999999.partial").write_bytes(data)
    assert [path.name for path in run_files.checkpoints_in(tmp_path)] == ["step=2.ckpt", "step=10.ckpt"]
    with pytest.raises(run_files.RunStateError, match=r"step=12.ckpt cannot be read .* take an older one"):
        io.load_checkpoint(tmp_path / "step=12.ckpt")
    assert [path.name for path in run_files.remove_partial(tmp_path)] == [".step=14.ckpt.999999999.partial"]


@pytest.mark.parametrize("code, message", [(errno.ENOSPC, "the disk is full.*Older checkpoints are intact"),
                                           (errno.EROFS, "Read-only file system.*--runs")])
def test_a_disk_that_refuses_leaves_the_old_checkpoint(tmp_path, monkeypatch, code, message):
    io, path = run_files.AtomicCheckpointIO(), tmp_path / "step=1.ckpt"
    io.save_checkpoint({"step": 1}, path)
    before = path.read_bytes()

    def refuse(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(run_files.os, "fsync", refuse)
    with pytest.raises(run_files.RunStateError, match=message):
        io.save_checkpoint({"step": 2}, path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["step=1.ckpt"]


def test_unwritable_run_folder(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(run_files.RunStateError, match="cannot be written: Not a directory. Choose a folder"):
        run_files.require_writable(tmp_path / "file" / "run")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/tmp/x", ".", "", "a/.."])
def test_a_run_stays_in_the_folder_of_the_runs(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", "tiny.yaml", f"--name={name}"]) == 2
    said = capsys.readouterr().err
    assert "does not lie inside the folder runs: give a plain name by --name" in said and "Traceback" not in said
    assert not list(tmp_path.iterdir()) and run_files.RunFolder.named("runs", "a/b").path == Path("runs/a/b")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_quiet_prints_warnings_and_errors_only(tmp_path, capfd):
    options = ["--config", "tiny.yaml", "--runs", str(tmp_path), "--val", "null", "--max_steps", "1"]
    assert main(["fit", *options, "--quiet"]) == 0
    said = capfd.readouterr()
    assert not said.out and not any(word in said.err for word in ("Seed set", "GPU available", "saved", "step 1"))
    assert (tmp_path / "tiny" / "model").is_dir()


def test_training_anytext2_loads_nothing_of_udifftext():
    code = ("import sys\nfrom anytext_lib.training.cli import system_of\nsystem_of(['--config', 'tiny.yaml'])\n"
            "print([name for name in sys.modules if name.startswith('anytext_lib.udifftext')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "[]", done.stderr


# reading once


def test_reference_cache():
    calls = []

    def read(images, lines):
        calls.append(list(lines.texts))
        return torch.stack([quad.sum() + torch.zeros(4, 2) for quad in lines.quads])

    lines = TextLines(torch.tensor([0, 1, 1]), torch.rand(3, 4, 2), ["a", "b", "c"], ["Latin"] * 3)
    cache = ReferenceCache(1.0)
    first = cache.features(read, torch.zeros(2, 3, 8, 8), lines, [5, 6])
    again = cache.features(read, torch.zeros(2, 3, 8, 8), lines.select([2, 0]), [5, 6])
    assert torch.equal(again, first[[2, 0]]) and calls == [["a", "b", "c"]] and (cache.hits, cache.misses) == (2, 3)
    moved = TextLines(lines.image_index, lines.quads + 1, lines.texts, lines.languages)
    cache.features(read, torch.zeros(2, 3, 8, 8), moved, [5, 6])
    cache.features(read, torch.zeros(2, 3, 8, 8), lines, [-1, -1])  # pictures that nobody knows
    assert len(calls) == 3 and len(cache.kept) == 6
    small = ReferenceCache(100 / 2**20)
    small.features(read, torch.zeros(2, 3, 8, 8), lines, [5, 6])
    assert len(small.kept) == 3 and small.bytes == 96
    small.features(read, torch.zeros(2, 3, 8, 8), moved, [5, 6])
    assert small.bytes <= 100


def test_a_cache_computes_what_is_missing_and_knows_pictures_by_their_values():
    asked = []

    def double(rows):
        asked.append(rows)
        return 2 * images[rows]

    images, cache = torch.rand(3, 2, 4), TensorCache(1.0)
    assert torch.equal(cache.rows(digests(images), double, images.device), 2 * images)
    assert torch.equal(cache.rows(digests(images.flip(0)), double, images.device), 2 * images.flip(0))
    images[1] += 1e-6
    assert torch.equal(cache.rows(digests(images), double, images.device), 2 * images)
    assert torch.equal(cache.rows([None, None], double, images.device), 2 * images[:2]) and len(cache.kept) == 4
    assert asked == [[0, 1, 2], [1], [0, 1]] and (cache.hits, cache.misses) == (5, 6)


# arguments


def test_bare_names_and_packaged_configurations():
    sections = {"model": ["loss_alpha", "steps"], "data": ["batch_size", "steps"]}
    found = expand(["--config", "tiny.yaml", "--loss_alpha", "1", "--batch_size=2", "--steps", "3", "--ckpt_path",
                    "last", "--config=tiny"], sections)
    tiny = str(find_config("tiny.yaml"))
    assert found == ["--config", tiny, "--model.loss_alpha", "1", "--data.batch_size=2", "--steps", "3",
                     "--ckpt_path", "last", f"--config={tiny}"]


def test_unknown_configuration_lists_the_known_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match="no configuration none.yaml.*sd15.yaml"):
        find_config("none.yaml")


@pytest.mark.parametrize("name", ["mini", "mini_pretrain", "mini_told", "mini_ocr", "udifftext_mini"])
def test_recipes_of_the_mini_model_train_on_scenes_of_its_size(name):
    options = yaml.safe_load(find_config(f"{name}.yaml").read_text(encoding="utf-8"))["data"]
    assert options["train"] == "scenes" and tuple(options["image_size"]) == SIZE and options["max_lines"] == 1


def test_chained_records_and_missing_data(tmp_path):
    chained = Chained([[1, 2], [], [3]])
    assert list(chained) == [1, 2, 3] and len(chained) == 3
    with pytest.raises(FileNotFoundError, match="anytext data index"):
        read_records(tmp_path / "none")


def test_advice_names_what_is_set():
    from anytext_lib.training.callbacks.reports import advice

    hparams = {"gradient_checkpointing": False, "loss_alpha": 0.1, "loss_beta": 0.0, "monitor_every": 0}
    trainer = SimpleNamespace(datamodule=SimpleNamespace(hparams={"batch_size": 6}), accumulate_grad_batches=2,
                              precision="32-true", world_size=1)
    text = advice(trainer, SimpleNamespace(hparams=hparams))
    assert "batch_size 6 -> 3 with grad_accum 2 -> 4" in text and "bf16-mixed" in text
    assert "gradient_checkpointing" in text and "loss_alpha 0" in text and "monitor_every" not in text
    text = advice(trainer, SimpleNamespace(hparams={"local_weight": 0.01}))  # UDiffText's training has none of these
    assert "bf16-mixed" in text and "loss_alpha" not in text and "gradient_checkpointing" not in text


# progress


def test_the_bar_names_no_end_where_there_is_none():
    bar = ProgressBar()
    figures = {"t/loss": torch.tensor(1.25), "v/sim": torch.tensor(0.5), "t/lr": torch.tensor(1.0)}
    for last, shown in ((-1, "Epoch 3"), (None, "Epoch 3"), (5, "Epoch 3/4")):
        bar._trainer = SimpleNamespace(max_epochs=last, callback_metrics=figures)
        assert bar._get_train_description(3) == shown
    assert bar.get_metrics(bar._trainer, None) == {"t/loss": "1.25", "v/sim": "0.5"}
