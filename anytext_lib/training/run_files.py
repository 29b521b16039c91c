"""Files of a run: atomic checkpoints, the run's folder, and messages for a disk that refuses to be written."""

from __future__ import annotations

import errno
import os
import pickle
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from anytext_lib.errors import AnyTextError, MissingFileError, OptionError

CHECKPOINT = re.compile(r"step=(\d+)\.ckpt")


class RunStateError(AnyTextError, RuntimeError):
    """The state of a run could not be written or read; the message says where, why, and what to do."""


class RunFolderError(AnyTextError, FileExistsError):
    """The folder holds another run, which would be overwritten."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a hidden file beside the target, flushes it to the disk and renames it; reads with weights_only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path, storage_options=None) -> None:
        """Write ``checkpoint`` to ``path``; after a crash at any moment ``path`` is absent, old or complete.

        Raises:
            RunStateError: the disk is full or does not accept the file; nothing is left behind.
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
            raise RunStateError(write_message(path, error, size)) from error

    def load_checkpoint(self, path, map_location=None, weights_only: bool | None = None) -> dict[str, Any]:
        """See ``read_checkpoint``."""
        return read_checkpoint(path, map_location)


def read_checkpoint(path: str | Path, map_location=None, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint, never executing code from it.

    Args:
        mmap: leave the tensors in the file until they are used; several processes of a machine share that memory.

    Raises:
        MissingFileError: there is no such file. RunStateError: it is damaged, no state of a run, or holds a weight
        that is not finite.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"no checkpoint {path}: give an existing file, or --ckpt_path last")
    try:
        found = torch.load(path, map_location=map_location or "cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        said = "" if isinstance(error, pickle.UnpicklingError) else str(error).partition("\n")[0]
        reason = f": {said}" if said else ""
        raise RunStateError(f"{path} cannot be read as a checkpoint ({type(error).__name__}{reason}). It is cut off, "
                            "of another program, or holds more than tensors and plain values; take an older one of "
                            "the same folder") from error
    if not isinstance(found, dict) or not {"state_dict", "loops", "optimizer_states"} <= set(found):
        raise RunStateError(f"{path} is no state of a training run: to start from the weights of a model, give it as "
                            "--model and leave out --ckpt_path")
    for name, value in found["state_dict"].items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not value.isfinite().all():
            raise RunStateError(f"{path} holds NaN or infinite values in {name}: the run had diverged; take an older "
                                "one of the same folder and lower the learning rate")
    return found


def require_same_model(module: torch.nn.Module, checkpoint: dict[str, Any], training: bool) -> None:
    """RunStateError if the state of a run is not of ``module``: other tensors, or (in training) other ones trained."""
    own, stored = module.state_dict(), checkpoint["state_dict"]
    missing, unknown = sorted(set(own) - set(stored)), sorted(set(stored) - set(own))
    wrong = [name for name in own if name in stored and own[name].shape != stored[name].shape]
    remedy = "give --model and the options of the run that wrote it (its config.yaml has them)"
    if missing or unknown:
        raise RunStateError(f"the checkpoint is of another model: {len(missing)} tensors are missing {missing[:2]}, "
                            f"{len(unknown)} unknown {unknown[:2]}; {remedy}")
    if wrong:
        raise RunStateError(f"the checkpoint is of a model of another size: {wrong[0]} is "
                            f"{tuple(stored[wrong[0]].shape)}, expected {tuple(own[wrong[0]].shape)}; {remedy}")
    then = sum(len(group["params"]) for state in checkpoint["optimizer_states"] for group in state["param_groups"])
    now = sum(parameter.requires_grad for parameter in module.parameters())
    if training and then != now:
        raise RunStateError(f"the run that wrote the checkpoint trained {then} tensors, this one {now}: {remedy}, "
                            "those of freezing above all")


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


class RunFolder:
    """RUNS/NAME, with ``checkpoints``, ``model``, ``config.yaml`` and the logs of one run.

    Attributes:
        path: the folder. ``begun``: whether training has read its first batch; until then ``discard`` undoes ``make``.
    """

    def __init__(self, path: str | Path):
        self.path, self.begun = Path(path), False
        self._made: list[Path] = []

    @classmethod
    def named(cls, runs: str, name: str) -> RunFolder:
        """The folder of a run. OptionError: it does not lie inside ``runs``."""
        if os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] in (os.curdir, os.pardir):
            raise OptionError(f"the run {name!r} does not lie inside the folder {runs}: give a plain name by --name, "
                              "and the folder of the runs by --runs")
        return cls(Path(runs) / name)

    def make(self) -> None:
        """Make the folder and prove that it can be written; RunStateError if not."""
        self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            require_writable(self.path)
        except RunStateError:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove the folder and its parents if ``make`` made them and nothing has been trained."""
        if self.begun or self.path not in self._made:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        for parent in self._made[1:]:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()

    def require_free(self) -> None:
        """RunFolderError if a run has left checkpoints or a model here."""
        there = checkpoints_in(self.path / "checkpoints")
        if there or any((self.path / left).exists() for left in ("model", "lora.safetensors")):
            upto = f"checkpoints up to {there[-1].stem}" if there else "the model of a run"
            raise RunFolderError(f"{self.path} holds {upto} and would be overwritten: go on with --ckpt_path last, "
                                 "choose another --name, or remove the folder")

    def resumed_from(self, ckpt_path: str | None) -> str | None:
        """The checkpoint that ``--ckpt_path`` means.

        Args:
            ckpt_path: "last", the newest of the run, which must have one; "auto", the newest, or a new start where the
                run has none yet (for jobs that are restarted with the same command); a file; None, no checkpoint.

        Raises:
            MissingFileError: there is no such checkpoint. RunStateError: all files of the run are damaged.
        """
        if ckpt_path not in ("last", "auto"):
            if ckpt_path is not None and not Path(ckpt_path).is_file():
                raise MissingFileError(f"no checkpoint {ckpt_path}: give an existing file, or --ckpt_path last")
            return ckpt_path
        folder = self.path / "checkpoints"
        found = checkpoints_in(folder)
        if found:
            return str(found[-1])
        damaged = [path.name for path in folder.glob("*.ckpt") if CHECKPOINT.fullmatch(path.name)]
        if damaged:
            raise RunStateError(f"no checkpoint in {folder} is whole: {', '.join(sorted(damaged))} are cut off or of "
                                "another program. Remove the folder to start anew")
        if ckpt_path == "auto":
            return None
        raise MissingFileError(f"--ckpt_path last: there is no checkpoint in {folder}. Check --name and --runs, or "
                               "start without --ckpt_path; --ckpt_path auto does whichever is possible")


def require_writable(folder: str | Path) -> None:
    """Make ``folder`` and prove that a file can be written there.

    Raises:
        RunStateError: it cannot be made or written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0" * 4096)
    except OSError as error:
        raise RunStateError(write_message(folder, error, 0)) from error


def write_message(path: Path, error: Exception, written: int) -> str:
    """Why ``path`` could not be written, after ``written`` bytes, and what to do."""
    code = getattr(error, "errno", None)
    root = next((parent for parent in (path, *path.parents) if parent.is_dir()), Path("."))
    free = shutil.disk_usage(root).free
    full = code in (errno.ENOSPC, errno.EDQUOT) or (code is None and free < 2**20)
    if full:
        return (f"the disk is full: {path} could not be written ({written / 2**20:.0f} MiB were, "
                f"{free / 2**20:.0f} MiB are free in {root}). Older checkpoints are intact. Free some space, lower "
                "save_ckpt_top, or choose another disk with --runs; then go on with --ckpt_path last")
    reason = os.strerror(code) if code else str(error).partition("\n")[0]
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
