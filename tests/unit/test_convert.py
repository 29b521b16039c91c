"""Upstream's checkpoint to a folder and back: bit for bit, all accounted for, clear errors, nothing half done."""

from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from anytext_lib.cli import main
from anytext_lib.diffusion import SCHEDULE_BUFFERS, scaled_linear_abar, schedule_buffers
from anytext_lib.models import AnyText2Model
from anytext_lib.models.storage import StorageError, save_tensors
from anytext_lib.upstream.checkpoint import CheckpointError, read_checkpoint
from anytext_lib.upstream.convert import (
    account,
    from_upstream,
    model_from_upstream,
    to_upstream,
)
from anytext_lib.upstream.keys import UnknownKeysError
from tests.unit.upstream_files import same, upstream_state

OFFICIAL = Path(__file__).parents[1] / "golden" / "data" / "checkpoint" / "anytext2_sd15_state_dict.json.gz"
SCHEDULER = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012}


@pytest.fixture(scope="module")
def tiny() -> AnyText2Model:
    torch.manual_seed(0)
    model = AnyText2Model.from_config("tiny", pretrained_recognizer=False)
    model.writenet.half()  # a checkpoint may mix dtypes
    return model


@pytest.fixture(scope="module")
def state(tiny) -> dict[str, torch.Tensor]:
    return upstream_state(tiny)


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("upstream") / "tiny.ckpt"
    torch.save({"state_dict": state, "global_step": 7}, path)
    return path


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("converted") / "model"
    from_upstream(checkpoint, path, "tiny")
    return path


def convert(*arguments) -> int:
    return main(["convert", *map(str, arguments)])


# there and back


@pytest.mark.parametrize("name", ["back.ckpt", "back.safetensors"])
def test_round_trip_is_exact(folder, state, tmp_path, name):
    account = to_upstream(folder, tmp_path / name)
    back = torch.load(tmp_path / name, weights_only=True) if name.endswith("ckpt") else load_file(tmp_path / name)
    assert same(back, state)
    assert len(account.used) + len(account.unused) == len(state) and not account.filled
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_reads_safetensors_as_well(state, folder, tmp_path):
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "a.safetensors")
    from_upstream(tmp_path / "a.safetensors", tmp_path / "model", "tiny")
    for path in folder.rglob("*.safetensors"):
        assert same(load_file(path), load_file(tmp_path / "model" / path.relative_to(folder)))


def test_the_folder_and_the_file_give_the_same_model(folder, checkpoint, tiny, state):
    loaded, direct = AnyText2Model.from_pretrained(folder), AnyText2Model.from_upstream(checkpoint, config="tiny")
    own = {name: value.float() if value.is_floating_point() else value for name, value in tiny.state_dict().items()}
    own |= {name: value for name, value in loaded.state_dict().items() if name.endswith("num_batches_tracked")}
    assert same(loaded.state_dict(), own) and same(direct.state_dict(), own)
    assert direct.text_encoder.embeddings.position_ids.flatten().tolist() == list(range(77))
    assert loaded.recognizer.backbone.conv1._batch_norm.num_batches_tracked == state[
        "text_predictor.backbone.conv1._batch_norm.num_batches_tracked"]


def test_a_model_made_here_becomes_a_whole_checkpoint(tmp_path):
    model = AnyText2Model.from_config("tiny")
    model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "recognizer").exists()
    account = to_upstream(tmp_path / "model", tmp_path / "out.ckpt")
    assert sorted(account.filled) == sorted(SCHEDULE_BUFFERS)
    again = model_from_upstream(tmp_path / "out.ckpt", "tiny")
    assert same(again.state_dict(), model.state_dict())


def test_schedule_is_the_models():
    buffers = schedule_buffers(SCHEDULER)
    assert tuple(buffers) == SCHEDULE_BUFFERS and all(value.shape == (1000,) for value in buffers.values())
    assert torch.equal(buffers["alphas_cumprod"], scaled_linear_abar())
    assert buffers["alphas_cumprod"][[0, 999]].tolist() == pytest.approx([0.9991, 0.0047], abs=1e-4)
    assert buffers["posterior_variance"][0] == 0 and buffers["posterior_mean_coef1"][0] == pytest.approx(1)
    assert all(value.isfinite().all() for value in buffers.values())


# files of tensors


@pytest.mark.parametrize("torch_format", [False, True], ids=["safetensors", "torch"])
def test_files_keep_every_dtype_and_shape(torch_format, tmp_path):
    tensors = {"a": torch.randn(3, 5), "b": torch.randn(7).half(), "c": torch.tensor(3),
               "d": torch.randn(2, 3).bfloat16(), "e": torch.tensor([True, False, True]), "f": torch.empty(0, 4),
               "g": torch.arange(6).reshape(2, 3).T, "h": torch.zeros(3, dtype=torch.uint8)}
    tensors["i"] = tensors["a"]  # a checkpoint may hold one tensor twice
    save_tensors(tensors, tmp_path / "x", torch_format)
    assert same(read_checkpoint(tmp_path / "x"), tensors)
    assert same(torch.load(tmp_path / "x", weights_only=True) if torch_format else load_file(tmp_path / "x"), tensors)


