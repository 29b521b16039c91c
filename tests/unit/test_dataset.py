"""The data set: items depend on seed, epoch and index only; bad pictures are skipped and reported; batches are flat."""

import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from anytext_lib.data import (
    AnnotatedImage,
    AnyWordDataset,
    AnyWordError,
    BadImageWarning,
    SampleConfig,
    collate,
    data_folder,
    read_anyword,
)

SMALL = SampleConfig(image_size=(64, 96))
RECORDS = read_anyword(data_folder() / "annotations.json")[:8]


def blank(record):
    return np.zeros((16, 16, 3), np.uint8)


def named(count, score=None):
    return [AnnotatedImage(Path(f"{i}.png"), f"{i}.png", wm_score=score(i) if score else None) for i in range(count)]


def same(a, b):
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


def damaged(tmp_path, count=1):
    """Eight records of which the first ``count`` cannot be read: cut off, not a picture, missing."""
    records = list(RECORDS)
    contents = [RECORDS[0].path.read_bytes()[:2000], b"not a picture", None]
    for i in range(count):
        path = tmp_path / f"bad_{i}.jpg"
        if contents[i % 3] is not None:
            path.write_bytes(contents[i % 3])
        records[i] = replace(records[i], path=path)
    return records


def test_items_depend_on_seed_epoch_and_index_only():
    a, b, c = (AnyWordDataset(RECORDS, SMALL, seed=seed) for seed in (3, 3, 4))
    first = a[5]
    b[0], b[2], np.random.random(3)
    assert same(first, b[5]) and same(first, a[5]) and not same(first, c[5])
    a.set_epoch(1)
    assert not same(first, a[5])
    a.set_epoch(0)
    assert same(first, a[5]) and first.index == 5 and first.name == RECORDS[5].name


