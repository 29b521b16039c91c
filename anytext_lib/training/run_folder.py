"""The folder of a run: what it may be started on, and that nothing stays of a run that could not start."""

from __future__ import annotations

import shutil
from pathlib import Path

from anytext_lib.errors import AnyTextError, MissingFileError
from anytext_lib.training.storage import CHECKPOINT, RunStateError, checkpoints_in, require_writable


class RunFolderError(AnyTextError, FileExistsError):
    """The folder holds another run, which would be overwritten."""


class RunFolder:
    """RUNS/NAME, with ``checkpoints``, ``model``, ``config.yaml`` and the logs of one run.

    Attributes:
        path: the folder. ``begun``: whether training has read its first batch; until then ``discard`` undoes ``make``.
    """

    def __init__(self, path: str | Path):
        self.path, self.begun = Path(path), False
        self._made: list[Path] = []

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
        if there or (self.path / "model").exists():
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