def memory(kind: str) -> int:
    """MiB of this process that are no mapped file ("RssAnon") now."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind)]
    return int(line.split()[1]) // 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux' account of memory")
@pytest.mark.parametrize("torch_format", [False, True], ids=["safetensors", "torch"])
def test_tensors_go_from_file_to_file_without_memory(torch_format, tmp_path):
    save_tensors({str(i): torch.randn(4, 2**20) for i in range(12)}, tmp_path / "x", not torch_format)  # 192 MiB
    state, before, peak = read_checkpoint(tmp_path / "x"), memory("RssAnon"), []
    watch = threading.Thread(target=lambda: [peak.append(memory("RssAnon")) or time.sleep(0.002) for _ in range(100)])
    watch.start()
    save_tensors(state, tmp_path / "y", torch_format)
    watch.join()
    assert max(peak) - before < 64


def test_official_names_and_shapes_without_memory(tmp_path):
    """A sparse file of 6 GB that takes no room: only its header is read."""
    listed = json.loads(gzip.decompress(OFFICIAL.read_bytes()))["tensors"]
    header, end = {}, 0
    for name, shape, dtype in listed:
        tensor = torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        header[name] = {"dtype": {"float32": "F32", "int64": "I64"}[dtype], "shape": shape,
                        "data_offsets": [end, end := end + tensor.nbytes]}
    text = json.dumps(header).encode()
    with open(tmp_path / "official.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    assert (tmp_path / "official.safetensors").stat().st_size > 5.9e9
    found = account(tmp_path / "official.safetensors")
    assert len(found.used) == 2034 and len(found.unused) == 13
    assert convert(tmp_path / "official.safetensors", "--dry-run") == 0


# errors


def test_unexpected_missing_and_misfitting_tensors_are_named(state, tmp_path):
    def saved(change: dict, drop: str = "-") -> Path:
        torch.save({name: value for name, value in (state | change).items() if not name.startswith(drop)},
                   tmp_path / "x.ckpt")
        return tmp_path / "x.ckpt"

    with pytest.raises(UnknownKeysError, match=r"1 unexpected .*x.ckpt.* AnyText2.*: model_ema.decay"):
        from_upstream(saved({"model_ema.decay": torch.ones(1)}), tmp_path / "m", "tiny")
    with pytest.raises(CheckpointError, match=r"x.ckpt is a checkpoint of AnyText, version 1 .*anytext_v2.0.ckpt"):
        account(saved({"control_model.fuse_block.weight": torch.ones(1)}, "control_model.fuse_block_za"), "tiny")
    with pytest.raises(UnknownKeysError, match="control_model.zero_convs.9.0.bias"):
        account(saved({"control_model.zero_convs.9.0.bias": torch.ones(1)}), "tiny")
    with pytest.raises(CheckpointError, match=r"lacks 4 tensors of the model: embedding_manager.color_proj.0.weight"):
        account(saved({}, "embedding_manager.color_proj"), "tiny")
    with pytest.raises(CheckpointError, match=r"model.diffusion_model.out.2.bias: it holds \(9,\), expected \(4,\)"):
        account(saved({"model.diffusion_model.out.2.bias": torch.ones(9)}), "tiny")
    assert not (tmp_path / "m").exists()


def test_extra_clip_buffer_is_kept_aside(state, tmp_path):
    ids = {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save(state | ids, tmp_path / "x.ckpt")
    assert len(from_upstream(tmp_path / "x.ckpt", tmp_path / "m", "tiny").unused) == 14
    to_upstream(tmp_path / "m", tmp_path / "y.ckpt")
    assert same(torch.load(tmp_path / "y.ckpt", weights_only=True), state | ids)


@pytest.mark.parametrize("content, message", [
    (b"", "neither a checkpoint"), (b"<!DOCTYPE html><html>", "web page"), (b"PK\x03\x04 and nothing", "cut off"),
    (pickle.dumps({"a": 1}, 2), "before 2020"), (b"\x80\x00\x00\x00\x00\x00\x00\x00{\"a\":", "cut off"),
], ids=["empty", "page", "zip", "pickle", "safetensors"])
def test_foreign_files_are_refused(content, message, tmp_path):
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.parametrize("name", ["cut.ckpt", "cut.safetensors"])
def test_truncated_files_are_refused(folder, tmp_path, name):
    to_upstream(folder, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read: it is damaged or cut off"):
        from_upstream(tmp_path / name, tmp_path / "m", "tiny")


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(1)}, "callbacks": Harmful(tmp_path / "made")}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="Python objects besides tensors"):
        read_checkpoint(tmp_path / "x.ckpt")
    assert not (tmp_path / "made").exists()


class Harmful:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_things_that_are_no_tensors_are_refused(tmp_path):
    torch.save({"a": torch.ones(1), "b": 3}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"other things than tensors: \['b'\]"):
        read_checkpoint(tmp_path / "x.ckpt")
    torch.save([torch.ones(1)], tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_a_damaged_folder_is_refused(folder, tmp_path):
    with pytest.raises(StorageError, match="anytext2.json is missing"):
        to_upstream(tmp_path, tmp_path / "x.ckpt")
    tensors = load_file(folder / "text_embedding" / "diffusion_pytorch_model.safetensors")
    copy = tmp_path / "copy"
    for path in folder.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(folder)).write_bytes(path.read_bytes())
    target = copy / "text_embedding" / "diffusion_pytorch_model.safetensors"
    save_file(tensors | {"another": torch.ones(1)}, target)
    with pytest.raises(UnknownKeysError, match="another"):
        to_upstream(copy, tmp_path / "x.ckpt")
    tensors.pop("color_proj.0.bias")
    save_file(tensors, target)
    with pytest.raises(StorageError, match="1 tensors are missing .*text_embedding.color_proj.0.bias"):
        to_upstream(copy, tmp_path / "x.ckpt")
    assert not (tmp_path / "x.ckpt").exists()


# nothing half done


def test_existing_targets_are_kept_unless_forced(folder, checkpoint, tmp_path):
    target = tmp_path / "m"
    target.mkdir()
    (target / "precious").write_text("x")
    with pytest.raises(CheckpointError, match="there already"):
        from_upstream(checkpoint, target, "tiny")
    from_upstream(checkpoint, target, "tiny", force=True)
    assert not (target / "precious").exists() and (target / "anytext2.json").is_file()
    (tmp_path / "x.ckpt").write_text("x")
    with pytest.raises(CheckpointError, match="there already"):
        to_upstream(folder, tmp_path / "x.ckpt")
    to_upstream(folder, tmp_path / "x.ckpt", force=True)
    with pytest.raises(CheckpointError, match="ending '.zip'"):
        to_upstream(folder, tmp_path / "x.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "x.ckpt"]


def test_a_full_disk_leaves_nothing_behind(folder, checkpoint, tmp_path):
    """The limit of a file's size stands for the disk's."""
    script = f"""if True:
        import resource, signal
        from anytext_lib.cli import main
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        for source, target in (("{checkpoint}", "m"), ("{folder}", "m.ckpt"), ("{folder}", "m.safetensors")):
            print(main(["convert", source, "{tmp_path}/" + target, "--config", "tiny"]))"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    told = done.stderr.strip().splitlines()
    assert done.stdout.split() == ["2", "2", "2"] and len(told) == 3 and all("room" in line for line in told)
    assert list(tmp_path.iterdir()) == []


