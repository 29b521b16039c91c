"""Golden cases: numbers that the upstream implementations produced on fixed inputs.

They are read from the folder named by ANYTEXT_GOLDENS (default: tests/golden/data); every file of a kind's form is a
case, so other cases of the same form run unchanged.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(os.environ.get("ANYTEXT_GOLDENS") or Path(__file__).parent / "data")


def golden_files(kind: str, pattern: str) -> list:
    """Parameters for pytest: the files of one kind, or one skipped parameter that names what is missing."""
    files = sorted((FOLDER / kind).glob(pattern))
    if files:
        return [pytest.param(path, id=path.stem) for path in files]
    return [pytest.param(None, marks=pytest.mark.skip(reason=f"no {kind}/{pattern} in {FOLDER}"), id=f"no-{kind}")]


def load(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays of an .npz file, and its ``meta_json`` (empty if there is none)."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = arrays.pop("meta_json", None)
    return arrays, json.loads(bytes(meta).decode("utf-8")) if meta is not None else {}
