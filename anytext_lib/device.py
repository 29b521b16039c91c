"""Where the tensors live: one choice for the library, the notebooks and the command line."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anytext_lib import __version__
from anytext_lib.errors import AnyTextError

if TYPE_CHECKING:
    import torch

VARIABLE = "ANYTEXT_DEVICE"
"""Environment variable that overrides the automatic choice."""
PACKAGES = (
    "torch", "numpy", "diffusers", "matplotlib", "opencv-python", "onnxruntime", "rapidocr-onnxruntime", "rapidocr",
)
"""What the numbers of a run depend on; see `versions`."""
KERNELS = {
    "sse41": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
              "OPENBLAS_CORETYPE": "Nehalem"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
             "OPENBLAS_CORETYPE": "Haswell"},
    "own": {},
}
"""Instruction sets, and the variables by which PyTorch's own kernels, oneDNN, MKL and OpenBLAS (NumPy) are held to one
below the processor's."""


class DeviceError(AnyTextError, RuntimeError):
    """The device that was asked for is unknown, or not available on this machine."""


def cpu_count() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def instruction_set() -> dict[str, str | None]:
    """What decides the last digits of a sum on this CPU: the kernels that PyTorch and oneDNN choose.

    "instructions" is PyTorch's choice (DEFAULT, AVX2, AVX512, ...; ATEN_CPU_CAPABILITY lowers it) and "onednn_limit"
    the limit set on oneDNN by ONEDNN_MAX_CPU_ISA (AVX2, SSE41, ...), None if there is none.
    """
    import torch

    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA")
    return {"instructions": torch.backends.cpu.get_cpu_capability(), "onednn_limit": limit or None}


def machine(device: str, threads: int) -> dict[str, Any]:
    """The machine, the threads and the kernels used on it, without a path or a name that tells whose it is.

    Keys: device, cpu, threads, system, instructions and onednn_limit (see `instruction_set`); gpu on CUDA.
    """
    found = {"device": device, "cpu": cpu_model(), "threads": threads, "system": platform.system(), **instruction_set()}
    if device.startswith("cuda"):
        import torch

        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the installed versions of the course and of ``packages``; one that is not installed is left out."""
    found = {"anytext": __version__}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def pick_device(name: str | None = None) -> torch.device:
    """The device to compute on: `name`, else the variable ANYTEXT_DEVICE, else "cuda" if there is one, else "cpu".

    Raises DeviceError when the device asked for is unknown or not available on this machine.
    """
    import torch

    source = "the argument of pick_device" if name else f"the environment variable {VARIABLE}"
    wanted = name or os.environ.get(VARIABLE) or "auto"
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise DeviceError(f"Unknown device {wanted!r} (from {source}). Use cpu, cuda, cuda:0, mps or auto.") from error
    reason = _why_unavailable(device)
    if reason:
        raise DeviceError(f"Device {wanted!r} (from {source}) is not available: {reason} Use cpu, or auto to choose.")
    return device


def _why_unavailable(device: torch.device) -> str | None:
    """A sentence that says why `device` cannot be used here, or None when it can."""
    import torch

    if device.type == "cpu":
        return None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            return f"this PyTorch ({torch.__version__}) sees no CUDA GPU."
        count = torch.cuda.device_count()
        return f"there are {count} GPUs, numbered from 0." if (device.index or 0) >= count else None
    if device.type == "mps":
        return None if torch.backends.mps.is_available() else f"this PyTorch ({torch.__version__}) has no MPS device."
    return "the course runs on cpu, cuda and mps."
