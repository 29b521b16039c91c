"""Pictures whose lines are flat patches of grey, and a reader that knows the texts by their grey."""
from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from anytext_lib.ocr.recogniser import Reading

BOXES = [(8, 8, 88, 28), (8, 36, 150, 56)]  # left, top, right, bottom of the two lines of a picture, 192 x 64
STEP = 10  # grey levels between two texts


class GreyReader:
    """Reads a crop by the grey of its middle; counts the crops that it was shown."""

    def __init__(self, texts: list[str], pause: float = 0.0):
        self.texts, self.pause, self.seen = texts, pause, 0

    def read_scored(self, crops):
        time.sleep(self.pause)
        self.seen += len(crops)
        levels = ((crops[:, 0, 24, 20] + 1) * 127.5 / STEP).round().int().tolist()
        return [Reading(self.texts[level - 1], 0.5 + level / 100) for level in levels]


def polygon(box: tuple[int, int, int, int]) -> list[list[int]]:
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def make_folder(folder: Path, texts: list[list[str]], per_item: int = 1, suffix: str = ".png",
                languages: tuple[str, str] = ("Latin", "Latin"), captions: bool = True) -> Path:
    """An annotation file and pictures for items with at most two lines each; text k in the order of all has grey k + 1.

    With ``per_item`` above 1 the pictures are called <stem>_0, <stem>_1, ...
    """
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    rows, level = [], 0
    for i, lines in enumerate(texts):
        canvas = np.full((64, 192, 3), 250, np.uint8)
        annotations = []
        for text, box, language in zip(lines, BOXES, languages, strict=False):
            level += 1
            left, top, right, bottom = box
            canvas[top:bottom, left:right] = level * STEP
            annotations.append({"polygon": polygon(box), "text": text, "language": language, "valid": True})
        rows.append({"img_name": f"item_{i:02d}.jpg", "caption": f"a sign, number {i}" if captions else "",
                     "annotations": annotations})
        for sample in range(per_item):
            end = f"_{sample}" if per_item > 1 else ""
            Image.fromarray(canvas).save(pictures / f"item_{i:02d}{end}{suffix}")
    path = folder / "test1k.json"
    path.write_text(json.dumps({"data_root": "pictures", "data_list": rows}), encoding="utf-8")
    return path
