"""Where samples come from: annotation files in the AnyWord form, indices of them, or scenes drawn on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SCENES = "scenes"


def build_dataset(source: str | Sequence[str], config, seed: int, percent: float = 1.0,
                  scenes: dict[str, Any] | None = None, split: str = "train"):
    """A map-style data set of Samples.

    Args:
        source: "scenes"; or annotation files (.json) and indices written by `anytext data index`, one or several.
        config: the SampleConfig. ``seed``: of everything random about a sample. ``percent``: share of the records.
        scenes: arguments of SceneDataset besides ``config`` and ``seed``. ``split``: of the scenes, where ``scenes``
            does not say.

    Raises:
        FileNotFoundError: there is no such file or folder. ValueError: no record is left.
    """
    if source == SCENES:
        from anytext_lib.data.scene_dataset import SceneDataset

        return SceneDataset(config=config, seed=seed, **{"split": split, **(scenes or {})})
    from anytext_lib.data.dataset import AnyWordDataset

    paths = [source] if isinstance(source, str) else list(source)
    parts = [read_records(path) for path in paths]
    records = parts[0] if len(parts) == 1 else Chained(parts)
    if len(records) == 0:
        raise ValueError(f"no picture in {', '.join(map(str, paths))}")
    return AnyWordDataset(records, config, seed=seed, percent=percent)


def read_records(path: str | Path):
    """A sequence of AnnotatedImage: read from JSON, or mapped into memory from an index."""
    path = Path(path)
    if path.suffix == ".json":
        from anytext_lib.data.anyword import read_anyword

        return read_anyword(path)
    if not path.exists():
        raise FileNotFoundError(f"no data {path}: give an annotation file (.json), an index made by "
                                f"`anytext data index`, or {SCENES!r}")
    from anytext_lib.data.index import AnyWordIndex

    return AnyWordIndex(path)


class Chained(Sequence):
    """Several sequences as one; nothing is copied."""

    def __init__(self, parts: Sequence[Sequence]):
        self.parts = list(parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int):
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError("index beyond the last record")
