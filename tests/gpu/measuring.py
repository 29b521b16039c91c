"""Seconds and peak memory of a function, on a GPU or on the CPU."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import torch

from tests.benchmarks.peak_memory import highest_rss


def wait_for(device: str) -> None:
    """Wait until the device has done all that it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def measure(function: Callable[[], object], device: str, repeats: int, warm_up: int) -> dict[str, float]:
    """The median seconds of ``repeats`` calls, and the peak memory in MiB: of torch's tensors on a GPU, else resident.

    On the CPU the peak is that of the process so far.
    """
    for _ in range(warm_up):
        function()
    wait_for(device)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        wait_for(device)
        times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else highest_rss()
    return {"seconds": round(statistics.median(times), 4), "fastest": round(min(times), 4), "repeats": repeats,
            "peak_mib": round(peak / 2**20)}


def measure_or_none(function: Callable[[], dict], device: str) -> dict | None:
    """What ``function`` measured, or None where its memory did not suffice; what it held is free again then."""
    try:
        return function()
    except torch.OutOfMemoryError:
        pass
    gc.collect()  # the frames of the error are gone only here
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    return None
