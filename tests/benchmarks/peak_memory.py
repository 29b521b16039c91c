"""Peak memory of one way to compute the reading terms, in a process of its own: prints MiB above the start.

Usage: python -m tests.benchmarks.peak_memory upstream|library|cached
"""

from __future__ import annotations

import resource
import sys
from functools import partial
from pathlib import Path

import psutil
import torch

from tests.benchmarks.batch import benchmark_batch
from tests.benchmarks.library_way import LibraryWay
from tests.benchmarks.upstream_way import UpstreamWay

WAYS = {"upstream": UpstreamWay, "library": LibraryWay, "cached": partial(LibraryWay, cached=True)}


def peak_mib(way: str) -> float:
    """Resident memory at its highest during one evaluation, less what the process held before, in MiB."""
    torch.set_num_threads(2)
    batch, compute = benchmark_batch(), WAYS[way]()
    if way == "cached":
        compute.read_reference(*batch[1:])
    before = psutil.Process().memory_info().rss
    compute(*batch)
    return (highest_rss() - before) / 2**20


def highest_rss() -> int:
    """Highest resident memory of this process in bytes.

    Linux: VmHWM, because there ru_maxrss still holds what the parent had when it started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


if __name__ == "__main__":
    print(f"{peak_mib(sys.argv[1]):.0f}")
