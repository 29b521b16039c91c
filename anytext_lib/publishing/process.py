"""Child processes that execute notebooks: started with a clean environment, stopped with all their children.

A notebook that its budget stopped while the machine was busy is tried once more, after all others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from anytext_lib.course.explore import FRONT_END_VARIABLES
from anytext_lib.device import VARIABLE as DEVICE_VARIABLE
from anytext_lib.device import cpu_count
from anytext_lib.publishing.meter import Meter, Usage

POLL_SECONDS = 0.05


@dataclass
class Task:
    """One notebook to execute: what the worker reads, where it writes, and the CPU seconds it may use."""

    source: Path
    output: Path
    parameters: dict[str, Any]
    budget_seconds: float
    device: str
    threads: str
    process: subprocess.Popen | None = None
    meter: Meter | None = None
    tries: int = 0

    @property
    def result_path(self) -> Path:
        return self.output.with_suffix(".result.json")

    @property
    def log_path(self) -> Path:
        return self.output.with_suffix(".log")

    @property
    def job_path(self) -> Path:
        return self.output.with_suffix(".job.json")


@dataclass(frozen=True)
class Ending:
    """How a worker ended: its status ("ok", "failed" if a cell raised, "timeout" or "died"), cost and last words.

    `usage` is what it used by the last look at its processes, `excess` the limit that stopped it (None if none did).
    """

    status: str
    seconds: float
    peak_memory_mib: int | None
    last_words: str
    usage: Usage
    excess: str | None = None


def threads_for(jobs: int) -> str:
    """Threads for each of `jobs` workers: the user's OMP_NUM_THREADS if it is a number, else the cores shared out."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return wanted if wanted.isdigit() and int(wanted) else str(max(1, cpu_count() // jobs))


def environment(task: Task) -> dict[str, str]:
    """The environment of a worker and its kernel: no front end, inline figures, fixed hashes, device and threads."""
    dropped = {*FRONT_END_VARIABLES, "PYTHONWARNINGS", "PYTEST_CURRENT_TEST"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    package_root = str(Path(__file__).resolve().parents[2])
    path = [package_root, *filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))]
    return kept | {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        "OMP_NUM_THREADS": task.threads,
        DEVICE_VARIABLE: task.device,
    }


def run_all(tasks: Sequence[Task], jobs: int, on_start: Callable[[Task], None] = lambda task: None,
            on_retry: Callable[[Task, Ending], None] = lambda task, ending: None) -> Iterator[tuple[Task, Ending]]:
    """Run the tasks, `jobs` at a time, and yield each with its ending as it ends. Leaves no process behind."""
    waiting, running = list(tasks), []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task = waiting.pop(0)
                on_start(task)
                _start(task)
                running.append(task)
            ended = [(task, excess) for task in running if (excess := _excess(task)) or task.process.poll() is not None]
            for task, excess in ended:
                running.remove(task)
                ending = _ending(task, excess)
                if ending.status == "timeout" and ending.usage.busy and task.tries == 1:
                    on_retry(task, ending)
                    waiting.append(task)
                else:
                    yield task, ending
            if not ended:
                time.sleep(POLL_SECONDS)
    finally:
        for task in running:
            kill_tree(task.process)


def _start(task: Task) -> None:
    task.output.parent.mkdir(parents=True, exist_ok=True)
    for stale in (task.output, task.result_path):
        stale.unlink(missing_ok=True)
    job = {
        "source": str(task.source), "output": str(task.output), "result": str(task.result_path),
        "parameters": task.parameters, "folder": str(task.source.parent),
    }
    task.job_path.write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-m", "anytext_lib.publishing.worker", str(task.job_path)]
    with task.log_path.open("w", encoding="utf-8") as log:
        task.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(task), cwd=task.output.parent
        )
    task.meter, task.tries = Meter(task.process.pid, task.budget_seconds), task.tries + 1


def _excess(task: Task) -> str | None:
    """The limit that a running task has passed; None if none, or if it has ended by itself."""
    return task.meter.excess() if task.process.poll() is None else None


def _ending(task: Task, excess: str | None) -> Ending:
    usage = task.meter.usage()
    seconds = round(usage.seconds, 2)
    timed_out = excess is not None
    if timed_out:
        kill_tree(task.process)
    log = task.log_path.read_text(encoding="utf-8", errors="replace")
    try:
        result = json.loads(task.result_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        result = {"status": "died", "seconds": seconds, "peak_memory_mib": None}
    if timed_out:
        result["status"] = "timeout"
    for path in (task.job_path, task.result_path, task.log_path):
        path.unlink(missing_ok=True)
    last_words = "\n".join(log.strip().splitlines()[-12:])
    return Ending(result["status"], result["seconds"], result["peak_memory_mib"], last_words, usage, excess)


def kill_tree(process: subprocess.Popen) -> None:
    """Kill a process and all its descendants (a kernel runs in a session of its own, so groups do not reach it)."""
    try:
        parent = psutil.Process(process.pid)
        family = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)
    process.wait()
