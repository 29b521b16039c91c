"""A figure to play with that also works on paper: small multiples always, sliders where a front end is there."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anytext_lib.course import style

FRONT_END_VARIABLES = ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD")
"""Set in kernels of Jupyter Server and of VS Code; the notebook runner removes them."""
MAX_PANELS = 24


def has_front_end() -> bool:
    """Whether this process is a kernel that somebody looks at, so that widgets would be seen."""
    return any(os.environ.get(name) for name in FRONT_END_VARIABLES)


def explore(
    draw: Callable[..., Any],
    *,
    columns: int = 4,
    panel: tuple[float, float] = (2.1, 1.9),
    alt: str | None = None,
    title: str | None = None,
    **axes: Sequence[Any],
) -> None:
    """Draw `draw(ax, **values)` for the values of `axes`: a grid as an image, and sliders when a front end is there.

    With one axis the grid runs over its values, `columns` to a row. With two or more, the first axis runs along the
    columns and the second along the rows if that makes at most 24 panels; else the grid shows the first axis alone.
    All remaining axes stay at their first value, and the figure says so. `panel` is the size of a panel in inches;
    `alt` the alternative text (default: the first line of draw's docstring, and the values).
    """
    values = _checked(draw, axes)
    combinations, columns, fixed = grid_plan(values, columns)
    fig = _multiples(draw, combinations, columns, panel, title, fixed, values)
    style.show(fig, alt or _default_alt(draw, values, fixed))
    if has_front_end():
        _sliders(draw, values, panel)


def grid_plan(values: Mapping[str, Sequence[Any]], columns: int) -> tuple[list[dict], int, dict]:
    """Which panels to draw: (values of each panel in reading order, number of columns, axes left at a value)."""
    names = list(values)
    first, rest = names[0], names[1:]
    shown = [first]
    if rest and len(values[first]) * len(values[rest[0]]) <= MAX_PANELS:
        shown = [first, rest[0]]
        columns = len(values[first])
    fixed = {name: values[name][0] for name in names if name not in shown}
    order = itertools.product(*(values[name] for name in reversed(shown)))
    panels = [dict(zip(reversed(shown), combination, strict=True)) | fixed for combination in order]
    combinations = [{name: panel[name] for name in names} for panel in panels]
    return combinations, min(columns, len(combinations)), fixed


def _checked(draw: Callable, axes: Mapping[str, Sequence[Any]]) -> dict[str, list]:
    if not callable(draw):
        raise TypeError(f"explore: the first argument must be a function draw(ax, ...), got {type(draw).__name__}.")
    if not axes:
        raise ValueError("explore: give at least one axis with its values, as in explore(draw, t=[0, 500, 999]).")
    values = {name: list(sequence) for name, sequence in axes.items()}
    empty = [name for name, sequence in values.items() if not sequence]
    if empty:
        raise ValueError(f"explore: the axis {empty[0]!r} has no values.")
    return values


def _label(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
                     for name, value in values.items())


def _multiples(draw, combinations, columns, panel, title, fixed, values):
    """The grid as a matplotlib figure."""
    import matplotlib.pyplot as plt

    rows = math.ceil(len(combinations) / columns)
    fig, grid = plt.subplots(rows, columns, figsize=(panel[0] * columns, panel[1] * rows), squeeze=False)
    for ax in list(grid.flat)[len(combinations):]:
        ax.axis("off")
    for ax, combination in zip(grid.flat, combinations, strict=False):
        _draw_panel(draw, ax, combination, {k: v for k, v in combination.items() if k not in fixed})
    note = f"({_label({name: values[name][0] for name in fixed})})" if fixed else ""
    fig.suptitle(" ".join(part for part in (title, note) if part) or None, fontsize=10.5)
    return fig


def _draw_panel(draw, ax, combination, labelled) -> None:
    draw(ax, **combination)
    if not ax.get_title():
        ax.set_title(_label(labelled), fontsize=9.5)


def _default_alt(draw, values, fixed) -> str:
    doc = (draw.__doc__ or "").strip().splitlines()
    what = doc[0].rstrip(".") if doc else "Small multiples"
    over = "; ".join(f"{name} = {', '.join(map(str, seq))}" for name, seq in values.items() if name not in fixed)
    return f"{what}. One panel for each of {over}."


def _sliders(draw, values, panel) -> None:
    """One slider an axis, and one large panel that follows them."""
    import ipywidgets
    from IPython.display import display

    sliders = {
        name: ipywidgets.SelectionSlider(
            options=[(_label({name: value}).split(" = ", 1)[1], value) for value in sequence],
            description=name, continuous_update=False,
        )
        for name, sequence in values.items()
    }
    view = ipywidgets.HTML()

    def redraw(_change=None) -> None:
        import matplotlib.pyplot as plt

        chosen = {name: slider.value for name, slider in sliders.items()}
        fig, ax = plt.subplots(figsize=(2 * panel[0], 2 * panel[1]))
        _draw_panel(draw, ax, chosen, chosen)
        view.value = style.image_html(style.png_bytes(fig), _label(chosen), round(2 * panel[0] * style.SHOWN_PER_INCH))
        plt.close(fig)

    for slider in sliders.values():
        slider.observe(redraw, names="value")
    redraw()
    display(ipywidgets.VBox([*sliders.values(), view]))
