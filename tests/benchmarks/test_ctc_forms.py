"""CTC by torch's own function over all 6625 classes against the lattice of the classes that a text names.

Run by `make bench`, on a machine that does nothing else.  One thread of a busy two-core machine took 236 ms for
``ctc_loss`` and 57 ms for ``fast_ctc_loss``, forward and backward, and 2.39 and 2.21 s for both reading terms of which
it is a part: a fourfold lead alone, and 180 ms a step.  The values are equal, so training uses the lattice (argument
``fast`` of the term ``ctc``).
"""

from __future__ import annotations

import statistics
import time

import pytest
import torch

from anytext_lib.losses import ctc_loss, fast_ctc_loss
from tests.benchmarks.batch import benchmark_batch
from tests.benchmarks.library_way import LibraryWay

FORMS = {"ctc_loss": ctc_loss, "fast_ctc_loss": fast_ctc_loss}

pytestmark = pytest.mark.benchmark(group="ctc of 15 lines: 40 frames, 6625 classes")


def alone(loss_of):
    """Forward and backward of the loss of 15 lines of 4 to 18 letters."""
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(15, 40, 6625, generator=generator)).requires_grad_(True)
    targets = [torch.randint(1, 6625, (4 + i,), generator=generator).tolist() for i in range(15)]

    def run() -> torch.Tensor:
        return torch.autograd.grad(loss_of(logits, targets).sum(), logits)[0]
    return run


def within(loss_of):
    """Both reading terms of a batch, from the decoded image to its gradient; the true lines' features are cached."""
    way, batch = LibraryWay(cached=True, ctc=loss_of), benchmark_batch()
    return lambda: way(*batch)[2]


def seconds(runs: dict, rounds: int) -> dict[str, float]:
    """The median of several rounds of each, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


@pytest.mark.parametrize("setting, rounds", [(alone, 31), (within, 11)])
def test_what_the_lattice_saves(benchmark, setting, rounds, capsys):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    took = seconds({name: setting(loss_of) for name, loss_of in FORMS.items()}, rounds)
    torch.set_num_threads(before)
    benchmark.pedantic(lambda: None, rounds=1)
    with capsys.disabled():
        print(f"\n{setting.__name__}: " + ", ".join(f"{name} {1000 * s:.0f} ms" for name, s in took.items()))
    assert took["fast_ctc_loss"] < took["ctc_loss"]
