"""explore: the grid that is always there, and the sliders that come with a front end."""

from __future__ import annotations

import ipywidgets
import matplotlib.pyplot as plt
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from anytext_lib.course import explore
from anytext_lib.course.explore import FRONT_END_VARIABLES, grid_plan

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(autouse=True)
def no_front_end(monkeypatch):
    """A shell without a front end, whatever the tests themselves run in."""
    for name in FRONT_END_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    InteractiveShell.instance()


class Draw:
    """A drawing function that remembers what it was asked for."""

    __doc__ = "The line of a slope."

    def __init__(self):
        self.calls = []

    def __call__(self, ax, **values):
        self.calls.append(values)
        ax.plot([0, 1], [0, values["t"]])


def explored(draw, **axes) -> list:
    """The outputs of one call."""
    with capture_output() as captured:
        explore(draw, **axes)
    return captured.outputs


def test_saved_page_holds_one_picture_with_words_and_no_widget():
    draw = Draw()
    image, caption = explored(draw, t=[0, 1, 2])
    assert image.metadata["image/png"]["alt"] == "The line of a slope. One panel for each of t = 0, 1, 2."
    assert image.data["image/png"] and caption.data["text/plain"] == "The line of a slope."
    assert WIDGET not in image.data | caption.data and draw.calls == [{"t": 0}, {"t": 1}, {"t": 2}]
    assert not plt.get_fignums(), "the figure is closed, so Jupyter does not show it again"


def test_one_axis_wraps_into_columns():
    combinations, columns, fixed = grid_plan({"t": [1, 2, 3, 4, 5]}, columns=3)
    assert [c["t"] for c in combinations] == [1, 2, 3, 4, 5] and columns == 3 and fixed == {}
    assert grid_plan({"t": [1, 2]}, columns=4)[1] == 2


def test_two_axes_run_along_columns_and_rows():
    combinations, columns, fixed = grid_plan({"t": [1, 2, 3], "k": [10, 20]}, columns=4)
    assert columns == 3 and fixed == {}
    assert combinations == [{"t": t, "k": k} for k in (10, 20) for t in (1, 2, 3)]


def test_further_axes_stay_at_their_first_value():
    combinations, columns, fixed = grid_plan({"t": [1, 2], "k": [10, 20], "z": [7, 8]}, columns=4)
    assert fixed == {"z": 7} and len(combinations) == 4 and all(c["z"] == 7 for c in combinations)
    combinations, columns, fixed = grid_plan({"t": list(range(10)), "k": [1, 2, 3]}, columns=5)
    assert fixed == {"k": 1} and len(combinations) == 10 and columns == 5, "30 panels are too many"


@pytest.mark.parametrize("variable", FRONT_END_VARIABLES)
def test_sliders_follow_the_values_when_a_front_end_is_there(monkeypatch, variable):
    monkeypatch.setenv(variable, "a front end")
    made, views = [], []
    slider, html = ipywidgets.SelectionSlider, ipywidgets.HTML
    monkeypatch.setattr(ipywidgets, "SelectionSlider", lambda **kw: made.append(slider(**kw)) or made[-1])
    monkeypatch.setattr(ipywidgets, "HTML", lambda: views.append(html()) or views[-1])
    draw = Draw()
    image, _, widget = explored(draw, t=[0.0, 0.5], k=[1, 2])
    assert image.data["image/png"] and WIDGET in widget.data
    assert [slider.description for slider in made] == ["t", "k"]
    before = len(draw.calls)
    assert draw.calls[-1] == {"t": 0.0, "k": 1}
    made[0].value = 0.5
    made[1].value = 2
    assert draw.calls[before:] == [{"t": 0.5, "k": 1}, {"t": 0.5, "k": 2}]
    assert 'alt="t = 0.5, k = 2"' in views[0].value
    assert not plt.get_fignums()


def test_titles_of_panels_name_the_values_unless_draw_gave_one(monkeypatch):
    titles = []

    def draw(ax, t):
        if t == 2:
            ax.set_title("mine")

    monkeypatch.setattr("anytext_lib.course.style.show",
                        lambda fig, alt: titles.extend(ax.get_title() for ax in fig.axes) or plt.close(fig))
    explore(draw, t=[1, 2, 0.25])
    assert titles[:3] == ["t = 1", "mine", "t = 0.25"]


@pytest.mark.parametrize(
    ("arguments", "axes", "error", "message"),
    [
        ((3,), {"t": [1]}, TypeError, "must be a function"),
        ((print,), {}, ValueError, "at least one axis"),
        ((print,), {"t": []}, ValueError, "'t' has no values"),
    ],
)
def test_wrong_requests_are_explained(arguments, axes, error, message):
    with pytest.raises(error, match=message):
        explore(*arguments, **axes)


def test_errors_of_draw_are_not_swallowed():
    def draw(ax, t):
        raise RuntimeError("in draw")

    with pytest.raises(RuntimeError, match="in draw"):
        explore(draw, t=[1])
    plt.close("all")
