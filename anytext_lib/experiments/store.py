"""Results of experiments on disk: one JSON file a run while it goes on, Parquet tables with provenance at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from anytext_lib.course.paths import CourseError

PROVENANCE = b"anytext.provenance"


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in one step: it is there whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]) -> None:
    """Write rows as Parquet with the provenance in the file's metadata, in one step."""
    table = pa.Table.from_pylist([dict(row) for row in rows])
    table = table.replace_schema_metadata({PROVENANCE: json.dumps(provenance).encode()})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    pq.write_table(table, temporary, compression="zstd")
    os.replace(temporary, path)


def read_table(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and provenance of a table of ``write_table``.

    Raises:
        CourseError: no such file, or one of another origin.
    """
    if not path.is_file():
        raise CourseError(f"there is no table {path}: `anytext course experiment` writes it.")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise CourseError(f"{path} is not a complete Parquet file ({error}): run the experiment again.") from error
    stored = (table.schema.metadata or {}).get(PROVENANCE)
    if stored is None:
        raise CourseError(f"{path} says nothing about its provenance: it was not written by `anytext course "
                          "experiment`.")
    return table.to_pylist(), json.loads(stored)
