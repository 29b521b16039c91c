"""One batch of rows of the Arrow file of an index: from annotated pictures to columns and back.

Columns: name, caption: string; wm_score: double, null if unknown; skipped: int32; lines: list of {text, language:
string; valid: bool; color: int32, 0xRRGGBB, -1 if unknown; polygon: list of 2 doubles (x, y)}.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anytext_lib.data.anyword import AnnotatedImage, Annotation
from anytext_lib.data.pictures import locate


def arrow_schema():
    """The schema of the file."""
    import pyarrow as pa

    point = pa.list_(pa.float64(), 2)
    line = pa.struct([("text", pa.string()), ("language", pa.string()), ("valid", pa.bool_()), ("color", pa.int32()),
                      ("polygon", pa.list_(point))])
    return pa.schema([("name", pa.string()), ("caption", pa.string()), ("wm_score", pa.float64()),
                      ("skipped", pa.int32()), ("lines", pa.list_(line))])


def to_record_batch(images: Sequence[AnnotatedImage]):
    """``images`` as one ``pyarrow.RecordBatch``."""
    import pyarrow as pa

    schema = arrow_schema()
    kinds = {field.name: field.type for field in schema.field("lines").type.value_type}
    lines = [line for image in images for line in image.annotations]
    corners = np.concatenate([line.polygon for line in lines]) if lines else np.zeros((0, 2))
    points = pa.FixedSizeListArray.from_arrays(pa.array(corners.reshape(-1)), type=kinds["polygon"].value_type)
    columns = {
        "text": pa.array([line.text for line in lines], pa.string()),
        "language": pa.array([line.language for line in lines], pa.string()),
        "valid": pa.array([line.valid for line in lines], pa.bool_()),
        "color": pa.array([_pack(line.color) for line in lines], pa.int32()),
        "polygon": pa.ListArray.from_arrays(_offsets([len(line.polygon) for line in lines]), points,
                                            type=kinds["polygon"]),
    }
    struct = pa.StructArray.from_arrays(list(columns.values()), fields=list(schema.field("lines").type.value_type))
    return pa.RecordBatch.from_arrays([
        pa.array([image.name for image in images], pa.string()),
        pa.array([image.caption for image in images], pa.string()),
        pa.array([image.wm_score for image in images], pa.float64()),
        pa.array([image.skipped for image in images], pa.int32()),
        pa.ListArray.from_arrays(_offsets([len(image.annotations) for image in images]), struct,
                                 type=schema.field("lines").type),
    ], schema=schema)


class IndexBatch:
    """A batch of rows as views on the mapped file; reading a row touches the pages of that row only."""

    def __init__(self, batch):
        lines = batch.column("lines")
        self.name, self.caption, self.wm_score, self.skipped = (batch.column(n) for n in
                                                                ("name", "caption", "wm_score", "skipped"))
        self.first_line = lines.offsets.to_numpy()
        fields = lines.values
        self.text, self.language, self.valid = (fields.field(n) for n in ("text", "language", "valid"))
        self.color = fields.field("color").to_numpy()
        polygons = fields.field("polygon")
        self.first_point = polygons.offsets.to_numpy()
        self.points = polygons.values.values.to_numpy().reshape(-1, 2)

    def image(self, row: int, root: Path) -> AnnotatedImage:
        """Row ``row`` as an object that owns all of its data."""
        a, b = self.first_line[row], self.first_line[row + 1]
        n = int(b - a)
        ends = self.first_point[a : b + 1]
        rows = zip(self.text.slice(a, n).to_pylist(), self.language.slice(a, n).to_pylist(),
                   self.valid.slice(a, n).to_pylist(), self.color[a:b], range(n), strict=True)
        lines = [Annotation(self.points[ends[j] : ends[j + 1]].copy(), text, language, valid, _unpack(int(color)))
                 for text, language, valid, color, j in rows]
        name = self.name[row].as_py()
        return AnnotatedImage(locate(root, name), name, self.caption[row].as_py(), lines, self.wm_score[row].as_py(),
                              self.skipped[row].as_py())


def _offsets(counts: Sequence[int]):
    import pyarrow as pa

    return pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))


def _pack(color: tuple[int, int, int] | None) -> int:
    return -1 if color is None else color[0] << 16 | color[1] << 8 | color[2]


def _unpack(value: int) -> tuple[int, int, int] | None:
    return None if value < 0 else (value >> 16, value >> 8 & 255, value & 255)
