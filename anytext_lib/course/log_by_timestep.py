"""A training log explained by timestep: at which noise each term errs, what it adds to the loss there, and how both
move during the run.

`explain_log("runs/mini")` in a notebook: a figure that can be read without a kernel, and a slider over the steps where
a front end is there; `anytext course timesteps runs/mini` writes the figure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from anytext_lib.course import style
from anytext_lib.course.explore import has_front_end
from anytext_lib.course.training_log import Curve, LogError, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TAG = re.compile(r"t/(?P<key>\w+)/t(?P<first>\d+)-(?P<last>\d+)")
LOOKS = {
    "sim": ("diffusion loss", style.COLORS["simple"], ""),
    "ocr": ("OCR term", style.COLORS["ocr"], "///"),
    "ctc": ("CTC term", style.COLORS["ctc"], "..."),
    "diff": ("denoising loss", style.COLORS["simple"], ""),  # this one and the next two are UDiffText's
    "local": ("local attention loss", style.PALETTE["orange"], "///"),
    "str": ("sequence loss", style.PALETTE["sky"], "..."),
}
"""Name, colour and hatch of a term."""
MOST, FEW = 12, 3  # stages of a run: on the slider, and in a figure that shows them all
REGIONS = (
    (0.3, "Little noise. Nearly the whole picture is in the input: what is left to learn are edges and the fine parts "
          "of strokes.", "The one-step estimate is sharp, so that a reader's opinion is worth most, and abar, the "
          "original's step weight, is highest."),
    (0.65, "Half noise. Letters are decided here: the input shows where something is written, and the glyphs say what.",
           "The estimate grows soft, a reader sees what is missing, and its weight falls with abar."),
    (1.0, "Much noise. Layout, brightness and colours are decided here.", "The estimate is a blur that nobody can "
          "read: the distance of readings is large and says little, and abar all but takes the reading terms out of "
          "the loss."),
)
"""Upper end of each region as a share of all timesteps, what it teaches, and what that is to AnyText2's readers."""


def look_of(term: str) -> tuple[str, str, str]:
    """See ``LOOKS``; of a term of one's own its name, in purple."""
    return LOOKS.get(term, (term, style.PALETTE["purple"], "xx"))


@dataclass(frozen=True)
class LossByTimestep:
    """Losses of a run by bin of timesteps, at some stages of it.

    Attributes:
        bins: first and last timestep of each of the K bins. ``steps``: last optimizer step of each of the S stages.
        values: by key as in the log (sim, ocr, ocr_raw, ...), (S, K), NaN where no sample fell into a bin.
    """

    bins: list[tuple[int, int]]
    steps: list[int]
    values: dict[str, np.ndarray]

    @property
    def terms(self) -> list[str]:
        """Keys of the terms, the diffusion loss first."""
        found = dict.fromkeys(key.removesuffix("_raw") for key in self.values)
        return [name for name in LOOKS if name in found] + sorted(set(found) - set(LOOKS))

    def error(self, term: str) -> np.ndarray:
        """(S, K): the term before any weight where the log has it, else as it is in the loss."""
        return self.values.get(f"{term}_raw", self.values.get(term))

    def added(self, stage: int) -> dict[str, np.ndarray]:
        """(K,) what each term of the loss adds to it at a stage; 0 where nothing is known."""
        return {term: np.nan_to_num(self.values[term][stage]) for term in self.terms if term in self.values}

    def span(self, stage: int) -> str:
        """The steps of a stage, in words."""
        first = self.steps[stage - 1] + 1 if stage else 1
        return f"steps {first}-{self.steps[stage]}" if first < self.steps[stage] else f"step {self.steps[stage]}"

    @property
    def centres(self) -> np.ndarray:
        """(K,) middle of each bin."""
        return np.array([(first + last + 1) / 2 for first, last in self.bins])


