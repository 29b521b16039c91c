r"""The data sets that UDiffText trains and tests on, read in the layouts that upstream gives them.

=============  =====================================================================================================
``icdar13``    ``images/NAME.jpg``, ``annos/gt_NAME.txt`` with rows ``left, top, right, bottom, "text"``
``textseg``    ``image/NAME.jpg``, ``annotation/NAME_anno.json``, and ``annotation/NAME_mask.png``, in which each
               character has its ``mask_value``
``synthtext``  ``gt.mat`` with ``imnames``, ``wordBB``, ``charBB`` and ``txt``, and the pictures below its folder
``laion-ocr``  a folder for each picture: ``image.jpg``; ``ocr.txt`` with rows ``text x1,y1,...,x4,y4 confidence``, in
               pixels of a picture of 512 x 512; ``charseg.npy``, the class of every pixel (0: none)
=============  =====================================================================================================

An item is one word: 1 to 12 of the 94 printable characters, a hundredth of a picture at least (upstream's area is that
of 512 x 512 pixels).  Its picture is a window around it, of the wanted proportions and so small that the word covers a
25th of it, if that is smaller than the whole picture; border pixels fill what lies outside of the picture.  The
characters' own regions come with it for L_loc; icdar13 has none, and the word is divided by the widths of a font.

Upstream finds a character in ``charseg`` by its class, as it stands or in lower case: openings of 2 pixels take noise
away, 5 dilations fill gaps, and of the connected parts the largest count, from left to right; a word with fewer parts
than such characters is passed over.  That is done here too, but classes are resized by nearest neighbour (upstream
mixes them linearly).  In textseg equal characters share their regions upstream, here each has its own.
The names of TextSeg's files were not seen: any that go on with _ or . after the name of the picture are taken.

Source: UDiffText ``dataset/dataloader.py``, ``configs/dataset``.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from anytext_lib.data.anyword import AnnotatedImage, Annotation
from anytext_lib.data.batch import Sample
from anytext_lib.data.dataset import BadImageWarning
from anytext_lib.data.pictures import PictureError, read_picture
from anytext_lib.data.sample import SampleConfig, build_sample
from anytext_lib.errors import AnyTextError, MissingFileError, OptionError
from anytext_lib.udifftext.label_encoder import PRINTABLE

LEAST_AREA = 0.01 * 512 * 512  # square pixels
COVERED = 0.04  # least share of the window that the word covers
LONGEST = 12  # characters
CANVAS = 512  # side of LAION-OCR's coordinates
MOST_TRIES = 32
_ITEM = 61  # stream of random numbers


class WordDataError(AnyTextError, ValueError):
    """A data set is not in the layout that it should have; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Word:
    """One word of a picture.

    Attributes:
        picture: its file. ``text``: the word. ``polygon``: (4, 2) pixels.
        canvas: (H, W) that the polygon's pixels belong to; None for those of the picture itself.
        boxes: polygons (P, 2) of its characters. ``classes``: the file of the pixels' classes. ``values``: those of the
            characters, in a picture. Which of these there are depends on the layout.
    """

    picture: Path
    text: str
    polygon: np.ndarray
    canvas: tuple[int, int] | None = None
    boxes: tuple[np.ndarray, ...] = ()
    classes: Path | None = None
    values: tuple[int, ...] = ()


