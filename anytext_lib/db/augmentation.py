r"""Pictures for training, changed at random with the polygons of their texts: mirrored, turned, resized, cropped.

A picture is moved by one affine map, its polygons by the same, in pixels with the centre of the first at (0, 0),

.. math:: p' = S R F p, \quad F: x \to W - 1 - x, \quad S: x \to s (x + \tfrac{1}{2}) - \tfrac{1}{2}

with R a turn about the centre.  Then a window is cut out whose borders cross no text, fitted into a square, and filled
up with black on the right or at the bottom.  Because of this fitting the factor s changes sharpness only, not sizes:
how large a text becomes is decided by the window.
Source: PaddleOCR ``configs/det/det_mv3_db.yml`` (Fliplr .5, rotate 10 degrees, Resize .5 to 3, EastRandomCropData),
``ppocr/data/imaug/random_crop_data.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anytext_lib.db.detector_training import SceneBatch, make_batch
from anytext_lib.scenes.rendering import Scene

Window = tuple[int, int, int, int]  # left, top, width, height in pixels


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each picture; the defaults are PaddleOCR's.

    Attributes:
        flip: probability of the mirror image. ``angle``: largest turn, degrees. ``scale``: least and greatest factor.
        tries: windows that are drawn until one holds a text and is large enough, else the whole picture is taken.
        least: smallest side of a window, share of the picture's.
    """

    flip: float = 0.5
    angle: float = 10.0
    scale: tuple[float, float] = (0.5, 3.0)
    tries: int = 10
    least: float = 0.1

    def __call__(self, scene: Scene, side: int, rng: np.random.Generator) -> Scene:
        """A changed picture of side x side pixels with those of its texts that lie in it."""
        height, width = scene.image.shape[:2]
        mirror = flip_map(width) if rng.random() < self.flip else np.eye(3)
        turn = turn_map((height, width), rng.uniform(-self.angle, self.angle))
        factor = rng.uniform(*self.scale)
        size = max(1, round(height * factor)), max(1, round(width * factor))
        changed = move(scene, resize_map((height, width), size) @ turn @ mirror, size)
        polygons = [line.polygon for line in changed.lines if line.valid]
        return fit_window(changed, draw_window(polygons, size, rng, self.tries, self.least), side)


def flip_map(width: int) -> np.ndarray:
    """(3, 3) of the mirror image of a picture ``width`` pixels wide."""
    return np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])


def turn_map(size: tuple[int, int], degrees: float) -> np.ndarray:
    """(3, 3) of a turn about the centre of a picture of ``size`` (H, W), clockwise on the screen."""
    angle, centre = np.deg2rad(degrees), np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    result = np.eye(3)
    result[:2, :2], result[:2, 2] = rotation, centre - rotation @ centre
    return result


def resize_map(size: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """(3, 3) from a picture of ``size`` (H, W) to one of ``target``: pixels are areas, not points."""
    fy, fx = target[0] / size[0], target[1] / size[1]
    return np.array([[fx, 0, (fx - 1) / 2], [0, fy, (fy - 1) / 2], [0, 0, 1]])


def move_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (P, 2) under an affine map (3, 3)."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def move(scene: Scene, matrix: np.ndarray, size: tuple[int, int]) -> Scene:
    """A picture and its polygons under an affine map, on a black canvas of ``size`` (H, W)."""
    import cv2

    image = cv2.warpAffine(scene.image, matrix[:2], size[::-1], flags=cv2.INTER_LINEAR)
    return replace(scene, image=image, lines=[replace(line, polygon=move_points(line.polygon, matrix))
                                              for line in scene.lines])


def draw_window(polygons: Sequence[np.ndarray], size: tuple[int, int], rng: np.random.Generator, tries: int = 10,
                least: float = 0.1) -> Window:
    """A window of a picture of ``size`` (H, W) with a text in it, whose borders cross none.

    Both ends of a side are drawn among the columns (rows) without text: from two stretches of such columns, drawn with
    replacement, if there are several.  Where all columns or rows have text, or no try succeeds, it is all of the
    picture.
    """
    height, width = size
    columns, rows = np.ones(width, bool), np.ones(height, bool)
    boxes = [(*np.rint(polygon.min(axis=0)).astype(int), *np.rint(polygon.max(axis=0)).astype(int))
             for polygon in polygons]
    for left, top, right, bottom in boxes:
        columns[max(left, 0) : max(right, 0)] = False
        rows[max(top, 0) : max(bottom, 0)] = False
    whole = 0, 0, width, height
    if not columns.any() or not rows.any():
        return whole
    for _ in range(tries):
        (left, right), (top, bottom) = _draw_ends(columns, rng), _draw_ends(rows, rng)
        if right - left < max(least * width, 1) or bottom - top < max(least * height, 1):
            continue
        if any(x1 > left and x0 < right and y1 > top and y0 < bottom for x0, y0, x1, y1 in boxes):
            return left, top, right - left, bottom - top
    return whole


def _draw_ends(free: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Two of the free places, in order: of two stretches if there are several."""
    places = np.flatnonzero(free)
    stretches = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    chosen = [places, places] if len(stretches) == 1 else [stretches[i] for i in rng.integers(len(stretches), size=2)]
    first, second = (int(rng.choice(stretch)) for stretch in chosen)
    return min(first, second), max(first, second)


def fit_window(scene: Scene, window: Window, side: int) -> Scene:
    """What a window shows, as large as fits into side x side pixels, with the texts that reach into it."""
    import cv2

    left, top, width, height = window
    factor = min(side / width, side / height)
    size = max(1, int(height * factor)), max(1, int(width * factor))
    part = scene.image[top : top + height, left : left + width]
    image = np.zeros((side, side, 3), np.uint8)
    image[: size[0], : size[1]] = cv2.resize(part, size[::-1],
                                             interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    matrix = resize_map((height, width), size) @ np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
    lines = [replace(line, polygon=move_points(line.polygon, matrix)) for line in scene.lines]
    inside = [line for line in lines if (line.polygon.max(axis=0) > 0).all()
              and (line.polygon.min(axis=0) < np.array(size[::-1]) - 1).all()]
    return replace(scene, image=image, lines=inside)


def whole_picture(scene: Scene, side: int) -> Scene:
    """A picture unchanged but fitted into side x side pixels."""
    return fit_window(scene, (0, 0, scene.image.shape[1], scene.image.shape[0]), side)


def labelled_batches(pictures: Sequence[Scene], steps: int, batch_size: int, side: int, seed: int = 0,
                     augmentation: Augmentation | None = None) -> Iterator[SceneBatch]:
    """``steps`` batches of pictures, epoch after epoch in a new order; the same for the same seed.

    Args:
        augmentation: None takes each picture as a whole.
    """
    order: list[int] = []
    for step in range(steps):
        scenes = []
        for place in range(batch_size):
            if not order:
                order = np.random.default_rng([seed, step, place, 51]).permutation(len(pictures)).tolist()
            scene, rng = pictures[order.pop()], np.random.default_rng([seed, step, place, 52])
            scenes.append(whole_picture(scene, side) if augmentation is None else augmentation(scene, side, rng))
        yield make_batch(scenes)
