"""`anytext doctor`: what this machine has of what the course needs, and the remedy for what it lacks."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, Namespace

from anytext_lib import __version__
from anytext_lib.device import cpu_count, cpu_model, instruction_set

PACKAGES = (
    "torch", "numpy", "diffusers", "onnx", "onnxruntime", "rapidocr-onnxruntime", "rapidocr", "opencv-python",
    "matplotlib", "jupyterlab", "ipywidgets", "papermill",
)
WEIGHTS = {
    "recogniser PP-OCRv3": ("rapidocr_onnxruntime", "models/ch_PP-OCRv3_rec_infer.onnx"),
    "detector PP-OCRv3": ("rapidocr_onnxruntime", "models/ch_PP-OCRv3_det_infer.onnx"),
    "judge PP-OCRv4": ("rapidocr", "models/ch_PP-OCRv4_rec_mobile.onnx"),
}
SETUP = "run `make course`, or `pip install -r requirements.lock -e .` in the repository"
PYTHONS = ((3, 11), (3, 14))
MIN_MEMORY_GIB, MIN_DISK_GIB = 4.0, 1.0


class Finding(NamedTuple):
    """One line of the report; `remedy` says what to do when something needed is missing, else it is None."""

    topic: str
    text: str
    remedy: str | None = None


def doctor_parser() -> ArgumentParser:
    """The parser of `anytext doctor`."""
    parser = ArgumentParser(prog="anytext doctor", description="What this machine has of what the course needs.")
    parser.add_argument("--json", action="store_true", help="print one JSON object: ok, machine, findings (each with "
                        "topic, ok, text, remedy); the exit status stays 0 if ok, else 1")
    parser.add_argument("--training-memory", action="store_true", help="only a table: the GPU memory that training at "
                        "the official size takes, computed (a minute)")
    return parser


def run_doctor(options: Namespace) -> int:
    """Carry out `anytext doctor`; returns the exit status."""
    return training_memory_table() if options.training_memory else doctor(as_json=options.json)


def training_memory_table(say: Callable[[str], None] = print) -> int:
    """Print what training takes, row by row in Markdown; returns 0."""
    from anytext_lib.training.memory import CARDS, PLANS, memory_row

    say("| GiB, computed | weights | gradients | optimizer | activations | sum | fits, GB |")
    say("|---|---|---|---|---|---|---|")
    for name, setting in PLANS.items():
        say(f"| {name} | {' | '.join(memory_row(setting))} |")
    say(f"\nCards of {', '.join(map(str, CARDS))} GB; see anytext_lib/training/memory.py for what is counted.")
    return 0


def doctor(say: Callable[[str], None] = print, as_json: bool = False) -> int:
    """Print the report through `say`, for people or as JSON; return 0, or 1 when something needed is missing.

    The JSON object holds "ok" (whether all that is needed is here), "machine" (`provenance.machine`: device, cpu,
    threads, system, instructions, onednn_limit, on CUDA gpu; null where PyTorch or the device is missing) and
    "findings", a list of objects with "topic", "ok", "text" and "remedy" (null where nothing is to do).
    """
    findings = [finding for examine in EXAMINATIONS for finding in examine()]
    missing = [finding for finding in findings if finding.remedy]
    if as_json:
        listed = [{"topic": topic, "ok": remedy is None, "text": text, "remedy": remedy}
                  for topic, text, remedy in findings]
        say(json.dumps({"ok": not missing, "machine": machine(), "findings": listed}, ensure_ascii=False, indent=1))
        return 1 if missing else 0
    width = max(len(finding.topic) for finding in findings)
    for topic, text, remedy in findings:
        say(f"{'✗' if remedy else '✓'} {topic:<{width}}  {text}")
    for finding in missing:
        say(f"\n✗ {finding.topic}: {finding.text}\n  What to do: {finding.remedy}.")
    say("" if missing else "\nEverything that the course needs is here.")
    return 1 if missing else 0


def machine() -> dict[str, Any] | None:
    """The machine as provenance records it, or None where PyTorch or the device asked for is missing."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    from anytext_lib import device

    try:
        return device.machine(str(device.pick_device()), torch.get_num_threads())
    except RuntimeError:
        return None