def test_room_is_checked_first(folder, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("anytext_lib.upstream.convert.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(CheckpointError, match="are to be written"):
        from_upstream(checkpoint, tmp_path / "m", "tiny")
    with pytest.raises(CheckpointError, match="are to be written"):
        to_upstream(folder, tmp_path / "x.ckpt")
    assert list(tmp_path.iterdir()) == []


# the command


def test_command_there_and_back(checkpoint, state, tmp_path, capsys):
    assert convert(checkpoint, tmp_path / "m", "--config", "tiny") == 0
    printed = capsys.readouterr().out
    assert f"{len(state)} tensors" in printed and "13 unused" in printed and "0 missing, 0 unexpected" in printed
    assert convert(tmp_path / "m", tmp_path / "back.safetensors") == 0
    assert same(load_file(tmp_path / "back.safetensors"), state)


def test_command_dry_run_and_errors(checkpoint, tmp_path, capsys):
    assert convert(checkpoint, "--config", "tiny", "--dry-run") == 0
    assert "used" in capsys.readouterr().out
    assert convert(checkpoint, tmp_path / "m") == 2
    assert "anytext convert: " in capsys.readouterr().err
    assert convert(tmp_path / "nothing.ckpt", tmp_path / "m") == 2
    assert "there is no file" in capsys.readouterr().err
    assert convert(checkpoint) == 2
    assert "TARGET" in capsys.readouterr().err
    assert convert() == 2
    assert convert(checkpoint, tmp_path / "m", "--config", "tiny", "--tokenizer", tmp_path) == 2
    assert "no CLIP tokenizer" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
