"""Checks of notebook 17: the floor of a step's time, and what lies in each of several GPUs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from anytext_lib.course.checks import as_number, expect, expect_value, passed, result_of

GIB = 2**30


def check_17_floor(function: Callable) -> None:
    """Exercise 1: `function(flops, traffic, peak, bandwidth)` is the least time of operations, one after the other."""
    probes = [(np.array(flops), np.array(traffic), peak, bandwidth)
              for flops, traffic in (([8.0, 1.0, 3.0], [1.0, 6.0, 3.0]), ([100.0, 2.0], [10.0, 40.0]))
              for peak, bandwidth in ((2.0, 1.0), (5.0, 4.0))]
    found = np.array([as_number(result_of("floor", function, done.copy(), moved.copy(), peak, bandwidth),
                                "what floor returns") for done, moved, peak, bandwidth in probes])
    times = [(done / peak, moved / bandwidth) for done, moved, peak, bandwidth in probes]
    right = np.array([np.maximum(*both).sum() for both in times])
    for hint, wrong in _WRONG_FLOORS.items():
        expect(np.allclose(found, right) or not np.allclose(found, [wrong(*both) for both in times]), hint)
    for (done, moved, peak, bandwidth), got, wanted in zip(probes, found, right, strict=True):
        expect(np.isclose(got, wanted), f"For {done.tolist()} FLOP at {peak:g} a second and {moved.tolist()} bytes at "
                                        f"{bandwidth:g} a second the floor is {wanted:g} s, yours is {got:g}.")
    passed("each operation waits for its arithmetic or for its bytes, whichever takes longer")


_WRONG_FLOORS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "The bytes are missing.": lambda compute, memory: compute.sum(),
    "The FLOPs are missing.": lambda compute, memory: memory.sum(),
    "Take the larger of the two for each operation, and add up afterwards: while one operation computes, the next one "
    "does not read.": lambda compute, memory: max(compute.sum(), memory.sum()),
    "An operation computes and reads at the same time: the larger of its two times counts, not their sum.":
        lambda compute, memory: compute.sum() + memory.sum(),
    "The smaller of the two times is no bound: an operation has to wait for the slower one.":
        lambda compute, memory: np.minimum(compute, memory).sum(),
    "Operations come one after the other: add their times up.":
        lambda compute, memory: np.maximum(compute, memory).max(),
}
"""What a typical wrong answer gives for the two times of each operation, by the hint for it."""


def check_17_shared(function: Callable) -> None:
    """Exercise 2: `function(whole, shared, trained, gpus)` is the GiB in each of several GPUs under FSDP, float32."""
    for whole, shared, trained, gpus in ((2 * GIB, 3 * GIB, 1 * GIB, 4), (GIB, 5 * GIB, 2 * GIB, 8)):
        got = as_number(result_of("shared_gib", function, whole, shared, trained, gpus), "what shared_gib returns")
        right = 4 * (whole + (shared + 3 * trained) / gpus) / GIB
        expect_value(got, right, {
            "The frozen networks are not shared out: they lie whole in every GPU.":
                4 * (whole + shared + 3 * trained) / gpus / GIB,
            "Nothing is shared out: this is what a process of DDP holds, less its buffers.":
                4 * (whole + shared + 3 * trained) / GIB,
            "Only the weights are shared out; gradients and moments are as well.":
                4 * (whole + shared / gpus + 3 * trained) / GIB,
            "AdamW has two moments for each trained weight.": 4 * (whole + (shared + 2 * trained) / gpus) / GIB,
            "Gradients and moments are missing.": 4 * (whole + shared / gpus) / GIB,
            "The frozen networks are missing.": 4 * (shared + 3 * trained) / gpus / GIB,
            "These are bytes: divide by 2**30.": right * GIB,
            "Four bytes a number.": right / 4,
        }, f"With {whole / GIB:g} Gi weights whole, {shared / GIB:g} Gi shared, {trained / GIB:g} Gi trained on "
           f"{gpus} GPUs it is {right:.3f} GiB, yours is {got:.3f}.", 1e-6)
    passed("what is shared out shrinks with the number of GPUs, what is whole does not")
