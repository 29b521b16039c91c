"""Checkpoint files that are whole or not there, and messages for a disk that does not take them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

CHECKPOINT = re.compile(r"step=(\d+)\.ckpt")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message says where, why, and what to do."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a hidden file beside the target, flushes it to the disk and renames it; reads with weights_only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path, storage_options=None) -> None:
        """Write ``checkpoint`` to ``path``; after a crash at any moment ``path`` is absent, old or complete.

        Raises:
            CheckpointError: the disk is full or does not accept the file; nothing is left behind.
        """
        path = Path(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
            _sync_folder(path.parent)
        except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
            size = partial.stat().st_size if partial.exists() else 0
            partial.unlink(missing_ok=True)
            raise CheckpointError(_write_message(path, error, size)) from error

    def load_checkpoint(self, path, map_location=None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint, never executing code from it.

        Raises:
            FileNotFoundError: there is no such file. CheckpointError: it is damaged or not a checkpoint.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no checkpoint {path}: give an existing file, or --ckpt_path last")
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError(f"{path} cannot be read as a checkpoint ({type(error).__name__}: "
                                  f"{str(error).splitlines()[0]}). It is cut off, of another program, or holds more "
                                  "than tensors and plain values; take an older one of the same folder") from error


def checkpoints_in(folder: str | Path) -> list[Path]:
    """Complete checkpoints step=N.ckpt of a folder, oldest step first; partial and damaged files are left out."""
    found = [(int(match[1]), path) for path in Path(folder).glob("*.ckpt")
             if (match := CHECKPOINT.fullmatch(path.name)) and zipfile.is_zipfile(path)]
    return [path for _, path in sorted(found)]


def remove_partial(folder: str | Path) -> list[Path]:
    """Delete what saves that were killed left behind in ``folder``; returns the deleted files."""
    leftovers = [path for path in Path(folder).glob(".*.partial") if not _alive(int(path.name.split(".")[-2]))]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def require_writable(folder: str | Path) -> None:
    """Make ``folder`` and prove that a file can be written there.

    Raises:
        CheckpointError: it cannot be made or written.
    """
    folder = Path(folder)
    probe = folder / f".probe.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        probe_exists = folder.is_dir() and probe.exists()
        if probe_exists:
            probe.unlink(missing_ok=True)
        raise CheckpointError(_write_message(folder, error, 0)) from error


def _write_message(path: Path, error: Exception, written: int) -> str:
    code = getattr(error, "errno", None)
    root = next((parent for parent in (path, *path.parents) if parent.is_dir()), Path("."))
    free = shutil.disk_usage(root).free
    full = code in (errno.ENOSPC, errno.EDQUOT) or (code is None and free < 2**20)
    if full:
        return (f"the disk is full: {path} could not be written ({written / 2**20:.0f} MiB were, "
                f"{free / 2**20:.0f} MiB are free in {root}). Older checkpoints are intact. Free some space, lower "
                "save_ckpt_top, or choose another disk with --runs; then go on with --ckpt_path last")
    reason = os.strerror(code) if code else str(error).splitlines()[0]
    return (f"{path} cannot be written: {reason}. Choose a folder that you may write with --runs (it holds one folder "
            "a run), or change the rights of this one")


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
