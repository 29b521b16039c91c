"""Where the sample data lie."""

from __future__ import annotations

import os
from pathlib import Path

from anytext_lib.data.errors import DataNotFoundError

ENVIRONMENT = "ANYTEXT_DATA"


def data_folder(folder: str | os.PathLike | None = None) -> Path:
    """The folder ``data_samples``: ``folder``, or the environment variable ANYTEXT_DATA, or the repository's own.

    Raises:
        DataNotFoundError: there is no such folder.
    """
    if folder is not None:
        path, origin = Path(folder), "the folder given"
    elif os.environ.get(ENVIRONMENT):
        path, origin = Path(os.environ[ENVIRONMENT]), f"the environment variable {ENVIRONMENT}"
    else:
        path, origin = Path(__file__).resolve().parents[2] / "data_samples", "the place of the package"
    if not path.is_dir():
        raise DataNotFoundError(
            f"no sample data in {path} (from {origin}). Install the package from a clone with `pip install -e .`, "
            f"or set {ENVIRONMENT} to the folder data_samples of a clone"
        )
    return path


def find_sample(path: str | os.PathLike) -> Path:
    """``path``, or where there is no such file and it begins with ``data_samples``, the sample data's own, so that
    configurations may name them from any folder."""
    given = Path(path)
    if given.exists() or given.parts[:1] != ("data_samples",):
        return given
    return data_folder().joinpath(*given.parts[1:])
