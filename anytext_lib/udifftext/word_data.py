"""Training data of UDiffText: that of AnyText2, and upstream's data sets as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anytext_lib.errors import OptionError
from anytext_lib.training.data import AnyTextData
from anytext_lib.udifftext.original_words import LAYOUTS, OriginalWords, read_words


class UDiffTextData(AnyTextData):
    """Batches of pictures with one word each: what ``AnyTextData`` takes, and LAYOUT:FOLDER, such as
    laion-ocr:data/LAION-OCR/train, of upstream's data sets (icdar13, textseg, synthtext, laion-ocr).
    """

    def annotations(self, source: str | Sequence[str]) -> list[str]:
        """The annotation files of a source; none for a data set of upstream's."""
        return [] if layout_of(source) else super().annotations(source)

    def dataset(self, source: str | Sequence[str], percent: float, scenes: dict[str, Any] | None, split: str):
        """A map-style data set of samples."""
        found = layout_of(source)
        if found is None:
            return super().dataset(source, percent, scenes, split)
        if percent != 1:
            raise OptionError("percent goes with annotation files, not with a data set of upstream's: leave it at 1")
        return OriginalWords(read_words(*found), self.sample_config(), self.hparams.seed)


def layout_of(source: str | Sequence[str]) -> tuple[str, str] | None:
    """Layout and folder of a source like laion-ocr:FOLDER; None for others."""
    if not isinstance(source, str):
        return None
    layout, colon, folder = source.partition(":")
    return (layout, folder) if colon and layout in LAYOUTS else None
