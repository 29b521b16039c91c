"""The process that executes one notebook: `python -m anytext_lib.publishing.worker JOB.json`, started by the runner.

The job holds: source and output (paths), parameters (overrides), folder (working directory). The result, written
beside the output as JSON, holds the status (ok or failed), the seconds and the kernel's peak memory in MiB.
Exit status: 0 when the notebook ran, 3 when a cell raised; any other when the process or its kernel died.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from anytext_lib.publishing import notebooks

FAILED_CELL = 3
SCHEME = "atomic://"
STARTS, NOT_STARTED = 3, "Kernel died before replying"  # attempts to start a kernel; jupyter_client's words


def main(job_path: str) -> int:
    """Execute the job; see the module."""
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    started = time.perf_counter()
    status = execute(job)
    result = {
        "status": "failed" if status else "ok",
        "seconds": round(time.perf_counter() - started, 2),
        "peak_memory_mib": peak_memory_of_children(),
    }
    notebooks.write_atomically(Path(job["result"]), json.dumps(result))
    return status


def execute(job: dict) -> int:
    """Run papermill on the job's notebook; saved after every cell, so that a stopped run leaves what it reached."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    _register_writer()
    for start in range(1, STARTS + 1):
        notebook = notebooks.without_injected(notebooks.read(Path(job["source"])))
        for cell in notebooks.code_cells(notebook):
            cell.outputs, cell.execution_count = [], None
        try:
            papermill.execute_notebook(
                notebook,
                SCHEME + job["output"].replace("{", "{{").replace("}", "}}"),
                parameters=job["parameters"],
                kernel_name="python3",
                kernel_manager_class=_this_interpreter(),
                progress_bar=False,
                cwd=job["folder"],
                start_timeout=120,
            )
            break
        except PapermillExecutionError:
            return FAILED_CELL
        except RuntimeError as error:  # no cell has run: two kernels that start at once can be given the same port
            if NOT_STARTED not in str(error) or start == STARTS:
                raise
    return 0


def _register_writer() -> None:
    """Teach papermill to write atomically, so that stopping this process never leaves half a file."""
    from papermill.iorw import papermill_io

    class Atomic:
        """Write to `atomic://path`."""

        @staticmethod
        def write(text: str, path: str) -> None:
            notebooks.write_atomically(Path(path.removeprefix(SCHEME)), text)

        @staticmethod
        def pretty_path(path: str) -> str:
            return path

    papermill_io.register(SCHEME, Atomic)


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


def peak_memory_of_children() -> int | None:
    """Peak resident memory in MiB of the largest child that has ended (the kernel); None where unknown (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return round(peak / 1024 / (1024 if sys.platform == "darwin" else 1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
