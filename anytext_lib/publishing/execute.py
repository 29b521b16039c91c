"""The processes that execute notebooks: started with a clean environment, stopped with all their children.

`python -m anytext_lib.publishing.execute JOB.json` executes one notebook. Its budget counts the CPU seconds of its
processes, for a busy machine makes a notebook slow and not expensive; one that its budget stopped while the machine was
busy is tried once more, after all others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from anytext_lib.course.explore import FRONT_END_VARIABLES
from anytext_lib.device import VARIABLE as DEVICE_VARIABLE
from anytext_lib.device import cpu_count
from anytext_lib.publishing import notebooks

POLL_SECONDS, SAMPLE_SECONDS = 0.05, 0.5
WALL_FACTOR = 6
"""A notebook is stopped after this many times its budget by the clock, however little it has computed."""
IDLE_SHARE = 0.02
"""A notebook is blocked if it computed less than this share of a budget while a whole budget passed by the clock."""
BUSY_LOAD = 1.25
"""The machine is busy if its load average (1 minute) is more than this many times the number of cores."""
STARTS, NOT_STARTED = 3, "Kernel died before replying"  # attempts to start a kernel; jupyter_client's words
FAILED_CELL = 3  # exit status
SCHEME = "atomic://"


@dataclass(frozen=True)
class Usage:
    """CPU seconds that a notebook has used, seconds by the clock, and the load average of the last minute."""

    cpu_seconds: float
    seconds: float
    load: float

    @property
    def busy(self) -> bool:
        """Whether others wanted the processor, too."""
        return self.load > BUSY_LOAD * cpu_count()

    def __str__(self) -> str:
        state = "the machine was busy" if self.busy else "the machine was not busy"
        return (f"{self.cpu_seconds:.0f} CPU seconds in {self.seconds:.0f} s by the clock; {state}: "
                f"load average {self.load:.1f} on {cpu_count()} core{'s' * (cpu_count() != 1)}")


@dataclass
class Meter:
    """Watch the process `pid` and all its descendants against a budget in CPU seconds."""

    pid: int
    budget: float
    started: float = field(default_factory=time.perf_counter)
    _spent: dict[tuple[int, float], float] = field(default_factory=dict)
    _sampled: float = -1.0
    _mark: tuple[float, float] = (0.0, 0.0)

    @property
    def seconds(self) -> float:
        """Seconds by the clock since the start."""
        return time.perf_counter() - self.started

    def usage(self) -> Usage:
        """What has been used up to the last look."""
        return Usage(sum(self._spent.values()), self.seconds, psutil.getloadavg()[0])

    def excess(self) -> str | None:
        """The limit that has been passed, in words, or None; looks at the processes twice a second."""
        now = self.seconds
        if now - self._sampled < SAMPLE_SECONDS and self._sampled >= 0:
            return None
        self._sampled = now
        self._look()
        spent = sum(self._spent.values())
        if spent - self._mark[1] >= IDLE_SHARE * self.budget:
            self._mark = (now, spent)
        if spent > self.budget:
            return f"its budget of {self.budget:g} CPU seconds"
        if now - self._mark[0] > self.budget:
            return f"{self.budget:g} s in which it hardly computed (it waits for something)"
        if now > WALL_FACTOR * self.budget:
            return f"{WALL_FACTOR} times its budget of {self.budget:g} s by the clock"
        return None

    def _look(self) -> None:
        """Note the CPU seconds of every process of the family; an ended one keeps its last number."""
        for member in family(self.pid):
            try:
                times, key = member.cpu_times(), (member.pid, member.create_time())
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            self._spent[key] = times.user + times.system


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; none where it has ended."""
    try:
        parent = psutil.Process(pid)
        return [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return []


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


@dataclass
class Task:
    """One notebook to execute: source, destination, and budget of CPU seconds; with `allow_errors` to its last cell."""

    source: Path
    output: Path
    parameters: dict[str, Any]
    budget_seconds: float
    device: str
    threads: str
    allow_errors: bool = False
    process: subprocess.Popen = field(init=False)
    meter: Meter = field(init=False)
    tries: int = 0

    def _file(self, suffix: str) -> Path:
        return self.output.with_suffix(suffix)

    def start(self) -> None:
        """Start a worker."""
        self.output.parent.mkdir(parents=True, exist_ok=True)
        for stale in (self.output, self._file(".result.json")):
            stale.unlink(missing_ok=True)
        job = {"source": str(self.source), "output": str(self.output), "result": str(self._file(".result.json")),
               "parameters": self.parameters, "folder": str(self.source.parent), "allow_errors": self.allow_errors}
        self._file(".job.json").write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", "anytext_lib.publishing.execute", str(self._file(".job.json"))]
        with self._file(".log").open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment(self), cwd=self.output.parent)
        self.meter, self.tries = Meter(self.process.pid, self.budget_seconds), self.tries + 1

    def ending(self) -> Ending | None:
        """How the worker ended, or was stopped because it passed a limit; None while it runs."""
        excess = self.meter.excess() if self.process.poll() is None else None
        if excess is None and self.process.poll() is None:
            return None
        usage = self.meter.usage()
        if excess is not None:
            self.kill()
        log = self._file(".log").read_text(encoding="utf-8", errors="replace")
        try:
            result = json.loads(self._file(".result.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            result = {"status": "died", "seconds": round(usage.seconds, 2), "peak_memory_mib": None}
        for suffix in (".job.json", ".result.json", ".log"):
            self._file(suffix).unlink(missing_ok=True)
        return Ending(result["status"] if excess is None else "timeout", result["seconds"], result["peak_memory_mib"],
                      "\n".join(log.strip().splitlines()[-12:]), usage, excess)

    def kill(self) -> None:
        """Kill the worker and all its descendants (a kernel has a session of its own: groups do not reach it)."""
        members = family(self.process.pid)
        for member in members:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(members, timeout=10)
        self.process.wait()


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
                on_start(waiting[0])
                waiting[0].start()
                running.append(waiting.pop(0))
            ended = [(task, ending) for task in running if (ending := task.ending()) is not None]
            for task, ending in ended:
                running.remove(task)
                if ending.status == "timeout" and ending.usage.busy and task.tries == 1:
                    on_retry(task, ending)
                    waiting.append(task)
                else:
                    yield task, ending
            if not ended:
                time.sleep(POLL_SECONDS)
    finally:
        for task in running:
            task.kill()


# ---- in the worker


def work(job_path: str) -> int:
    """Execute the notebook of a job: source and output (paths), parameters (overrides), folder (where it runs), and
    allow_errors (whether to go on after a cell that raised).

    The result, written as JSON to the path `result`, holds the status (ok or failed), the seconds and the kernel's peak
    memory in MiB. Returns 0 when the notebook ran and 3 when a cell raised; it raises where the kernel died.
    """
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    started = time.perf_counter()
    status = _execute(job)
    result = {"status": "failed" if status else "ok", "seconds": round(time.perf_counter() - started, 2),
              "peak_memory_mib": _peak_memory_of_children()}
    notebooks.write_atomically(Path(job["result"]), json.dumps(result))
    return status


def _execute(job: dict) -> int:
    """Run papermill on the job's notebook; saved after every cell, so that a stopped run leaves what it reached."""
    import papermill
    from papermill.exceptions import PapermillExecutionError
    from papermill.iorw import papermill_io

    papermill_io.register(SCHEME, SimpleNamespace(  # so that stopping this process never leaves half a file
        write=lambda text, path: notebooks.write_atomically(Path(path.removeprefix(SCHEME)), text),
        pretty_path=lambda path: path))
    output = SCHEME + job["output"].replace("{", "{{").replace("}", "}}")
    for start in range(1, STARTS + 1):
        notebook = notebooks.without_injected(notebooks.read(Path(job["source"])))
        for cell in notebooks.code_cells(notebook):
            cell.outputs, cell.execution_count = [], None
        try:
            papermill.execute_notebook(notebook, output, parameters=job["parameters"], kernel_name="python3",
                                       kernel_manager_class=_this_interpreter(), progress_bar=False,
                                       cwd=job["folder"], start_timeout=120, allow_errors=job["allow_errors"])
            break
        except PapermillExecutionError:
            return FAILED_CELL
        except RuntimeError as error:  # no cell has run: two kernels that start at once can be given the same port
            if NOT_STARTED not in str(error) or start == STARTS:
                raise
    return 0


def _this_interpreter() -> type:
    """A kernel manager that starts the running Python, whatever kernels are installed for this user."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class ThisInterpreter(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=command, display_name="Python 3", language="python")

    return ThisInterpreter


def _peak_memory_of_children() -> int | None:
    """Peak resident memory in MiB of the largest child that has ended (the kernel); None where unknown (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(peak / 1024 / (1024 if sys.platform == "darwin" else 1))


if __name__ == "__main__":
    sys.exit(work(sys.argv[1]))