class OriginalWords(Dataset):
    """Words as samples, one word a picture.

    Args:
        words: see ``read_words``. ``config``: how samples are made. ``seed``: of everything random.

    Raises:
        OptionError: there is no word.
    """

    def __init__(self, words: Sequence[Word], config: SampleConfig, seed: int = 0):
        if not words:
            raise OptionError(f"no word is left: words have 1 to {LONGEST} printable characters and cover a hundredth "
                              "of 512 x 512 pixels")
        self.words, self.config, self.seed, self.epoch = list(words), config, int(seed), 0

    def __len__(self) -> int:
        return len(self.words)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose items are made."""
        self.epoch = int(epoch)

    def __getitem__(self, i: int) -> Sample:
        """Sample ``i``; a word whose picture or characters cannot be found is passed over, and the next one taken.

        Raises:
            WordDataError: 32 words one after the other.
        """
        skipped: list[str] = []
        for j in range(min(len(self), MOST_TRIES)):
            row = (int(i) + j) % len(self)
            word = self.words[row]
            try:
                image, polygon, regions = cut_word(word, self.config.image_size)
            except (PictureError, WordDataError) as error:
                skipped.append(f"{word.picture}: {word.text!r}: {error}")
                warnings.warn(f"{skipped[-1]}; the next one is taken in its place", BadImageWarning, stacklevel=2)
                continue
            record = AnnotatedImage(word.picture, word.picture.name, f'"{word.text}"',
                                    [Annotation(polygon, word.text, "Latin")])
            rng = np.random.default_rng([self.seed, self.epoch, int(i), _ITEM])
            sample = build_sample(image, record, self.config, rng)
            return replace(sample, index=row, skipped=tuple(skipped), regions=regions if sample.texts else None)
        raise WordDataError(f"{len(skipped)} words one after the other cannot be read; the first is {skipped[0]}")


# windows

def cut_word(word: Word, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The window around a word: picture (H, W, 3), polygon (4, 2) in it, regions (n, H, W) in {0, 1} or None.

    Raises:
        PictureError: a file cannot be read. WordDataError: the characters are not all found.
    """
    import cv2

    image = read_picture(word.picture)
    if word.canvas is not None:
        image = cv2.resize(image, word.canvas[::-1])
    left, top, width = word_window(word.polygon, image.shape[:2], size)
    scale = size[1] / width
    matrix = np.array([[scale, 0, (0.5 - left) * scale - 0.5], [0, scale, (0.5 - top) * scale - 0.5]])
    if scale < 1:  # warpAffine does not average what it shrinks
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        shift = np.array([[1, 0, -left * scale], [0, 1, -top * scale]])
        cut = cv2.warpAffine(small, shift, size[::-1], borderMode=cv2.BORDER_REPLICATE)
    else:
        cut = cv2.warpAffine(image, matrix, size[::-1], borderMode=cv2.BORDER_REPLICATE)
    regions = character_regions(word, image.shape[:2])
    moved = None if regions is None else np.stack([
        cv2.warpAffine(region, matrix, size[::-1], flags=cv2.INTER_NEAREST) for region in regions])
    return cut, word.polygon @ matrix[:, :2].T + matrix[:, 2], moved


def word_window(polygon: np.ndarray, image: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float]:
    """Left and top edge and width, in pixels, of the window around a word; its proportions are those of ``size``.

    Args:
        image, size: (H, W) of the picture and of the window's picture.
    """
    ratio = size[1] / size[0]
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    most = max(image[1], image[0] * ratio)
    width = np.sqrt(polygon_area(polygon) / COVERED * ratio)
    width = min(max(width, high[0] - low[0], (high[1] - low[1]) * ratio), most)
    centre, window, frame = (low + high) / 2, np.array([width, width / ratio]), np.array([most, most / ratio])
    first = (np.array(image[::-1]) - frame) / 2  # the picture stands in the middle of the frame
    corner = np.clip(centre - window / 2, first, first + frame - window)
    inside = np.clip(corner, 0, np.maximum(np.array(image[::-1]) - window, 0))
    left, top = np.where(window <= image[::-1], inside, corner)
    return float(left), float(top), float(width)


