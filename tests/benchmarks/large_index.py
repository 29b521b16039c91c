"""Generated annotations like those of AnyWord-3M, as objects and as JSON text: about three lines a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from anytext_lib.data.anyword import AnnotatedImage, Annotation

WORDS = ("Coffee", "OPEN", "Grand Hotel", "50% off", "天津", "希望小学", "No parking", "Tea & Cake", "Fresh", "1984")
CAPTIONS = ("A street at night with lights and a row of shops under signs in several languages.",
            "A bottle on a wooden table beside a folded newspaper.", "a close up of a poster on a brick wall")


def generated_images(count: int, seed: int = 0) -> Iterator[AnnotatedImage]:
    """``count`` pictures with 0 to 6 lines (mean 3) of four points each; the same for equal arguments."""
    rng = np.random.default_rng(seed)
    block = 4096
    for first in range(0, count, block):
        lines = rng.integers(0, 7, block)
        corners = np.round(rng.uniform(0, 512, (int(lines.sum()), 4, 2)), 2)
        words, colors = rng.integers(0, len(WORDS), len(corners)), rng.integers(0, 256, (len(corners), 3)).tolist()
        at = 0
        for i in range(first, min(first + block, count)):
            rows = range(at, at + int(lines[i - first]))
            at = rows.stop
            yield AnnotatedImage(Path(), f"laion/{i:09d}.jpg", CAPTIONS[i % 3], [
                Annotation(corners[r], WORDS[words[r]], "Chinese" if words[r] in (4, 5) else "Latin", r % 9 != 0,
                           tuple(colors[r])) for r in rows], (i % 100) / 100)


def write_generated_json(path: Path, count: int) -> None:
    """The same as an annotation file, written as a stream."""
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"data_root": "images", "data_list": [')
        for i, image in enumerate(generated_images(count)):
            lines = [{"polygon": a.polygon.tolist(), "text": a.text, "language": a.language, "valid": a.valid,
                      "color": a.color} for a in image.annotations]
            entry = {"img_name": image.name, "caption": image.caption, "wm_score": image.wm_score, "annotations": lines}
            file.write((",\n" if i else "\n") + json.dumps(entry, ensure_ascii=False))
        file.write("\n]}\n")
