"""The figure of an explained photograph: boxes, both gradients on it, and every line as the reader sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from anytext_lib.course import style
from anytext_lib.explain.pulls import ExplainedLine, Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, PHOTO, HIGHEST, TITLE = 13.0, 4.134, 5.2, 0.35  # inches: figure, a photograph and how high it may be, a title
ROW, HEAD = 1.04, 0.5  # inches: a line, headings
MOST = 12  # lines that get a row of their own
COLUMNS = (("the line, as PP-OCRv3 sees it", 0.01), ("soft, as an early estimate", 0.26),
           ("where the OCR loss pulls", 0.51), ("where the CTC loss pulls", 0.76))
CROP = 0.235  # of the figure's width
BRIGHT = 0.995  # quantile of a gradient that is drawn at full strength


def draw(found: Explanation, judge: str) -> Figure:
    """The figure; ``judge``: name of the reader that is told beside PP-OCRv3."""
    style.use()
    plt.rcParams["figure.constrained_layout.use"] = False
    shown = found.lines[:MOST]
    photo = min(HIGHEST, PHOTO * found.photo.shape[0] / found.photo.shape[1])
    top = TITLE + photo
    height = top + HEAD + 0.2 + ROW * len(shown)
    figure = plt.figure(figsize=(WIDTH, height))
    panels = ((found.photo, None, "your photograph, and the lines that were found"),
              (found.soft, found.ocr_pull, "OCR loss: gradient on the soft picture"),
              (found.soft, found.ctc_pull, "CTC loss: gradient on the soft picture"))
    for k, (picture, pull, title) in enumerate(panels):
        axes = figure.add_axes((0.01 + k * 0.332, 1 - top / height, PHOTO / WIDTH, photo / height))
        axes.imshow(picture if pull is None else overlaid(picture, pull))
        axes.set_axis_off()
        axes.set_title(title)
        for i, line in enumerate(found.lines):
            outline = line.spotted.quad.numpy()
            axes.add_patch(plt.Polygon(outline, fill=False, edgecolor=style.PALETTE["yellow"], lw=1.4))
            if pull is None:
                axes.text(*outline[0], str(i + 1), fontsize=8.5, ha="right", va="bottom", color="black",
                          bbox={"facecolor": style.PALETTE["yellow"], "edgecolor": "none", "pad": 1.2})
    for title, left in COLUMNS:
        figure.text(left, 1 - (top + 0.3) / height, title, fontsize=12, va="center")
    for i, line in enumerate(shown):
        _row(figure, line, i + 1, judge, top + HEAD + i * ROW, height)
    if len(found.lines) > MOST:
        figure.text(0.01, 0.12 / height, f"and {len(found.lines) - MOST} more lines", color=style.PALETTE["grey"])
    return figure


def overlaid(picture: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8 in pale grey, with a gradient (H, W) in red on it."""
    grey = 110 + 0.45 * picture.mean(axis=2)
    strength = (pull / max(float(np.quantile(pull[pull > 0], BRIGHT)), 1e-12)).clip(0, 1)[..., None] ** 0.5 \
        if (pull > 0).any() else np.zeros((*pull.shape, 1))
    return (grey[..., None] * (1 - strength) + np.array([200, 0, 40]) * strength).astype(np.uint8)


def _row(figure: Figure, line: ExplainedLine, number: int, judge: str, top: float, height: float) -> None:
    """One line: crop, soft crop and both gradients, and below each what is to be said of it."""
    wanted = f"“{line.wanted}”"
    unknown = f"; not in its dictionary: {' '.join(line.unknown)}" if line.unknown else ""
    notes = (f"{number}. PP-OCRv3: {_read(line.reading)}\n    {judge}: {_read(line.spotted)}",
             f"PP-OCRv3: {_read(line.soft_reading)}",
             f"ocr = {line.ocr:.3f}",
             f"ctc = {line.ctc:.3f} for {wanted}{unknown}" if line.fits else f"{wanted} does not fit into 40 frames")
    pictures = (style.as_picture(line.crop), style.as_picture(line.soft), line.ocr_pull.numpy(), line.ctc_pull.numpy())
    for (_, left), picture, note in zip(COLUMNS, pictures, notes, strict=True):
        tall = 0.235 * WIDTH * 48 / 320
        width = CROP * picture.shape[1] / 320
        axes = figure.add_axes((left, 1 - (top + tall) / height, width, tall / height))
        heat = {"cmap": "magma", "vmax": float(np.quantile(picture, BRIGHT)) or 1.0} if picture.ndim == 2 else {}
        axes.imshow(picture, aspect="auto", **heat)
        axes.set_axis_off()
        figure.text(left, 1 - (top + tall + 0.06) / height, note.replace("$", r"\$"), fontsize=8.5, va="top")


def _read(reading) -> str:
    return f"“{reading.text}” {reading.confidence:.2f}"
