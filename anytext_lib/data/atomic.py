"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from anytext_lib.data.errors import UnwritableError
from anytext_lib.errors import AnyTextError

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


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
        remedy = "free some room, or choose another disk" if error.errno in _FULL else "choose another place"
        raise UnwritableError(f"cannot write {final}: {os.strerror(error.errno)}; {remedy}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _concerns(error: OSError, temporary: Path, final: Path) -> bool:
    """Whether an error is about what is written, and not about another file that the block reads."""
    return error.filename is None or Path(os.fsdecode(error.filename)) in (temporary, final, *final.parents)
