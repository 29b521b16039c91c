"""An index of 3 million pictures: built, opened and read by 8 workers, with the memory that it all takes.

Run by ``make bench``, or with ``pytest tests/benchmarks/test_large_index.py -s``; ANYTEXT_INDEX_ENTRIES sets another
number of pictures, ANYTEXT_INDEX_JSON=1 builds from a JSON of all of them (2 GB on disk) instead of a tenth of them.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from anytext_lib.data.index import AnyWordIndex, write_index
from tests.benchmarks.large_index import generated_images, write_generated_json

ENTRIES = int(os.environ.get("ANYTEXT_INDEX_ENTRIES", 3_000_000))
WORKERS, READ, MIB = 8, 40_000, 2**20


class Lines(Dataset):
    """Number of lines of each entry of an index (None: of nothing)."""

    def __init__(self, index: AnyWordIndex | None):
        self.index = index

    def __len__(self):
        return ENTRIES

    def __getitem__(self, i):
        return -1 if self.index is None else len(self.index[i].annotations)


@pytest.fixture(scope="module")
def arrow(tmp_path_factory):
    """An index of ENTRIES pictures."""
    folder = tmp_path_factory.mktemp("index")
    start = time.perf_counter()
    write_index(generated_images(ENTRIES), folder / "large.arrow")
    size = (folder / "large.arrow").stat().st_size
    print(f"\n{ENTRIES} entries generated and written in {time.perf_counter() - start:.0f} s, {size / 1e6:.0f} MB")
    yield folder / "large.arrow"
    (folder / "large.arrow").unlink()


def peak_memory(dataset: Dataset, method: str) -> dict[str, float]:
    """Most USS, PSS and RSS, in MiB, of WORKERS loader processes together while they read READ entries."""
    order = np.random.default_rng(0).integers(0, ENTRIES, READ).tolist()
    loader = DataLoader(dataset, batch_size=100, sampler=order, num_workers=WORKERS, multiprocessing_context=method)
    peak = {"uss": 0.0, "pss": 0.0, "rss": 0.0}
    batches = iter(loader)
    processes = [psutil.Process(worker.pid) for worker in batches._workers]
    for i, _ in enumerate(batches):
        if i % 20 == 19 and i < READ // 100 - 3 * WORKERS:  # while all of them work
            found = [process.memory_full_info() for process in processes]
            peak = {kind: max(most, sum(getattr(f, kind) for f in found) / MIB) for kind, most in peak.items()}
    return peak


def test_building_from_json(tmp_path, benchmark):
    count = ENTRIES if os.environ.get("ANYTEXT_INDEX_JSON") else ENTRIES // 10
    path = tmp_path / "large.json"
    write_generated_json(path, count)
    told = []
    before = psutil.Process().memory_info().rss
    index = benchmark.pedantic(AnyWordIndex.open, (path,), {"report": told.append}, rounds=1)
    print(f"\nfrom a JSON of {path.stat().st_size / 1e6:.0f} MB: {told[-1]}; "
          f"memory grew by {(psutil.Process().memory_info().rss - before) / MIB:.0f} MiB")
    assert len(index) == count


def test_opening_takes_seconds(arrow, benchmark):
    index = benchmark.pedantic(lambda: AnyWordIndex(arrow, "."), rounds=3)
    index[len(index) // 2]
    assert len(index) == ENTRIES and benchmark.stats["max"] < 2


def test_reading_one_entry(arrow, benchmark):
    index = AnyWordIndex(arrow, ".")
    order = iter(np.random.default_rng(1).integers(0, ENTRIES, 10_000_000).tolist())
    benchmark(lambda: index[next(order)])


@pytest.mark.skipif(sys.platform != "linux", reason="USS and PSS are Linux's")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_eight_workers_share_the_index(arrow, benchmark, method):
    torch.set_num_threads(1)
    idle = peak_memory(Lines(None), method)
    index = AnyWordIndex(arrow, ".")
    index.sample(0.5)
    busy = benchmark.pedantic(peak_memory, (Lines(index), method), rounds=1)
    print(f"\n{WORKERS} workers by {method}, MiB in all: " + "; ".join(
        f"{kind} {busy[kind]:.0f} (of which the index {busy[kind] - idle[kind]:.0f})" for kind in busy))
    benchmark.extra_info.update({"reading": busy, "without the index": idle})
    assert busy["pss"] - idle["pss"] < 1024
    if method == "fork":
        assert busy["pss"] < 1024 and busy["uss"] < 1024