def test_workers_make_the_same_batches():
    data = AnyWordDataset(RECORDS, SMALL)
    here = [collate([data[i], data[i + 1]]) for i in range(0, 8, 2)]
    there = list(DataLoader(data, batch_size=2, num_workers=2, collate_fn=collate))
    for a, b in zip(here, there, strict=True):
        assert a.lines.texts == b.lines.texts and torch.equal(a.lines.quads, b.lines.quads)
        assert a.text_captions == b.text_captions and a.names == b.names
        for name in ("images", "masked_images", "glyph_lines", "glyphs", "positions", "colors", "font_hints",
                     "invalid_mask", "editing", "indices"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_negative_indices_and_the_end():
    data = AnyWordDataset(RECORDS, SMALL)
    assert same(data[-1], data[7]) and len(data) == 8
    with pytest.raises(IndexError, match="8 pictures"):
        data[8]


def test_percent_is_a_seeded_sample_not_the_first_ones():
    sets = [AnyWordDataset(named(1000), SMALL, seed, 0.1, blank) for seed in (0, 0, 1)]
    rows = [data.rows.tolist() for data in sets]
    assert [len(r) for r in rows] == [100, 100, 100] and rows[0] == rows[1] != rows[2]
    assert rows[0] == sorted(set(rows[0])) and rows[0][-1] > 900
    assert sets[0][7].index == rows[0][7]
    with pytest.raises(ValueError, match="percent"):
        AnyWordDataset(named(3), SMALL, percent=0)


def test_watermarked_pictures_are_left_out():
    records = named(20, lambda i: None if i % 4 == 0 else i / 20)
    data = AnyWordDataset(records, replace(SMALL, wm_thresh=0.5), read_image=blank)
    assert [records[i].name for i in data.rows] == [f"{i}.png" for i in range(20) if i % 4 == 0 or i <= 10]
    assert data.watermarked == 20 - len(data)
    assert len(AnyWordDataset(records, SMALL)) == 20  # a threshold of 1 keeps all
    with pytest.raises(ValueError, match="wm_thresh"):
        AnyWordDataset(named(3, lambda i: 0.9), replace(SMALL, wm_thresh=0.5))


def test_an_index_may_know_its_scores():
    class Index(list):
        def wm_scores(self):
            return np.array([0.9, np.nan, 0.1])

    assert AnyWordDataset(Index(named(3)), replace(SMALL, wm_thresh=0.5)).rows.tolist() == [1, 2]


def test_pictures_that_cannot_be_read_are_skipped_and_reported(tmp_path):
    data = AnyWordDataset(damaged(tmp_path, 3), SMALL)
    for i in range(3):
        with pytest.warns(BadImageWarning, match=f"bad_{i}.jpg"):
            sample = data[i]
        assert sample.name == RECORDS[3].name and sample.index == 3
        assert len(sample.skipped) == 3 - i and f"bad_{i}.jpg" in sample.skipped[0]
    assert data[3].skipped == ()
    with pytest.warns(BadImageWarning):
        batch = collate([data[2], data[4]])
    assert len(batch) == 2 and len(batch.skipped) == 1 and "bad_2.jpg" in batch.skipped[0]


@pytest.mark.filterwarnings("ignore::anytext_lib.data.dataset.BadImageWarning")
def test_reports_come_back_from_workers(tmp_path):
    loader = DataLoader(AnyWordDataset(damaged(tmp_path), SMALL), batch_size=4, num_workers=1, collate_fn=collate)
    assert [len(batch.skipped) for batch in loader] == [1, 0]


@pytest.mark.filterwarnings("ignore::anytext_lib.data.dataset.BadImageWarning")
def test_a_data_set_without_any_readable_picture_says_so():
    with pytest.raises(AnyWordError, match="3 pictures one after the other.*data_root"):
        AnyWordDataset(named(3), SMALL)[0]


@pytest.mark.filterwarnings("ignore::anytext_lib.data.dataset.BadImageWarning")
def test_arrays_of_the_wrong_kind_count_as_unreadable():
    data = AnyWordDataset(named(2), SMALL, read_image=lambda r: np.zeros((8, 8), np.uint8) if r.name[0] == "0"
                          else np.zeros((8, 8, 3), np.uint8))
    assert "uint8" in data[0].skipped[0]


def test_the_data_set_can_be_sent_to_another_process():
    data = pickle.loads(pickle.dumps(AnyWordDataset(RECORDS, SMALL)))
    assert same(data[1], AnyWordDataset(RECORDS, SMALL)[1])


def test_a_batch_is_flat():
    samples = [AnyWordDataset(RECORDS, SMALL)[i] for i in range(4)]
    empty = AnyWordDataset(named(1), SMALL, read_image=blank)[0]
    batch = collate([*samples[:2], empty, *samples[2:]])
    count = sum(len(s.texts) for s in samples)
    assert len(batch) == 5 and len(batch.lines) == count and 2 not in batch.lines.image_index
    assert batch.images.shape == (5, 3, 64, 96) and float(batch.images.abs().max()) <= 1
    assert batch.glyph_lines.shape == (count, 1, 80, 512) and batch.positions.shape == (count, 1, 64, 96)
    assert batch.glyphs.shape == batch.invalid_mask.shape == batch.font_hints.shape == (5, 1, 64, 96)
    assert batch.colors.shape == (count, 3) and batch.editing.dtype == torch.bool
    for name in ("glyphs", "positions", "glyph_lines", "font_hints", "invalid_mask"):
        assert set(getattr(batch, name).unique().tolist()) <= {0.0, 1.0}
    for i, caption in enumerate(batch.text_captions):
        assert caption.count("*") == int((batch.lines.image_index == i).sum())
    assert torch.equal(batch.images[0], torch.from_numpy(samples[0].image).permute(2, 0, 1).float() / 127.5 - 1)


def test_a_batch_without_any_line():
    batch = collate([AnyWordDataset(named(1), SMALL, read_image=blank)[0]])
    assert len(batch.lines) == 0 and batch.positions.shape == (0, 1, 64, 96)
    assert batch.to("cpu").glyph_lines.shape == (0, 1, 80, 512)


def test_errors_of_batches():
    with pytest.raises(ValueError, match="at least one"):
        collate([])
    data = [AnyWordDataset(named(1), SampleConfig(image_size=size), read_image=blank)[0] for size in (32, 64)]
    with pytest.raises(ValueError, match="one size"):
        collate(data)