def python() -> Iterator[Finding]:
    """The interpreter and the packages."""
    version = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    good = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    yield Finding("anytext", __version__)
    yield Finding("Python", version, None if good else "use Python 3.11 to 3.14")
    for package in PACKAGES:
        try:
            yield Finding(package, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding(package, "not installed", SETUP)


def device() -> Iterator[Finding]:
    """What the course computes on."""
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    from anytext_lib.device import pick_device

    try:
        chosen = pick_device()
    except RuntimeError as error:
        yield Finding("device", str(error), "unset ANYTEXT_DEVICE, or set it to a device that there is")
        return
    text = str(chosen)
    if chosen.type == "cuda":
        free, total = torch.cuda.mem_get_info(chosen)
        text += f" ({torch.cuda.get_device_name(chosen)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free)"
    yield Finding("device", text)


def processor() -> Iterator[Finding]:
    """What the last digits of a number depend on: the CPU, the instruction set in use, and the threads."""
    yield Finding("CPU", cpu_model())
    yield Finding("CPU cores", str(cpu_count()))
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    kernels = instruction_set()
    limit = kernels["onednn_limit"] or "none"
    yield Finding("instructions", f"{kernels['instructions']} (PyTorch), oneDNN limit: {limit}")
    wish = os.environ.get("OMP_NUM_THREADS")
    yield Finding("threads", f"{torch.get_num_threads()}" + (f" (OMP_NUM_THREADS={wish})" if wish else ""))


def memory_and_disk() -> Iterator[Finding]:
    """Room to work in."""
    if importlib.util.find_spec("psutil") is not None:
        import psutil

        memory = psutil.virtual_memory()
        free, total = memory.available / 2**30, memory.total / 2**30
        tight = f"close other programs; the notebooks want about {MIN_MEMORY_GIB:.0f} GiB"
        yield Finding("memory", f"{free:.1f} of {total:.1f} GiB free", tight if free < MIN_MEMORY_GIB else None)
    free = shutil.disk_usage(Path(__file__).parent).free / 2**30
    yield Finding("disk", f"{free:.1f} GiB free", "make room on this disk" if free < MIN_DISK_GIB else None)


def weights() -> Iterator[Finding]:
    """The networks that read, inside installed packages: found, and which ones."""
    for what, (package, file) in WEIGHTS.items():
        spec = importlib.util.find_spec(package)
        path = Path(spec.submodule_search_locations[0]) / file if spec and spec.submodule_search_locations else None
        if path is None or not path.is_file():
            yield Finding(what, f"{file} is not in the package {package}", SETUP)
        else:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            yield Finding(what, f"{path.name}, {path.stat().st_size / 2**20:.1f} MiB, sha256 {digest[:12]}")


def samples() -> Iterator[Finding]:
    """The fonts and the sample scenes, and whether they are the ones that the course was made with."""
    from anytext_lib.data.fonts import load_fonts
    from anytext_lib.errors import MissingFileError
    from anytext_lib.scenes.sample_set import verify_manifest

    restore = "restore the folder data_samples (`git checkout -- data_samples`)"
    try:
        names = list(load_fonts())
        yield Finding("fonts", f"{len(names)}: {', '.join(names)}")
        problems = verify_manifest()
    except MissingFileError as error:
        yield Finding("sample data", str(error), restore)
        return
    yield Finding("sample data", "; ".join(map(str, problems)) or "as in the manifest", restore if problems else None)


def tesseract() -> Iterator[Finding]:
    """The second judge, which is not needed."""
    found = shutil.which("tesseract")
    yield Finding("tesseract", "found" if found else "not installed (optional: a second judge of text)")


EXAMINATIONS = (python, device, processor, memory_and_disk, weights, samples, tesseract)