def by_timestep(log: dict[str, Curve], most: int = MOST) -> LossByTimestep:
    """The losses by timestep that ``training.callbacks.TimestepCurves`` logged, in at most ``most`` stages, each the
    mean of consecutive logs.

    Raises:
        LogError: it logged none.
    """
    found: dict[str, dict[tuple[int, int], Curve]] = {}
    for tag, curve in log.items():
        if match := TAG.fullmatch(tag):
            found.setdefault(match["key"], {})[int(match["first"]), int(match["last"])] = curve
    if not found.keys() - {"samples"}:
        raise LogError("the log has no losses by timestep (t/sim/t000-099, ...): `anytext fit` writes them every 20 "
                       "steps unless --timesteps.every is 0")
    bins = sorted({each for curves in found.values() for each in curves})
    found.pop("samples", None)  # which names all bins, empty ones too
    logged = sorted({int(step) for curves in found.values() for curve in curves.values() for step in curve.steps})
    stages = [part for part in np.array_split(logged, min(most, len(logged))) if len(part)]
    values = {}
    for key, curves in found.items():
        table = np.full((len(stages), len(bins)), np.nan)
        for k, each in enumerate(bins):
            for s, part in enumerate(stages):
                here = np.isin(curves[each].steps, part) if each in curves else np.zeros(0, bool)
                if here.any():
                    table[s, k] = curves[each].values[here].mean()
        values[key] = table
    return LossByTimestep(bins, [int(part[-1]) for part in stages], values)


def draw(found: LossByTimestep, stage: int | None = None) -> Figure:
    """The figure: the error of each term over timesteps, above what all terms add to the loss.

    Args:
        stage: the stage to stress, the others in grey; None draws all of them in colours, for a few stages.
    """
    import matplotlib.pyplot as plt

    style.use()
    terms, last = found.terms, len(found.steps) - 1
    figure = plt.figure(figsize=(4.3 * max(2, len(terms)), 6.6))
    above, below = figure.subfigures(2, 1)
    for axes, term in zip(above.subplots(1, len(terms), squeeze=False)[0], terms, strict=True):
        _error(axes, found, term, stage)
    stages = [stage] if stage is not None else sorted({0, last})
    panels = below.subplots(1, len(stages), squeeze=False, sharey=True)[0]
    for axes, each in zip(panels, stages, strict=True):
        _added(axes, found, each)
    return figure


def _error(axes: Axes, found: LossByTimestep, term: str, stage: int | None) -> None:
    import matplotlib.pyplot as plt

    shown, values = range(len(found.steps)) if stage is None else [stage], found.error(term)
    if stage is not None:
        for other in range(len(found.steps)):
            axes.plot(found.centres, values[other], color="#CCCCCC", lw=1)
    for i, each in enumerate(shown):
        colour = plt.get_cmap("cividis")(0.85 - 0.85 * i / max(1, len(shown) - 1)) if stage is None else \
            look_of(term)[1]
        there = np.isfinite(values[each])
        axes.plot(found.centres[there], values[each][there], "os^D"[i % 4] + "-", ms=4, color=colour,
                  label=found.span(each))
    _regions(axes, found)
    least, most = min(0.0, np.nanmin(values)), max(0.0, np.nanmax(values))  # UDiffText's local loss has both signs
    axes.set_ylim(1.1 * least, most + 0.25 * (most - least) or 1)  # room for the legend
    unweighted = ", before any weight" if f"{term}_raw" in found.values else ""
    axes.set_title(look_of(term)[0] + unweighted)
    axes.set_xlabel("timestep")
    axes.legend(fontsize=8.5, loc="upper left", ncols=2)


def _added(axes: Axes, found: LossByTimestep, stage: int) -> None:
    """Stacked bars of a stage."""
    above, below = np.zeros(len(found.bins)), np.zeros(len(found.bins))
    width = np.array([0.9 * (last + 1 - first) for first, last in found.bins])
    for term, values in found.added(stage).items():
        name, colour, hatch = look_of(term)
        axes.bar(found.centres, values, width, np.where(values < 0, below, above), color=colour, alpha=0.85,
                 hatch=hatch, edgecolor="white", lw=0, label=name)
        above, below = above + values.clip(min=0), below + values.clip(max=0)
    _regions(axes, found)
    axes.set_title(f"what each term adds to the loss, {found.span(stage)}")
    axes.set_xlabel("timestep: little noise on the left, much on the right")
    stages = [list(found.added(each).values()) for each in range(len(found.steps))]
    highest = max(sum(values.clip(min=0) for values in each).max() for each in stages)
    lowest = min(sum(values.clip(max=0) for values in each).min() for each in stages)
    axes.set_ylim(1.1 * lowest, 1.2 * highest or 1)
    axes.legend(fontsize=8.5, loc="upper left", ncols=3)


