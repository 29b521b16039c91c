"""A small data set of pictures that hold given lines, and a step of training on it from the command line."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from anytext_lib.cli import main
from anytext_lib.data import draw_glyphs
from anytext_lib.data.fonts import choose_font
from anytext_lib.data.texts import guess_language


def data_set(folder, texts):
    """One picture with these lines in the folder, and its annotations."""
    picture, lines = np.full((64, 192, 3), 40, np.uint8), []
    for k, text in enumerate(texts):
        corners = [[8, 4 + 20 * k], [184, 4 + 20 * k], [184, 20 + 20 * k], [8, 20 + 20 * k]]
        draw_glyphs(picture, text, choose_font(text, guess_language(text)), np.array(corners))
        lines.append({"polygon": corners, "text": text, "language": guess_language(text)})
    Image.fromarray(picture).save(folder / "0.png")
    path = folder / "annotations.json"
    path.write_text(json.dumps({"data_root": ".", "data_list": [
        {"img_name": "0.png", "caption": "A sign.", "annotations": lines}]}), "utf-8")
    return path


def fit(folder, path, *more):
    """A step of training on one picture."""
    return main(["fit", "--config", "tiny.yaml", "--runs", str(folder / "runs"), "--train", str(path), "--val", "null",
                 "--max_steps", "1", "--batch_size", "1", "--save_steps", "0", "--trainer.logger", "false",
                 "--image_size", "[64, 192]", *more])
