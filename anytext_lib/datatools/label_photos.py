"""Draft the annotations of photographs: a detector finds the lines, an independent reader reads, a person corrects.

Every line keeps the ``score`` of the two, and what a person has to look at is marked: ``valid`` is false, so that
nobody trains on it unseen, and ``look`` says why.  To take such a line in, correct it and set ``valid`` to true.  Both
fields are extra: AnyWord's readers ignore them.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anytext_lib.data.anyword import AnnotatedImage, Annotation, entry_row, languages, write_rows
from anytext_lib.data.lines import quad_size
from anytext_lib.data.pictures import PictureError, clean_name, read_picture
from anytext_lib.data.texts import detect_language
from anytext_lib.datatools.check import polygon_faults, text_faults
from anytext_lib.datatools.contact_sheet import contact_sheet
from anytext_lib.datatools.convert_folder import AUTO, SUFFIXES, pictures_below
from anytext_lib.errors import MissingFileError, OptionError
from anytext_lib.files import print_report
from anytext_lib.ocr.detector import TextDetector
from anytext_lib.ocr.judge import Judge
from anytext_lib.ocr.spotting import SpottedLine, spot_lines

MIN_SCORE = 0.8
FILLED = 0.7  # share of its box's width that a text takes at least: a reader leaves out scripts that it does not know
LONG = 2.0  # width over height from which that is looked at
SIDE, COLUMNS = 640, 3  # of the contact sheet: pixels of a photograph, photographs side by side


@dataclass
class Draft:
    """Outcome of labelling.

    Attributes:
        output: the annotation file written. ``images``: the entries, as drawn on a contact sheet.
        remarks: for each entry, for each line, its score and why a person has to look at it.
        marked: number of lines that are marked. ``empty``: names of photographs in which nothing was found.
        unread: those that could not be decoded, each with the reason.
    """

    output: Path
    images: list[AnnotatedImage] = field(default_factory=list)
    remarks: list[list[str]] = field(default_factory=list)
    marked: int = 0
    empty: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @property
    def lines(self) -> int:
        return sum(len(image.annotations) for image in self.images)

    def sheet(self, path: str | os.PathLike, count: int = 60) -> int:
        """Draw the first photographs with polygons, texts and remarks; returns how many."""
        shown = self.images[:count]
        contact_sheet(shown, COLUMNS, path, self.remarks[:count], SIDE, max(1, *(len(i.annotations) for i in shown)))
        return len(shown)


def label_photos(photos: str | os.PathLike, output: str | os.PathLike | None = None, *, judge: str = "ppocrv4",
                 min_score: float = MIN_SCORE, language: str = AUTO, max_chars: int = 20, fonts: Sequence[str] = (),
                 threads: int = 1, force: bool = False, report: Callable[[str], None] = print_report) -> Draft:
    """Write a draft of the AnyWord annotations of photographs; `anytext data check` finds no fault in it.

    A line is marked for a person to look at where its score is below ``min_score``, nothing was read, the text is too
    short for its box, or training could not use it as it stands (too long, no font can write it, ...).

    Args:
        photos: a folder (searched with its subfolders), or one photograph.
        output: the JSON to write, by default annotations.json in the folder.
        judge: who reads, a name of ``JUDGES``. ``threads``: of detector and judge.
        language: of all lines, or "auto": by the script of the text.
        max_chars, fonts: as for ``check_data``. ``force``: replace an existing output.

    Raises:
        MissingFileError: no such folder or photograph, or a folder without any.
        OptionError: an unknown judge or language, a score out of range, or the output exists.
        WeightsError: the detector or the judge is not installed. UnwritableError: the output cannot be written.
    """
    root, paths = _photographs(Path(photos))
    target = root / "annotations.json" if output is None else Path(output)
    _check_request(target, min_score, language, fonts, force)
    reader, detector = Judge.from_name(judge, threads=threads), TextDetector.from_pretrained(threads)
    draft, rows = Draft(target), []
    for number, path in enumerate(paths, 1):
        name = clean_name(path.relative_to(root).as_posix())
        try:
            pixels = read_picture(path)
        except PictureError as error:
            draft.unread.append(f"{path}: {error}")
            continue
        lines = spot_lines(pixels, detector, reader)
        reasons = [_reasons(line, pixels.shape[:2], min_score, max_chars, fonts) for line in lines]
        rows.append(_add(draft, AnnotatedImage(path, name), lines, reasons, language))
        report(f"{number} of {len(paths)}: {name}, {len(lines)} lines, {sum(map(bool, reasons))} to look at")
    if not rows:
        raise PictureError("no photograph can be read: " + "; ".join(draft.unread[:3]))
    write_rows(target, rows, Path(os.path.relpath(root.resolve(), target.resolve().parent)).as_posix())
    return draft


def _add(draft: Draft, entry: AnnotatedImage, lines: Sequence[SpottedLine], reasons: Sequence[list[str]],
         language: str) -> dict[str, Any]:
    """Put an entry and its lines into the draft; returns its row of the file."""
    for line, why in zip(lines, reasons, strict=True):
        written = detect_language(line.text) if language == AUTO else language
        entry.annotations.append(Annotation(line.quad.numpy().astype(np.float64), line.text, written, not why))
    row = entry_row(entry)
    for annotation, line, why in zip(row["annotations"], lines, reasons, strict=True):
        annotation |= {"score": round(line.score, 3)} | ({"look": "; ".join(why)} if why else {})
    draft.images.append(entry)
    draft.remarks.append([f"{line.score:.2f}" + (f": {why[0]}" if why else "")
                          for line, why in zip(lines, reasons, strict=True)])
    draft.marked += sum(map(bool, reasons))
    if not lines:
        draft.empty.append(entry.name)
    return row


def _reasons(line: SpottedLine, size: tuple[int, int], min_score: float, max_chars: int,
             fonts: Sequence[str]) -> list[str]:
    """Why a person has to look at a line of a picture of ``size`` (H, W), in the order of importance."""
    if not line.text:
        return ["nothing was read"]
    found = [f"score below {min_score:g}"] if line.score < min_score else []
    if (share := text_share(line)) < FILLED:
        found.append(f"fills {share:.0%} of its box: incomplete?")
    found += [what for _, what in text_faults(line.text, max_chars, fonts)]
    return found + [what for _, what in polygon_faults(line.quad.tolist(), size[::-1])]


def text_share(line: SpottedLine) -> float:
    """Share of its box's width that a text takes; 1 for a box that is hardly wider than high.

    A full-width letter (Unicode Standard Annex #11) is as wide as its line is high, a capital 0.7 and any other 0.5 of
    that.
    """
    sides = quad_size(line.quad)
    aspect = max(sides) / max(1.0, min(sides))
    return sum(map(_letter_width, line.text)) / aspect if aspect >= LONG else 1.0


def _letter_width(letter: str) -> float:
    return 1.0 if unicodedata.east_asian_width(letter) in "WF" else 0.7 if letter.isupper() else 0.5


def _photographs(photos: Path) -> tuple[Path, list[Path]]:
    """The folder that names start from, and the photographs."""
    if photos.is_file():
        return photos.parent, [photos]
    if not photos.is_dir():
        raise MissingFileError(f"there is no folder and no photograph {photos}")
    found = pictures_below(photos)
    if not found:
        raise MissingFileError(f"there is no photograph ({', '.join(SUFFIXES)}) in {photos}")
    return photos, found


def _check_request(target: Path, min_score: float, language: str, fonts: Sequence[str], force: bool) -> None:
    if not 0 <= min_score <= 1:
        raise OptionError(f"the score from which a line counts as read lies in [0, 1], got {min_score}")
    if language != AUTO and language not in languages():
        raise OptionError(f"language is auto or one of {', '.join(languages())}, got {language!r}")
    if gone := [font for font in fonts if not Path(font).is_file()]:
        raise MissingFileError(f"there is no font {gone[0]}: give the path of a .ttf or .otf file")
    if target.exists() and not force:
        raise OptionError(f"{target} exists, and may hold corrections: give another output, or replace it with force "
                          "(--force)")
