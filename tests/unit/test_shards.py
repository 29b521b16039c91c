"""Shards: written and read back, split between ranks and workers, the same samples as from a folder; the sampler."""

import json
import multiprocessing
import shutil
import tarfile
from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
from torch.utils.data import DataLoader

from anytext_lib.data import AnyWordError, read_anyword
from anytext_lib.data.dataset import AnyWordDataset, BadImageWarning
from anytext_lib.data.folder import data_folder
from anytext_lib.data.sample import SampleConfig
from anytext_lib.data.sampling import EpochSampler, epoch_order
from anytext_lib.data.shards import SampleMaker, ShardError, ShardStream, write_shards

COUNT = 23


def small_set(folder, count=COUNT):
    """``count`` entries; the pictures are tiny."""
    from PIL import Image

    from anytext_lib.data import AnnotatedImage, Annotation

    records = []
    for i in range(count):
        path = folder / f"{i}.png"
        Image.new("RGB", (4, 3), (i, 2 * i, 255 - i)).save(path)
        line = Annotation(np.array([[0.1, 0], [3, 0], [3, 2.7]]) + i / 3, f"text {i}", "Latin", i % 2 == 0, (i, 0, 0))
        records.append(AnnotatedImage(path, path.name, f"Picture {i}.", [line] * (i % 3), i / 100))
    return records


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Shards of 23 samples, five a shard, and the entries."""
    folder = tmp_path_factory.mktemp("set")
    records = small_set(folder)
    made = write_shards(records, folder / "shards", per_shard=5)
    assert (made.samples, len(made.paths), made.missing) == (COUNT, 5, [])
    return folder / "shards", records


def number(item, epoch=0):
    return item.index


def numbers(items):
    """A collate function: the numbers of the samples."""
    return [item.index for item in items]


def test_what_is_written_is_read(shards):
    folder, records = shards
    items = list(ShardStream(folder, shuffle=False))
    assert [item.index for item in items] == [item.place for item in items] == list(range(COUNT))
    for item, record in zip(items, records, strict=True):
        assert (item.image == (item.index, 2 * item.index, 255 - item.index)).all() and item.image.shape == (3, 4, 3)
        assert (item.record.name, item.record.caption, item.record.wm_score) == (
            record.name, record.caption, record.wm_score)
        for mine, line in zip(item.record.annotations, record.annotations, strict=True):
            np.testing.assert_array_equal(mine.polygon, line.polygon)
            assert (mine.text, mine.valid, mine.color) == (line.text, line.valid, line.color)


def test_equal_input_gives_equal_bytes(shards, tmp_path):
    folder, records = shards
    for path in write_shards(records, tmp_path / "again", per_shard=5).paths:
        assert path.read_bytes() == (folder / path.name).read_bytes()
    with tarfile.open(folder / "shard-000000.tar") as tar:
        assert tar.getnames()[:2] == ["000000000.json", "000000000.png"] or tar.getnames()[0] == "000000000.png"


@pytest.mark.parametrize("world, workers, shuffle", [(1, 1, True), (2, 3, True), (3, 2, False), (4, 7, True)])
def test_every_sample_once(shards, world, workers, shuffle, monkeypatch):
    seen, sizes = Counter(), []
    for rank in range(world):
        stream = ShardStream(shards[0], seed=3, shuffle=shuffle, buffer=4, make=number, rank=rank, world=world)
        mine = []
        for worker in range(workers):
            info = type("Info", (), {"id": worker, "num_workers": workers})
            monkeypatch.setattr("anytext_lib.data.shards.get_worker_info", lambda info=info: info)
            mine += list(stream)
        sizes.append(len(mine))
        assert len(mine) == len(stream)
        seen.update(mine)
    assert set(sizes) == {COUNT // world} and max(seen.values()) == 1 and len(seen) == COUNT // world * world


def test_order_depends_on_seed_and_epoch(shards):
    def order(seed, epoch):
        stream = ShardStream(shards[0], seed=seed, buffer=8, make=number)
        stream.set_epoch(epoch)
        return list(stream)
    assert order(0, 0) == order(0, 0) and order(0, 1) == order(0, 1)
    assert len({tuple(order(*case)) for case in ((0, 0), (0, 1), (1, 0))}) == 3
    assert all(sorted(order(0, epoch)) == list(range(COUNT)) for epoch in range(3))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="spawned workers import torch anew")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_in_the_workers_of_a_loader(shards):
    stream = ShardStream(shards[0], buffer=4)
    loader = DataLoader(stream, batch_size=4, num_workers=2, collate_fn=numbers, persistent_workers=True,
                        multiprocessing_context="fork")
    epochs = []
    for epoch in range(2):
        stream.set_epoch(epoch)
        epochs.append(sum(loader, []))
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(COUNT)) and epochs[0] != epochs[1]


def test_the_samples_are_those_of_a_folder(tmp_path):
    records = read_anyword(data_folder() / "annotations.json")[:4]
    write_shards(records, tmp_path, per_shard=3)
    config = SampleConfig(image_size=(128, 128))
    stream, dataset = ShardStream(tmp_path, seed=5, make=SampleMaker(config, 5)), AnyWordDataset(records, config, 5)
    stream.set_epoch(2)
    dataset.set_epoch(2)
    for sample in stream:
        twin = dataset[sample.index]
        for field in fields(sample):
            np.testing.assert_array_equal(getattr(sample, field.name), getattr(twin, field.name), field.name)


def test_pictures_that_cannot_be_decoded(tmp_path):
    records = small_set(tmp_path, 6)
    for i in (0, 1, 5):
        (tmp_path / f"{i}.png").write_bytes(b"no picture")
    write_shards(records, tmp_path / "shards")
    with pytest.warns(BadImageWarning, match=r"sample \d \(\d.png\): it is not a picture .*in its place"):
        items = list(ShardStream(tmp_path / "shards", shuffle=False))
    assert [(item.place, item.index) for item in items] == [(0, 2), (1, 2), (2, 2), (3, 3), (4, 4), (5, 4)]
    assert [len(item.skipped) for item in items] == [1, 1, 0, 0, 0, 1] and "sample 5" in items[5].skipped[0]
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"")
    write_shards(records, tmp_path / "shards", force=True)
    with pytest.warns(BadImageWarning), pytest.raises(ShardError, match="none of 6 pictures can be decoded"):
        list(ShardStream(tmp_path / "shards"))


def test_damaged_shards(shards, tmp_path):
    def damaged(name, change):
        shutil.copytree(shards[0], tmp_path / name)
        change(tmp_path / name)
        return list(ShardStream(tmp_path / name))

    def cut(folder):
        content = (folder / "shard-000001.tar").read_bytes()
        (folder / "shard-000001.tar").write_bytes(content[:3000])

    def shorten(folder):
        shutil.copy(folder / "shard-000004.tar", folder / "shard-000001.tar")

    with pytest.raises(ShardError, match=r"shard-000001.tar (is damaged|holds) .*restore it or write it again"):
        damaged("cut", cut)
    with pytest.raises(ShardError, match="shard-000001.tar holds 3 samples, 5 are listed"):
        damaged("short", shorten)
    with pytest.raises(ShardError, match="1 of 5 shards are missing in .*, shard-000002.tar among them"):
        damaged("gone", lambda folder: (folder / "shard-000002.tar").unlink())
    with pytest.raises(ShardError, match="no shards.json in .* `anytext data shards`"):
        damaged("unlisted", lambda folder: (folder / "shards.json").unlink())
    with pytest.raises(ShardError, match="is malformed"):
        damaged("list", lambda folder: (folder / "shards.json").write_text("{"))


def test_writing_refuses_what_would_do_harm(shards, tmp_path):
    folder, records = shards
    with pytest.raises(ShardError, match="there are shards in .* already"):
        write_shards(records, folder)
    with pytest.raises(ValueError, match="at least one sample"):
        write_shards(records, tmp_path, per_shard=0)
    (tmp_path / "file").touch()
    with pytest.raises(ShardError, match="is a file"):
        write_shards(records, tmp_path / "file")


def test_force_replaces_all_shards(tmp_path):
    records = small_set(tmp_path, 6)
    write_shards(records, tmp_path / "out", per_shard=1)
    write_shards(records, tmp_path / "out", per_shard=4, force=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "shard-000000.tar", "shard-000001.tar", "shards.json"]


def test_missing_pictures(tmp_path):
    records = small_set(tmp_path, 5)
    records[2].path.unlink()
    with pytest.raises(FileNotFoundError, match=r"entry 2 \('2.png'\): there is no picture"):
        write_shards(records, tmp_path / "out", per_shard=2)
    assert not (tmp_path / "out" / "shards.json").exists()
    made = write_shards(records, tmp_path / "out", per_shard=2, skip_missing=True)
    assert made.missing == [records[2].path] and made.samples == 4
    assert sorted(ShardStream(tmp_path / "out", make=number)) == [0, 1, 3, 4]
    assert json.loads((tmp_path / "out" / "shards.json").read_text())["samples"] == 4


def test_the_rank_must_exist(shards):
    with pytest.raises(ValueError, match="got rank 2 of 2"):
        ShardStream(shards[0], rank=2, world=2)
    with pytest.raises(ValueError, match="got rank 2 of 2"):
        EpochSampler(10, rank=2, world=2)


def test_the_sampler_gives_every_item_once_a_rank():
    ranks = [list(EpochSampler(23, seed=1, rank=r, world=4)) for r in range(4)]
    assert {len(rank) for rank in ranks} == {5} and len(set(sum(ranks, []))) == 20
    filled = [list(EpochSampler(23, seed=1, rank=r, world=4, drop_last=False)) for r in range(4)]
    assert {len(rank) for rank in filled} == {6} and set(sum(filled, [])) == set(range(23))
    np.testing.assert_array_equal(np.array(ranks).T.reshape(-1), epoch_order(23, 1, 0)[:20])
    assert list(EpochSampler(range(5), shuffle=False, rank=0, world=1)) == [0, 1, 2, 3, 4]


def test_the_sampler_resumes_with_another_number_of_ranks():
    before = [EpochSampler(40, seed=1, rank=r, world=2) for r in range(2)]
    for sampler in before:
        sampler.set_epoch(3)
    seen = [list(sampler)[:7] for sampler in before]
    state = before[0].state_dict(7)
    assert state == before[1].state_dict(7) == {"seed": 1, "epoch": 3, "consumed": 14, "length": 40}
    after = [EpochSampler(40, seed=1, rank=r, world=3) for r in range(3)]
    for sampler in after:
        sampler.load_state_dict(json.loads(json.dumps(state)))
        sampler.set_epoch(3)  # as a trainer does on resuming
    assert len(after[0]) == 8
    rest = [list(sampler) for sampler in after]
    order = epoch_order(40, 1, 3).tolist()
    np.testing.assert_array_equal(np.array(seen).T.reshape(-1), order[:14])
    np.testing.assert_array_equal(np.array(rest).T.reshape(-1), order[14:38])
    assert after[0].state_dict(2)["consumed"] == 20  # counted from the start of the epoch
    assert len(list(after[0])) == 13  # a further pass is whole
    after[0].set_epoch(4)
    assert after[0].state_dict(0)["consumed"] == 0


def test_the_sampler_refuses_other_data():
    state = EpochSampler(40, seed=1).state_dict(0)
    for other, name in ((EpochSampler(41, seed=1), "length"), (EpochSampler(40, seed=2), "seed")):
        with pytest.raises(ValueError, match=f"cannot resume the epoch: its {name} was"):
            other.load_state_dict(state)


def test_an_entry_that_is_damaged(tmp_path):
    records = small_set(tmp_path, 1)
    path, = write_shards(records, tmp_path / "out").paths
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"img_name"', b'"img-name"'))
    with pytest.raises((ShardError, AnyWordError), match="sample 0"):
        list(ShardStream(tmp_path / "out"))
