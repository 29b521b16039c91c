"""The most memory that torch holds during a piece of work, beyond what it held before: on the CPU and on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import torch

MIB = 2**20


def peak_mib(work: Callable[[], object], device: str = "cpu") -> float:
    """MiB of tensors at the worst moment of ``work()``; tensors that were there before are not counted.

    On a GPU this is the allocator's own peak.  On the CPU, which keeps none, the profiler's record of every allocation
    and release is added up: buffers inside the libraries of the kernels are missed.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    changes = sorted((event.start_ns(), event.nbytes()) for event in profile.profiler.kineto_results.events()
                     if event.name() == "[memory]")
    return max(accumulate((size for _, size in changes), initial=0)) / MIB
