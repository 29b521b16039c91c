"""`make gpu`: what this course and its library need on one GPU, in ten minutes: an H200, an A100 or the like.

  make gpu                        steps and sampling at the official size, the objective, all notebooks (profile gpu)
  make gpu GPU_ARGS=--dry-run     the same at tiny sizes on the CPU, on a copy of the course that is removed again
  make gpu GPU_ARGS='steps'       one part; or some of steps, sampling, reading, notebooks

Each part has a time budget and is stopped by it; every result is written at once, so a second run goes on where the
first one stopped.  Results: notebooks/baselines/DEVICE.json (seconds and peak memory), costs.yaml and gpu.cuda.yaml
beside it, the lines of cost of the pages and the README's column; executed notebooks in build/gpu.  Exit status: 0 all
was measured; 1 a part was stopped or failed; 2 there is no GPU, or the request was wrong.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import psutil
import torch

from anytext_lib.course.paths import notebooks_folder, project_root
from anytext_lib.publishing.execute import family
from tests.gpu import pages
from tests.gpu.records import Records, file_name, heading
from tests.gpu.sizes import OFFICIAL, REHEARSAL, Size

MEASURED = ("steps", "sampling", "reading")
PARTS = (*MEASURED, pages.PART)
PATIENCE = 20.0  # seconds that a part has to end by itself when its budget is spent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; see the module."""
    options = parse(arguments)
    size = REHEARSAL if options.dry_run else OFFICIAL
    if size is OFFICIAL and not torch.cuda.is_available():
        print(f"make gpu: PyTorch {torch.__version__} sees no CUDA GPU on this machine; `make gpu GPU_ARGS=--dry-run` "
              "rehearses the run on the CPU.", file=sys.stderr)
        return 2
    if options.measure:
        return measure(options.measure, size, options.records)
    if not options.dry_run:
        return parts(options.parts, size, notebooks_folder(), project_root() / "build" / "gpu")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # nothing here is worth two, and threads wait for each other
    if options.folder:
        folder = options.folder / "notebooks"
        if not folder.exists():
            pages.copy_of_course(notebooks_folder(), options.folder)
        return parts(options.parts, size, folder, options.folder / "build" / "gpu")
    with tempfile.TemporaryDirectory(prefix="anytext-gpu-") as place:
        folder = pages.copy_of_course(notebooks_folder(), Path(place))
        return parts(options.parts, size, folder, Path(place) / "build" / "gpu")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--dry-run", action="store_true", help="rehearse on the CPU, leave no trace")
    parser.add_argument("--folder", type=Path, help="with --dry-run: rehearse here, and leave what was written")
    parser.add_argument("--measure", choices=MEASURED, help=argparse.SUPPRESS)  # in the process of that part
    parser.add_argument("--records", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    if options.folder and not options.dry_run:
        parser.error("--folder is for --dry-run: a real run writes into the course itself")
    return options


def measure(part: str, size: Size, path: Path) -> int:
    """Measure one part, in this process."""
    module = import_module(f"tests.gpu.{part}")
    module.run(Records(path, heading(size.device)), size, lambda text: print(text, flush=True))
    return 0


def parts(chosen: Sequence[str], size: Size, folder: Path, out: Path) -> int:
    """Run the parts one after the other, each in a process of its own; then publish what the notebooks left."""
    path, states = folder / "baselines" / file_name(size.device), {}
    head = heading(size.device)
    Records(path, head).save()
    for part in [part for part in PARTS if part in chosen or not chosen]:
        if Records(path, head).part(part)["state"] == "done":
            print(f"{part}: done before\n", flush=True)
            continue
        print(f"{part}: at most {size.seconds[part]:.0f} s", flush=True)
        command = pages.command(size, folder, out) if part == pages.PART else [
            sys.executable, "-m", "tests.gpu", "--measure", part, "--records", str(path),
            *["--dry-run"] * (size is REHEARSAL)]
        started = time.monotonic()
        state = "done" if command is None else within(command, size.seconds[part])
        records = Records(path, head)  # as the part's process left them
        if part == pages.PART and (missing := pages.publish(records, size, folder, out)):
            print(f"  without a good run: {' '.join(missing)}")
            state = "failed" if state == "done" else state
        records.close(part, state, time.monotonic() - started)
        states[part] = state
        print(f"{part}: {state}, {time.monotonic() - started:.0f} s\n", flush=True)
    bad = [f"{part} {state}" for part, state in states.items() if state != "done"]
    place = "" if size is REHEARSAL else f"; the results are in {path}"
    print(f"gpu: {', '.join(bad) + ' (run it again: it goes on)' if bad else 'all was measured'}{place}")
    return 1 if bad else 0


def within(command: Sequence[str], seconds: float) -> str:
    """Run a command for at most ``seconds``: "done", "failed", or "stopped", first by Ctrl-C and then by force."""
    path = os.pathsep.join(filter(None, [str(project_root()), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(command, cwd=project_root(), env=os.environ | {"PYTHONPATH": path},
                               stdin=subprocess.DEVNULL)
    members: list[psutil.Process] = []
    try:
        return "failed" if process.wait(seconds) else "done"
    except subprocess.TimeoutExpired:
        members = family(process.pid)  # now: an orphan is nobody's child
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        return "stopped"
    finally:
        for member in {*members, *family(process.pid)}:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
