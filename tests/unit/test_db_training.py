"""The small detector: its network, data, training, files and commands.  What it reaches: test_db_learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anytext_lib.cli import main
from anytext_lib.db import DBLoss
from anytext_lib.db.dbnet import DBDetector, DBNet, load_network, save_network
from anytext_lib.db.detector_training import (
    HELD_OUT,
    held_out_scenes,
    make_batch,
    scene_labels,
    train_detector,
    training_batches,
)
from anytext_lib.scenes.rendering import render_scene

TINY = {"widths": (4, 4, 4, 4, 4), "neck": 8, "head": 4}


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_maps_of_the_network():
    output = DBNet(**TINY)(torch.rand(2, 3, 64, 96) * 2 - 1)
    assert output.maps.shape == (2, 3, 64, 96) and output.logits.shape == (2, 64, 96)
    assert output.maps.min() >= 0 and output.maps.max() <= 1
    torch.testing.assert_close(output.maps[:, 0], output.logits.sigmoid())
    torch.testing.assert_close(output.maps[:, 2], torch.sigmoid(50 * (output.maps[:, 0] - output.maps[:, 1])))
    with pytest.raises(ValueError, match="multiples of 32"):
        DBNet(**TINY)(torch.zeros(1, 3, 40, 64))


def test_every_parameter_is_trained():
    network = DBNet(**TINY)
    batch = make_batch([render_scene(1, 64), render_scene(2, 64)])
    DBLoss.from_preset("original")(*_take(network(batch.images), batch.labels)).loss.backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def _take(output, labels):
    return output.maps, labels, output.logits


def test_probability_of_any_size():
    network = DBNet(**TINY).eval()
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network.probability(image)[:, 0], network(image).maps[:, 0].detach())
    assert network.probability(torch.rand(1, 3, 50, 70)).shape == (1, 1, 50, 70)


def test_training_and_test_scenes_differ():
    first, second = training_batches(2, 2, 64)
    assert not torch.equal(first.images, second.images)
    other = next(iter(training_batches(2, 2, 64, seed=1)))
    assert not torch.equal(first.images, other.images)
    assert [scene.seed for scene in held_out_scenes(2, 64)] == [HELD_OUT, HELD_OUT + 1]
    with pytest.raises(ValueError, match="test scenes"):
        next(iter(training_batches(100, 100, 64, seed=10**6)))


def test_illegible_lines_are_masked_out():
    scene = next(s for s in (render_scene(i, 192, n_lines=3, invalid=0.9) for i in range(20)) if not all(
        line.valid for line in s.lines))
    labels = scene_labels(scene)
    assert [not line.valid for line in scene.lines] == labels.ignored.tolist()
    x, y = next(line for line in scene.lines if not line.valid).polygon.mean(axis=0).round().astype(int)
    assert labels.shrink_mask[y, x] == 0 and labels.shrink_map[y, x] == 0


def test_loss_falls_and_training_repeats():
    batches = [make_batch([render_scene(i, 64) for i in range(4)])] * 8
    records = []
    for _ in range(2):
        torch.manual_seed(3)
        network = DBNet(**TINY)
        records.append(train_detector(8, learning_rate=0.03, batches=batches, network=network))
    losses = records[0].losses["loss"]
    assert len(losses) == 8 and losses[-1] < 0.9 * losses[0] and losses == records[1].losses["loss"]
    assert same(records[0].network, records[1].network) and not records[0].network.training
    assert set(records[0].losses) == {"loss", "loss_shrink_maps", "loss_threshold_maps", "loss_binary_maps"}
    assert 0 < records[0].cpu_seconds


def test_files(tmp_path):
    network = DBNet(**TINY).eval()
    save_network(network, tmp_path / "db.safetensors")
    assert same(load_network(tmp_path / "db.safetensors"), network)
    assert [p.name for p in tmp_path.iterdir()] == ["db.safetensors"]
    (tmp_path / "other.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="no safetensors file"):
        load_network(tmp_path / "other.safetensors")
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="no small DB detector"):
        load_network(tmp_path / "foreign.safetensors")


class Bright(DBNet):
    """Takes bright pixels for kernels."""

    def probability(self, images):
        return (images.mean(dim=1, keepdim=True) > 0.5).float()


def test_detector_reads_in_order_and_takes_arrays_and_tensors():
    image = np.zeros((96, 160, 3), np.uint8)
    image[60:72, 20:80] = image[20:32, 90:140] = image[20:32, 20:60] = 255
    detector = DBDetector(Bright(**TINY))
    found = detector.detect(image)
    assert [round(d.quad.mean(dim=0)[0].item()) for d in found] == [40, 114, 50]
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 127.5 - 1
    for one, two in zip(found, detector.detect(tensor), strict=True):
        torch.testing.assert_close(one.quad, two.quad)
    with pytest.raises(ValueError, match="one image"):
        detector.detect(tensor.expand(2, -1, -1, -1))
    with pytest.raises(ValueError, match="an image is"):
        detector.detect(image[..., 0])


def test_commands(tmp_path, capsys):
    weights = tmp_path / "db.safetensors"
    arguments = ["train", str(weights), "--steps", "2", "--batch-size", "2", "--side", "64"]
    assert main(["db", *arguments]) == 0 and weights.is_file()
    assert "CPU seconds" in capsys.readouterr().out
    assert main(["db", "compare", str(weights), "--scenes", "2", "--side", "64"]) == 0
    assert capsys.readouterr().out.count(" mean IoU ") == 3
    assert main(["db", "compare", str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("kind, told", [
    ("missing", "there is no file"), ("empty", "no safetensors file, or a damaged one"),
    ("cut off", "no safetensors file, or a damaged one"), ("a folder", "no safetensors file, or a damaged one"),
    ("foreign", "holds no small DB detector"), ("nan", "the tensor .* holds NaN"), ("other", "another version")])
def test_broken_weights_given_to_the_command(tmp_path, capsys, kind, told):
    import json
    import re

    from safetensors.torch import save_file

    path = tmp_path / "Gewichte für den Detektor.safetensors"
    network = DBNet(**TINY)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    if kind == "nan":
        next(iter(state.values())).view(-1)[0] = float("nan")
    options = {"foreign": None, "other": {"dbnet": json.dumps({**TINY, "depth": 3})}}.get(
        kind, {"dbnet": json.dumps(network.options)})
    save_file(state, path, metadata=options)
    content = path.read_bytes()
    if kind in ("missing", "a folder"):
        path.unlink()
    if kind == "a folder":
        path.mkdir()
    if kind in ("empty", "cut off"):
        path.write_bytes(content[:0 if kind == "empty" else len(content) // 2])
    assert main(["db", "compare", str(path), "--scenes", "1", "--side", "64"]) == 2
    said = capsys.readouterr().err
    assert re.search(told, said) and path.name in said and said.count("\n") == 1, said


def test_a_place_that_cannot_be_written_is_told_before_training(tmp_path, capsys):

    (tmp_path / "file").write_text("mine")
    assert main(["db", "train", str(tmp_path / "file" / "db.safetensors"), "--steps", "9999"]) == 2
    assert "file is in the way" in capsys.readouterr().err and (tmp_path / "file").read_text() == "mine"
