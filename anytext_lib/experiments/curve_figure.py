"""The figure of `anytext course curves`: a panel a curve, its band, the run, and where it is outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from anytext_lib.course import style
from anytext_lib.experiments.curve_bands import WINDOW, Band, Curves, Departure, smoothed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4
TITLES = {"t/sim": "diffusion loss", "t/ocr": "OCR term, weighted", "t/ctc": "CTC term, weighted",
          "t/grad/all": "norm of the gradient", "v/sim": "diffusion loss, validation",
          "v/ocr": "OCR term, validation", "v/ctc": "CTC term, validation"}


def draw(band: Band, run: Curves, found: dict[str, Departure], verdict: str, twin: Curves | None = None) -> Figure:
    """A panel for each curve of the band; ``verdict`` is the title, ``twin`` the recorded run of the same seed."""
    style.use()
    rows = -(-(len(band.steps) + 1) // COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(13, 2.9 * rows), squeeze=False)
    for axes, tag in zip(grid.flat, band.steps, strict=False):
        _panel(axes, band, run, tag, found.get(tag), twin)
    free = list(grid.flat)[len(band.steps):]
    for axes in free:
        axes.set_axis_off()
    free[0].legend(*grid.flat[0].get_legend_handles_labels(), loc="center left", fontsize=10.5)
    figure.suptitle(verdict, fontsize=12.5)
    return figure


def _panel(axes: Axes, band: Band, run: Curves, tag: str, found: Departure | None, twin: Curves | None) -> None:
    steps, training = band.steps[tag], not tag.startswith("v/")
    low, high = band.edges(tag)
    few = len(steps) < 4
    sky, dark = style.PALETTE["sky"], style.PALETTE["black"]
    if few:  # a band of two steps is two bars
        middle = np.exp(band.middle[tag])
        axes.errorbar(steps, middle, [middle - low, high - middle], fmt="none", ecolor=sky, elinewidth=14, alpha=0.35)
        axes.set_xlim(0, steps.max() * 1.2)
    else:
        axes.fill_between(steps, low, high, color=sky, alpha=0.3, lw=0, label="band of the recorded seeds")
    axes.plot(steps, np.exp(band.middle[tag]), color=style.PALETTE["blue"], lw=1.2, ls="--",
              marker="_" if few else None, label="its middle")
    if twin is not None:
        axes.plot(steps, np.exp(smoothed(tag, twin[tag].values)), color=style.PALETTE["green"], lw=4.5, alpha=0.5,
                  label="recorded run of this seed")
    if found is not None:
        own = np.exp(smoothed(tag, run[tag].values[np.isin(run[tag].steps, steps)]))
        if training:
            at = run[tag].steps <= steps.max()
            axes.plot(run[tag].steps[at], run[tag].values[at], ".", color=style.PALETTE["grey"], ms=3.5,
                      label="this run, single batches")
        axes.plot(found.steps, own, color=dark, marker="o" if few else None, ms=4,
                  label=f"this run, mean of {WINDOW} batches")
        axes.plot(found.steps[found.outside], own[found.outside], "X", color=style.PALETTE["vermillion"], ms=8,
                  label="outside")
        if own.max() > 1e-9:
            axes.set_ylim(max(min(low.min(), own.min()) / 2, 1e-9), 2 * max(high.max(), own.max()))
    else:
        axes.text(0.5, 0.5, "not in this log", transform=axes.transAxes, ha="center", color=style.PALETTE["grey"])
    axes.set_yscale("log")
    axes.set_title(f"{tag}: {TITLES.get(tag, '')}")
    axes.set_xlabel("optimizer step")