def _regions(axes: Axes, found: LossByTimestep) -> None:
    count = found.bins[-1][1] + 1
    axes.set_xlim(0, count)
    for share, *_ in REGIONS[:-1]:
        axes.axvline(share * count, color=style.PALETTE["grey"], lw=0.9, ls=":")


def words(found: LossByTimestep) -> list[str]:
    """A paragraph for each region of timesteps: what it teaches, and what the run did there."""
    count, low, said = max(last for _, last in found.bins) + 1, 0.0, []
    reads = not {"ocr", "ctc"}.isdisjoint(found.terms)
    for share, teaches, readers in REGIONS:
        inside = (found.centres >= low * count) & (found.centres < share * count)
        moved = []
        for term in found.terms:
            first, last = (_mean(found.error(term)[stage][inside]) for stage in (0, -1))
            if np.isfinite([first, last]).all():
                later = f" -> {last:.3g}" if len(found.steps) > 1 else ""
                moved.append(f"{look_of(term)[0]} {first:.3g}{later}")
        added = {term: np.abs(values[inside]).sum() for term, values in found.added(-1).items()}
        whole = sum(np.abs(values).sum() for values in found.added(-1).values())
        parts = [f"{look_of(term)[0]} {100 * value / whole:.0f}%" for term, value in added.items() if whole]
        told = f"{teaches} {readers}" if reads else teaches
        said.append(f"timesteps {low * count:.0f}-{share * count - 1:.0f}. {told} In this run: "
                    f"{', '.join(moved) or 'no sample fell here'}; of the whole loss at the end, {', '.join(parts)} "
                    "are from here.")
        low = share
    return said


def _mean(values: np.ndarray) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else float("nan")


def explain_log(log: str | Path) -> None:
    """Show the log of a run of `anytext fit` by timestep: figure and words always, a slider where a front end is there.

    Args:
        log: the run's folder (runs/NAME), or that of its TensorBoard files.

    Raises:
        MissingFileError, LogError: there is no log, or none with losses by timestep.
    """
    from IPython.display import display

    curves = read_log(log)
    found = by_timestep(curves, FEW)
    style.show(draw(found), alt=alt_of(found))
    display({"text/markdown": "\n\n".join(words(found)), "text/plain": "\n\n".join(words(found))}, raw=True)
    if has_front_end() and len(found.steps) > 1:
        _slider(by_timestep(curves))


def alt_of(found: LossByTimestep) -> str:
    """The figure in words."""
    return (f"Losses by timestep, steps 1 to {found.steps[-1]}. Above, each term over the timestep; "
            f"below, what the terms add to the loss. {' '.join(words(found))}")


def _slider(found: LossByTimestep) -> None:
    """A slider over the stages, and the figure that follows it."""
    import ipywidgets
    import matplotlib.pyplot as plt
    from IPython.display import display

    options: Sequence[tuple[str, int]] = [(found.span(stage), stage) for stage in range(len(found.steps))]
    slider = ipywidgets.SelectionSlider(options=options, value=len(options) - 1, description="stage",
                                        continuous_update=False)
    view = ipywidgets.HTML()

    def redraw(_change=None) -> None:
        figure = draw(found, slider.value)
        alt = f"Losses by timestep, {found.span(slider.value)}; other stages in grey"
        width = round(figure.get_figwidth() * style.SHOWN_PER_INCH)
        view.value = style.image_html(style.png_bytes(figure), alt, width)
        plt.close(figure)

    slider.observe(redraw, names="value")
    redraw()
    display(ipywidgets.VBox([slider, view]))
