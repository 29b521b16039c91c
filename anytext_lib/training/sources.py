"""Where samples come from: annotation files in the AnyWord form, indices of them, or scenes drawn on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.errors import MissingFileError, OptionError

SCENES = "scenes"


def build_dataset(source: str | Sequence[str], config, seed: int, percent: float = 1.0,
                  scenes: dict[str, Any] | None = None, split: str = "train"):
    """A map-style data set of Samples.

    Args:
        source: "scenes"; or what ``read_records`` takes, one or several.
        config: the SampleConfig. ``seed``: of everything random about a sample. ``percent``: share of the records.
        scenes: arguments of SceneDataset besides ``config`` and ``seed``. ``split``: of the scenes, where ``scenes``
            does not say.

    Raises:
        MissingFileError: there is no such file or folder. OptionError: no record is left.
        AnyWordError, StaleIndexError: a file is malformed, or an index out of date.
    """
    if source == SCENES:
        from anytext_lib.data.scene_dataset import SceneDataset

        return SceneDataset(config=config, seed=seed, **{"split": split, **(scenes or {})})
    from anytext_lib.data.dataset import AnyWordDataset

    paths = [source] if isinstance(source, str) else list(source)
    parts = [part for path in paths for part in read_records(path)]
    records = parts[0] if len(parts) == 1 else Chained(parts)
    if len(records) == 0:
        raise OptionError(f"no picture in {', '.join(map(str, paths))}: name the pictures in data_list")
    return AnyWordDataset(records, config, seed=seed, percent=percent)


def read_records(path: str | Path) -> list:
    """The annotated pictures of a subset, mapped into memory: one AnyWordIndex, or those of a folder.

    Args:
        path: an annotation file (.json), whose index is built where it is missing or out of date; an index (.arrow) of
            `anytext data index`; or a folder: all indices in it, else its annotations.json.

    Raises:
        MissingFileError: there is no such file or folder, nothing in it, or the pictures' folder is gone.
        AnyWordError, StaleIndexError: a file is malformed, or an index out of date.
    """
    from anytext_lib.data.index import AnyWordIndex

    records = []
    for file in _files(Path(path)):
        records.append(AnyWordIndex.load(file) if file.suffix == ".arrow" else AnyWordIndex.open(file))
        if not records[-1].root.is_dir():
            raise MissingFileError(f"{file}: there is no folder {records[-1].root} with the pictures: correct "
                                    "data_root in the JSON (absolute, or relative to it), or restore the folder")
    return records


def _files(path: Path) -> list[Path]:
    """The annotation files or indices that a path names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise MissingFileError(f"no data {path}: give an annotation file (.json), an index made by `anytext data "
                                f"index` (.arrow), a folder of indices, or {SCENES!r}")
    if found := sorted(path.glob("*.arrow")):  # those beside a JSON begin with a dot, and are found as well
        return found
    if (path / "annotations.json").is_file():
        return [path / "annotations.json"]
    raise MissingFileError(f"neither an index (.arrow) nor an annotations.json in the folder {path}: name the JSON "
                            "itself, or build its index with `anytext data index`")


class Chained(Sequence):
    """Several indices as one sequence; nothing is copied."""

    def __init__(self, parts: Sequence):
        self.parts = list(parts)
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1]) if self.parts else 0

    def __getitem__(self, index: int):
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        part = int(np.searchsorted(self.ends, index, side="right"))
        return self.parts[part][int(index) - int(self.ends[part]) + len(self.parts[part])]

    def wm_scores(self) -> np.ndarray:
        """(len,) float64: the watermark scores of all, NaN where there is none."""
        return np.concatenate([part.wm_scores() for part in self.parts])
