"""Independent readers: text accuracy is never measured with the recogniser that a loss was computed with.

A model trained against a recogniser learns, among other things, to please that recogniser.  A judge has other
weights ("ppocrv4": PP-OCRv4) or another lineage altogether ("tesseract").
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from anytext_lib.errors import AnyTextError, OptionError
from anytext_lib.ocr.network import check_crops
from anytext_lib.ocr.onnx_weights import WeightsError, open_session, package_file
from anytext_lib.ocr.recogniser import Charset, Reading

BATCH = 16  # crops in one run of the ONNX network: bounds the memory


class JudgeError(AnyTextError, RuntimeError):
    """A judge's program failed; the message says how."""


class Judge(ABC):
    """Reads crops (L, 3, 48, W) in [-1, 1], RGB, padded on the right with 0, as the recogniser does."""

    name: str

    @staticmethod
    def from_name(name: str = "ppocrv4", **options) -> Judge:
        """A judge by name.

        Args:
            name: "ppocrv4" or "tesseract".
            options: ``threads`` (default 1) for both; ``languages`` for "tesseract".

        Raises:
            ValueError: unknown name.
            WeightsError: this judge is not installed; the message says how to install it.
        """
        if name not in JUDGES:
            raise OptionError(f"there is no judge {name!r}: choose one of {sorted(JUDGES)}")
        return JUDGES[name](**options)

    @staticmethod
    def available() -> list[str]:
        """Names of the judges that are installed here."""
        return [name for name, judge in JUDGES.items() if judge.installed()]

    @classmethod
    @abstractmethod
    def installed(cls) -> bool:
        """Whether this judge can be used here."""

    @abstractmethod
    def read_scored(self, crops: torch.Tensor) -> list[Reading]:
        """Text and confidence of each crop."""

    def read(self, crops: torch.Tensor) -> list[str]:
        """Text of each crop."""
        return [reading.text for reading in self.read_scored(crops)]


class PPOCRv4Judge(Judge):
    """The recogniser of PP-OCRv4 (mobile) in the package rapidocr, run by onnxruntime.

    Same dictionary as PP-OCRv3, but another network with other weights.  It gets the crops in BGR, as it was trained.
    """

    name = "ppocrv4"
    file = "models/ch_PP-OCRv4_rec_mobile.onnx"

    def __init__(self, threads: int = 1):
        path = self._path()
        self._session = open_session(path, threads)
        characters = self._session.get_modelmeta().custom_metadata_map.get("character")
        if characters is None or [len(end.shape) for end in self._session.get_outputs()] != [3]:
            raise WeightsError(f"{path} is no recogniser of PP-OCR, with its characters in its metadata: install "
                               "rapidocr again")
        self.charset = Charset.from_metadata(characters)

    @classmethod
    def _path(cls) -> Path:
        return package_file("rapidocr", cls.file, "rapidocr>=3.8.3,<3.9")

    @classmethod
    def installed(cls) -> bool:
        try:
            cls._path()
        except WeightsError:
            return False
        return True

    def read_scored(self, crops: torch.Tensor) -> list[Reading]:
        check_crops(crops)
        bgr = crops.detach().float().flip(1).cpu().numpy()
        return [reading for start in range(0, len(bgr), BATCH) for reading in self._read(bgr[start : start + BATCH])]

    def _read(self, bgr: np.ndarray) -> list[Reading]:
        (probabilities,) = self._session.run(None, {self._session.get_inputs()[0].name: bgr})
        return self.charset.read_probabilities(probabilities)


class TesseractJudge(Judge):
    """Tesseract's LSTM reader, through its command: another lineage, weaker on scene text.

    Args:
        threads: crops read at the same time.
        languages: names as in ``tesseract --list-langs``; None takes all that are installed, English first.
    """

    name = "tesseract"
    remedy = ("install it: conda install -c conda-forge tesseract, or apt-get install tesseract-ocr "
              "tesseract-ocr-chi-sim")

    def __init__(self, threads: int = 1, languages: Sequence[str] | None = None):
        if not self.installed():
            raise WeightsError(f"the command 'tesseract' is not on the path; {self.remedy}")
        found = installed_languages()
        languages = found if languages is None else list(languages)
        missing = sorted(set(languages) - set(found))
        if missing or not languages:
            raise WeightsError(f"tesseract lacks the languages {missing or 'eng'} (it has {found}); {self.remedy}")
        self.threads, self.languages = threads, languages

    @classmethod
    def installed(cls) -> bool:
        return shutil.which("tesseract") is not None

    def read_scored(self, crops: torch.Tensor) -> list[Reading]:
        check_crops(crops)
        pages = [_page(crop) for crop in crops.detach().float().cpu()]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(self._read, pages))

    def _read(self, page: bytes) -> Reading:
        command = ["tesseract", "stdin", "stdout", "--psm", "7", "-l", "+".join(self.languages), "tsv"]
        try:
            done = subprocess.run(command, input=page, capture_output=True, timeout=60,
                                  env={**os.environ, "OMP_THREAD_LIMIT": "1"})
        except subprocess.TimeoutExpired as error:
            raise JudgeError(f"{' '.join(command)} did not answer within {error.timeout:.0f} seconds: try again when "
                             "the machine is less busy") from error
        if done.returncode:
            raise JudgeError(f"{' '.join(command)} failed with status {done.returncode}: "
                             f"{done.stderr.decode(errors='replace').strip()}")
        return _parse_tsv(done.stdout.decode("utf-8"))


JUDGES: dict[str, type[Judge]] = {judge.name: judge for judge in (PPOCRv4Judge, TesseractJudge)}


def installed_languages() -> list[str]:
    """Languages of the installed tesseract, English first, without its layout and equation models."""
    done = subprocess.run(["tesseract", "--list-langs"], capture_output=True, text=True, timeout=60, check=True)
    names = [line.strip() for line in done.stdout.splitlines()[1:] if line.strip() not in ("", "osd", "equ")]
    return sorted(names, key=lambda name: (name != "eng", name))


def _page(crop: torch.Tensor) -> bytes:
    """A crop (3, 48, W) as a PNG page: padding cut off, a margin around it, twice the size."""
    import cv2

    columns = (crop != 0).any(dim=0).any(dim=0).nonzero()
    width = int(columns.max()) + 1 if len(columns) else crop.shape[2]
    image = ((crop[:, :, :width].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    image = cv2.copyMakeBorder(image[..., ::-1], 8, 8, 12, 12, cv2.BORDER_REPLICATE)
    done, png = cv2.imencode(".png", cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))
    if not done:
        raise RuntimeError(f"OpenCV could not write a PNG of shape {image.shape}")
    return png.tobytes()


def _parse_tsv(table: str) -> Reading:
    """Words and confidences of tesseract's table; words of scripts without spaces are joined without one."""
    rows = list(csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE))
    words = [(row["text"].strip(), float(row["conf"]) / 100) for row in rows if (row["text"] or "").strip()]
    text = ""
    for word, _ in words:
        text += (" " if text and text[-1].isascii() and word[0].isascii() else "") + word
    return Reading(text, float(np.mean([score for _, score in words])) if words else 0.0)
