"""Files and folders: the sample data, files written whole or not at all, folders that one program at a time writes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from anytext_lib.errors import AnyTextError, MissingFileError

ENVIRONMENT = "ANYTEXT_DATA"  # variable that names the folder of the sample data
LOCK = ".anytext.lock"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_FOLDER = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR)


def print_report(message: str) -> None:
    """Tell the user what happens, on standard error."""
    print(f"anytext: {message}", file=sys.stderr, flush=True)


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class OutputError(AnyTextError, OSError):
    """Results cannot be written: the disk is full, the folder must not be written, or its path is none."""

    def __str__(self) -> str:
        return self.strerror or super().__str__()  # without "[Errno 28]"


class TargetExistsError(OutputError, FileExistsError):
    """A file that would be written is there already."""


class FolderBusyError(OutputError):
    """Another program writes into the same folder; the message names it."""


class UnwritableError(AnyTextError, OSError):
    """A file cannot be written: no permission, or no room; the message names it, the reason and the remedy."""


class UnreadableError(AnyTextError, OSError):
    """A file exists but cannot be read; the message names it, the reason and the remedy."""


def data_folder(folder: str | os.PathLike | None = None) -> Path:
    """The folder ``data_samples``: ``folder``, or the environment variable ANYTEXT_DATA, or the repository's own, or
    that of the wheel of samples (package anytext_samples).

    Raises:
        MissingFileError: there is no such folder.
    """
    if folder is not None:
        path, origin = Path(folder), "the folder given"
    elif os.environ.get(ENVIRONMENT):
        path, origin = Path(os.environ[ENVIRONMENT]), f"the environment variable {ENVIRONMENT}"
    else:
        path, origin = Path(__file__).resolve().parents[1] / "data_samples", "the place of the package"
        if not path.is_dir() and (installed := importlib.util.find_spec("anytext_samples")):
            path = Path(next(iter(installed.submodule_search_locations or [])))
    if not path.is_dir():
        raise MissingFileError(
            f"no sample data in {path} (from {origin}). Install anytext-loss-course-samples (`make wheels` in a "
            f"clone builds it), or set {ENVIRONMENT} to the folder data_samples of a clone"
        )
    return path


def find_sample(path: str | os.PathLike) -> Path:
    """Resolve a path below ``data_samples`` from any working directory, as configurations name them.

    A path that exists, or that does not begin with ``data_samples``, is returned as it is.
    """
    given = Path(path)
    if given.exists() or given.parts[:1] != ("data_samples",):
        return given
    return data_folder().joinpath(*given.parts[1:])


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside ``target``, renamed to it when the block ends well and removed when it does not.

    Raises:
        UnwritableError: the folder cannot be written, or the disk is full; ``target`` is as it was before.
    """
    final = Path(target)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.part")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, final)
    except OSError as error:
        if isinstance(error, AnyTextError) or error.errno is None or not _concerns(error, temporary, final):
            raise
        remedy = "free some room, or choose another disk" if error.errno in FULL else "choose another place"
        raise UnwritableError(f"cannot write {final}: {os.strerror(error.errno)}; {remedy}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write a JSON file whole or not at all; errors as of ``atomic_path``."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _concerns(error: OSError, temporary: Path, final: Path) -> bool:
    """Return whether an error concerns the file being written, not another one that the block reads."""
    return error.filename is None or Path(os.fsdecode(error.filename)) in (temporary, final, *final.parents)


@contextlib.contextmanager
def folder_lock(folder: str | os.PathLike, option: str = "another output folder") -> Iterator[Path]:
    """Hold ``folder`` (made if missing) alone while the block runs.

    An advisory lock (``flock``) on the file ``.anytext.lock`` in it, which says who holds it.  The operating system
    releases it when the process dies, however it dies; at the end of the block the file is removed.  Where there are no
    such locks (some network file systems) the block runs without one.

    Args:
        option: what to choose instead, for the message of an error.

    Raises:
        FolderBusyError: another process holds it. OutputError: the folder cannot be made or written.
    """
    root = Path(folder)
    with explained_output(root, option):
        root.mkdir(parents=True, exist_ok=True)
        file = _locked(root / LOCK, option)
    try:
        yield root
    finally:
        if file is not None:
            (root / LOCK).unlink(missing_ok=True)  # while it is still locked: nobody can have taken it
            os.close(file)


@contextlib.contextmanager
def explained_output(target: str | os.PathLike, option: str = "another output folder") -> Iterator[None]:
    """Turn the operating system's errors about writing ``target`` into an ``OutputError`` with a remedy.

    Full disks and refused or impossible places are explained; every other error passes through.

    Args:
        option: what to choose instead, for the message.
    """
    try:
        yield
    except AnyTextError:
        raise
    except OSError as error:
        told = _explanation(error, Path(target), option)
        if told is None:
            raise
        raise OutputError(error.errno, told) from error


def require_writable(folder: str | os.PathLike, option: str = "another output folder") -> None:
    """Make ``folder`` if it is missing, and see that files can be written there: before the work, not after it.

    Raises:
        OutputError: they cannot; the message says why and what to do.
    """
    import tempfile

    try:
        with explained_output(folder, option):
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0" * 4096)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(error.errno, f"{folder} cannot be written ({error.strerror}): choose {option}") from error


def _explanation(error: OSError, target: Path, option: str) -> str | None:
    place = error.filename if isinstance(error.filename, str) else str(target)
    if error.errno in FULL:
        return f"no room is left to write {place}: make room on that disk, or choose {option}; the files that were " \
               "finished before are whole"
    if error.errno in REFUSED:
        return f"{place} must not be written ({os.strerror(error.errno)}): choose {option}, or change its permissions"
    if error.errno in NO_FOLDER:
        return f"{place} is in the way: it is a file where a folder is needed, or the reverse; choose {option}"
    if error.errno == errno.ENAMETOOLONG:
        return f"the name {Path(place).name[:40]}... is too long for the file system: choose a shorter one"
    return None


def _locked(path: Path, option: str) -> int | None:
    """A descriptor of ``path`` that holds its lock; None where the system or file system has no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise FolderBusyError(errno.EWOULDBLOCK, f"{path.parent} is being written by {_holder(path)}: wait for "
                                  f"it, or choose {option}") from None
        except OSError:
            os.close(file)
            return None
        if _same_file(file, path):  # else the one before removed it between our two calls
            _sign(file)
            return file
        os.close(file)


def _same_file(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(file: int) -> None:
    program = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    said = json.dumps({"program": program[:200], "process": os.getpid(), "host": socket.gethostname(),
                       "since": time.strftime("%Y-%m-%d %H:%M:%S")})
    os.ftruncate(file, 0)
    os.pwrite(file, said.encode(), 0)


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"another program ({found['program']}; process {found['process']} on {found['host']}, since " \
               f"{found['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another program"
