"""A canvas to draw regions on: boxes by dragging, polygons corner by corner."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as w
import numpy as np
from ipycanvas import MultiCanvas, hold_canvas
from traitlets import Unicode

from anytext_lib.studio.sketch import Point

CLOSE = 10.0  # pixels on the screen: a click so near to the first corner closes a polygon
UNFINISHED = "#D55E00"


class DrawingArea(MultiCanvas):
    """Two layers to draw on, whose ``tooltip`` is the title of the <canvas>, and with it its accessible name.

    The widgets of JupyterLab give a title to what has an empty description, and ipycanvas has none at all.
    """

    description = Unicode("").tag(sync=True)


class Stage(w.Box):
    """A picture on a canvas, and what is being drawn on it.

    Args:
        side: pixels on the screen, of the longer side. ``boxed``: is called with two points (x, y) in pixels of the
            picture after a drag. ``outlined``: is called with the corners of a polygon; None: there are boxes only.

    Attributes:
        tool: "box" or "polygon". ``zoom``: pixels on the screen for each of the picture.
    """

    def __init__(self, side: int, boxed: Callable, outlined: Callable | None = None):
        super().__init__()
        self._side, self._boxed, self._outlined = side, boxed, outlined
        self.tool, self.zoom = "box", 1.0
        self._start: Point | None = None
        self._corners: list[Point] = []
        self.canvas = DrawingArea(2)

    def fit(self, width: int, height: int) -> None:
        """A new canvas for a picture of this size."""
        self.zoom = self._side / max(width, height)
        size = {"width": round(width * self.zoom), "height": round(height * self.zoom)}
        canvas = self.canvas = DrawingArea(2, **size)
        canvas.layout = w.Layout(border="1px solid #888", **{side: f"{value}px" for side, value in size.items()})
        canvas.on_mouse_down(lambda x, y: self._pressed(x, y))
        canvas.on_mouse_move(lambda x, y: self._moved(x, y))
        for event in (canvas.on_mouse_up, canvas.on_mouse_out):  # a drag ends where the mouse leaves the canvas
            event(lambda x, y: self._released(x, y))
        self._start, self._corners = None, []
        self.children = [canvas]

    def show(self, picture: np.ndarray, described: str) -> None:
        """Show a picture (height, width, 3) uint8 at the size of the canvas, and say what it is."""
        with hold_canvas():
            self.canvas[0].put_image_data(picture, 0, 0)
        self.canvas.tooltip = described  # its accessible name: it becomes the title of the <canvas>

    def choose(self, tool: str) -> None:
        """Take another tool; a polygon that was begun is given up."""
        self.tool, self._corners = tool, []
        self.canvas[1].clear()

    def finish(self) -> None:
        """Finish the polygon that was begun."""
        corners, self._corners = self._corners, []
        self.canvas[1].clear()
        if self._outlined is not None:
            self._outlined([(x / self.zoom, y / self.zoom) for x, y in corners])

    def _pressed(self, x: float, y: float) -> None:
        if self.tool == "box":
            self._start = x, y
        elif len(self._corners) >= 3 and np.hypot(x - self._corners[0][0], y - self._corners[0][1]) < CLOSE:
            self.finish()
        else:
            self._corners.append((x, y))
            self._show_path([])

    def _moved(self, x: float, y: float) -> None:
        if self._start is not None:
            with hold_canvas():
                self.canvas[1].clear()
                self.canvas[1].stroke_style = UNFINISHED
                self.canvas[1].stroke_rect(*self._start, x - self._start[0], y - self._start[1])
        elif self._corners:
            self._show_path([(x, y)])

    def _released(self, x: float, y: float) -> None:
        if self._start is not None:
            start, self._start = self._start, None
            self.canvas[1].clear()
            self._boxed(*((px / self.zoom, py / self.zoom) for px, py in (start, (x, y))))

    def _show_path(self, more: list[Point]) -> None:
        points = [*self._corners, *more]
        with hold_canvas():
            self.canvas[1].clear()
            self.canvas[1].stroke_style = UNFINISHED
            self.canvas[1].stroke_circle(*self._corners[0], CLOSE)
            if len(points) > 1:
                self.canvas[1].stroke_lines(np.array(points))
