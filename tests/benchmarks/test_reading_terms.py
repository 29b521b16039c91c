"""OCR and CTC loss of a batch, forward and backward from the decoded image: the library against upstream's way.

Run by `make bench`, on a machine that does nothing else: at least 4 times faster (6 with the true image's features
cached) at a tenth of the peak memory and equal values.  On two cores of a Xeon with AVX-512 that do nothing else: 2.01
s for upstream's way, .36 for the library (5.6 times) and .24 cached (8.3 times).  CPU seconds of one thread, the other
core busy, several processes: 2.8 to 3.6, of which up to .8 are the system's for fresh pages, against .57 to .63 (4.7 to
6.3 times) and .40 to .45 (6.6 to 8.9); of the .57 seconds .29 are products of matrices at the processor's peak of 150
GFLOP/s.  Peak memory 3,789 to 3,943, 351 to 361 and 295 to 306 MiB.
The recogniser alone, on another day: .59 s (.44 where it is told the widths),
.67 for its folded network in channels_last with torch's own convolutions, .60 for that compiled.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest
import torch

from tests.benchmarks.batch import benchmark_batch
from tests.benchmarks.library_way import LibraryWay
from tests.benchmarks.peak_memory import WAYS
from tests.benchmarks.upstream_way import UpstreamWay

pytestmark = pytest.mark.benchmark(group="ocr + ctc, 3 images of 512 px, 5 lines each")


@pytest.fixture(scope="module")
def batch():
    return benchmark_batch()


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("way", list(WAYS))
def test_time(benchmark, batch, way):
    compute = WAYS[way]()
    ocr, ctc, grad = benchmark.pedantic(compute, args=batch, rounds=7, warmup_rounds=2)
    assert ocr > 0 and ctc > 0 and torch.isfinite(grad).all()


def test_values_are_equal(benchmark, batch):
    ocr, ctc, grad = UpstreamWay()(*batch)
    got_ocr, got_ctc, got_grad = benchmark.pedantic(LibraryWay(), args=batch, rounds=1)
    assert got_ocr == pytest.approx(ocr, rel=1e-4) and got_ctc == pytest.approx(ctc, rel=1e-4)
    assert float((got_grad - grad).norm() / grad.norm()) < 2e-3


def seconds(batch, rounds: int = 11) -> dict[str, float]:
    """The median of several rounds of each way, taken in turn, so that whatever else runs slows all of them."""
    computers = {way: make() for way, make in WAYS.items()}
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(rounds + 1):
        for way, compute in computers.items():
            start = time.perf_counter()
            compute(*batch)
            if turn:  # the first turn warms up
                times[way].append(time.perf_counter() - start)
    return {way: statistics.median(values) for way, values in times.items()}


def test_lead_in_speed_and_memory(benchmark, batch, capsys):
    took = seconds(batch)
    peak = {way: peak_of(way) for way in WAYS}
    benchmark.pedantic(lambda: None, rounds=1)
    with capsys.disabled():
        print("\n| way | s | times faster | peak MiB | share of the memory |\n|---|---|---|---|---|")
        for way in WAYS:
            print(f"| {way} | {took[way]:.3f} | {took['upstream'] / took[way]:.1f} | {peak[way]:.0f} | "
                  f"{peak[way] / peak['upstream']:.2f} |")
    assert took["upstream"] / took["library"] >= 4
    assert took["upstream"] / took["cached"] >= 6
    assert peak["library"] <= peak["upstream"] / 10


def peak_of(way: str) -> float:
    done = subprocess.run([sys.executable, "-m", "tests.benchmarks.peak_memory", way], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)