def polygon_area(polygon: np.ndarray) -> float:
    """Area in square pixels, by the shoelace formula."""
    x, y = polygon.T
    return float(abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


# regions of characters

def character_regions(word: Word, size: tuple[int, int]) -> np.ndarray | None:
    """Regions (n, H, W) uint8 in {0, 1} of a word's characters; None where the data set has none.

    Raises:
        WordDataError: not all are found. PictureError: the file of classes cannot be read.
    """
    import cv2

    if word.boxes:
        regions = np.zeros((len(word.boxes), *size), np.uint8)
        for region, box in zip(regions, word.boxes, strict=True):
            cv2.fillPoly(region, [np.rint(box).astype(np.int32)], 1)
        return regions
    if word.classes is None:
        return None
    if word.values:
        shown = read_picture(word.classes)
        if shown.shape[:2] != size:
            raise WordDataError(f"{word.classes} has {shown.shape[1]} x {shown.shape[0]} pixels, the picture {size[1]} "
                                f"x {size[0]}")
        masks = [(shown == value).all(axis=2).astype(np.uint8) for value in word.values]
        return np.stack([cv2.dilate(_opened(mask, 2), np.ones((3, 3), np.uint8), iterations=7) for mask in masks])
    return _of_classes(word, size)


def _of_classes(word: Word, size: tuple[int, int]) -> np.ndarray:
    """Regions of a word in a map of character classes."""
    import cv2

    try:
        classes = np.load(word.classes, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise WordDataError(f"{word.classes} cannot be read: {error}") from error
    if classes.ndim != 2:
        raise WordDataError(f"{word.classes} is no map of classes (H, W), its shape is {classes.shape}")
    classes = cv2.resize(classes.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    inside = np.zeros(size, np.uint8)
    cv2.fillPoly(inside, [np.rint(word.polygon).astype(np.int32)], 1)
    regions = np.zeros((len(word.text), *size), np.uint8)
    for character in dict.fromkeys(word.text):
        places = [i for i, c in enumerate(word.text) if c == character]
        known = [PRINTABLE.index(c) + 1 for c in {character, character.lower()}]
        mask = cv2.dilate(_opened(np.isin(classes, known).astype(np.uint8) * inside, 1), np.ones((3, 3), np.uint8),
                          iterations=5)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        if count - 1 < len(places):
            raise WordDataError(f"its characters {character!r} are {len(places)}, but {count - 1} are found in "
                                f"{word.classes.name}")
        largest = sorted(range(1, count), key=lambda part: -stats[part, cv2.CC_STAT_AREA])[: len(places)]
        for place, part in zip(places, sorted(largest, key=lambda part: stats[part, cv2.CC_STAT_LEFT]), strict=True):
            regions[place] = labels == part
    return regions


def _opened(mask: np.ndarray, times: int) -> np.ndarray:
    """A mask without lines of one pixel."""
    import cv2

    for kernel in (np.ones((1, 2), np.uint8), np.ones((2, 1), np.uint8)):
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel, iterations=times)
    return mask


# layouts

def read_words(layout: str, folder: str | Path) -> list[Word]:
    """The words of a data set that can be written.

    Args:
        layout: one of ``LAYOUTS``. ``folder``: of the part that is meant, such as train.

    Raises:
        OptionError: there is no such layout. MissingFileError: the folder, or something in it, is not there.
        WordDataError: a file is not in the layout.
    """
    if layout not in LAYOUTS:
        raise OptionError(f"there is no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    root = Path(folder)
    if not root.is_dir():
        raise MissingFileError(f"there is no folder {root}: it should hold {layout}, see "
                               "anytext_lib.udifftext.original_words")
    return [word for word in LAYOUTS[layout](root) if 1 <= len(word.text) <= LONGEST
            and set(word.text) <= set(PRINTABLE) and polygon_area(word.polygon) >= LEAST_AREA]


def _icdar13(root: Path) -> Iterator[Word]:
    row_form = re.compile(r'\s*(-?\d+),?\s+(-?\d+),?\s+(-?\d+),?\s+(-?\d+),?\s+"(.*)"\s*')
    for path in _files(root / "annos", "*.txt"):
        picture = root / "images" / f"{path.stem.removeprefix('gt_')}.jpg"
        for number, row in enumerate(_text(path).splitlines(), 1):
            if not row.strip():
                continue
            found = row_form.fullmatch(row)
            if found is None:
                raise WordDataError(f'{path}, line {number}: a row is left, top, right, bottom, "text", got '
                                    f"{row[:60]!r}")
            left, top, right, bottom = map(float, found.groups()[:4])
            yield Word(picture, found[5], np.array([[left, top], [right, top], [right, bottom], [left, bottom]]))


def _textseg(root: Path) -> Iterator[Word]:
    for picture in _files(root / "image", "*.jpg"):
        own = [path for path in sorted((root / "annotation").glob(f"{picture.stem}*"))
               if re.match(r"[._]", path.name[len(picture.stem):])]
        notes = [path for path in own if path.suffix == ".json"]
        masks = [path for path in own if path.suffix == ".png" and "eff" not in path.name]
        if not notes or not masks:
            raise MissingFileError(f"{root / 'annotation'} has no {picture.stem}*.json or no {picture.stem}*.png of "
                                   f"{picture.name}")
        try:
            for note in json.loads(_text(notes[0])).values():
                characters = list(note["char"].values())
                if "".join(c["text"] for c in characters) == note["text"] and "#" not in note["text"]:
                    yield Word(picture, note["text"], np.array(note["bbox"], np.float64).reshape(4, 2),
                               classes=masks[0], values=tuple(int(c["mask_value"]) for c in characters))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WordDataError(f"{notes[0]} is not of TextSeg's form ({type(error).__name__}: {error}): words with "
                                "text, bbox of eight numbers, and char of text and mask_value") from error


def _synthtext(root: Path) -> Iterator[Word]:
    from scipy.io import loadmat

    path = root / "gt.mat"
    if not path.is_file():
        raise MissingFileError(f"there is no {path}")
    try:
        table = loadmat(path, variable_names=["imnames", "wordBB", "charBB", "txt"])
        rows = list(zip(*(table[name][0] for name in ("imnames", "wordBB", "charBB", "txt")), strict=True))
    except Exception as error:  # whatever a file of another kind makes the reader do
        raise WordDataError(f"{path} is not SynthText's gt.mat: {type(error).__name__}: {error}") from error
    for name, words, characters, texts in rows:
        boxes = np.atleast_3d(words).transpose(2, 1, 0).astype(np.float64)
        letters, start = np.atleast_3d(characters).transpose(2, 1, 0).astype(np.float64), 0
        for box, text in zip(boxes, " ".join(str(part) for part in texts).split(), strict=False):
            yield Word(root / str(name[0]), text, box, boxes=tuple(letters[start : start + len(text)]))
            start += len(text)


def _laion_ocr(root: Path) -> Iterator[Word]:
    folders = sorted(path.parent for path in root.glob("*/ocr.txt"))
    if not folders:
        raise MissingFileError(f"{root} has no folder with an ocr.txt")
    for folder in folders:
        for number, row in enumerate(_text(folder / "ocr.txt").splitlines(), 1):
            if not row.strip():
                continue
            parts = row.split(" ")
            try:
                polygon = np.array([float(value) for value in parts[1].split(",")]).reshape(4, 2)
            except (IndexError, ValueError) as error:
                raise WordDataError(f"{folder / 'ocr.txt'}, line {number}: a row is text x1,y1,...,x4,y4 confidence, "
                                    f"got {row[:60]!r}") from error
            yield Word(folder / "image.jpg", parts[0], polygon, (CANVAS, CANVAS), classes=folder / "charseg.npy")


def _files(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    if not found:
        raise MissingFileError(f"{folder} has no {pattern}")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise WordDataError(f"{path} cannot be read as UTF-8: {error}") from error


LAYOUTS = {"icdar13": _icdar13, "textseg": _textseg, "synthtext": _synthtext, "laion-ocr": _laion_ocr}
