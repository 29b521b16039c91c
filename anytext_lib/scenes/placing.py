"""Place the lines of a scene: stacked or scattered, tilted, in perspective, inside the picture, not overlapping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anytext_lib.scenes.lettering import box_corners, transform


@dataclass(frozen=True)
class PlacedBoxes:
    """Boxes placed on a picture.

    Attributes:
        matrices: (n, 3, 3), from a box centred on 0 (pixels, before perspective) to edge coordinates of the picture.
        quads: (n, 4, 2), corners of the boxes on the picture in edge coordinates.
        shrink: factor that was applied to the wanted sizes.
        panel: (4, 2), corners of a rectangle around stacked lines, or None for scattered ones.
    """

    matrices: np.ndarray
    quads: np.ndarray
    shrink: float
    panel: np.ndarray | None


def perspective(rng: np.random.Generator, size: tuple[int, int], strength: float) -> np.ndarray:
    """A homography (3, 3) that moves each corner of a picture (H, W) by up to ``strength`` of its sides."""
    import cv2

    height, width = size
    corners = box_corners((0, 0, width, height))
    moved = corners + rng.uniform(-strength, strength, (4, 2)) * (width, height)
    return cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32)).astype(np.float64)


def place(rng: np.random.Generator, boxes: np.ndarray, heights: np.ndarray, smallest: np.ndarray,
          size: tuple[int, int], style: str, view: np.ndarray, tilt: float = 1.0) -> PlacedBoxes | None:
    """Place boxes on a picture, shrinking all of them step by step until they fit.

    Args:
        boxes: (n, 2) widths and heights in pixels as wanted.
        heights: (n,) letter heights as wanted; ``smallest``: (n,) what they may shrink to.
        size: (H, W). ``style``: "stack" (one block of lines, maybe tilted) or "scatter" (each for itself).
        view: (3, 3) perspective of the plane that carries the lines. ``tilt``: factor of the random angles.

    Returns:
        the placement, or None if the lines do not fit even at their smallest.
    """
    lay_out = {"stack": _stack, "scatter": _scatter}[style]
    shrink = 1.0
    while (heights * shrink >= smallest - 1e-9).all():
        for _ in range(3):
            found = lay_out(rng, boxes * shrink, size, tilt)
            if found is None:
                continue
            matrices, panel = found
            matrices = view @ matrices
            quads = np.stack([transform(box_corners((-w / 2, -h / 2, w / 2, h / 2)), m)
                              for (w, h), m in zip(boxes * shrink, matrices, strict=True)])
            if _inside(quads, size) and not _overlap(quads):
                return PlacedBoxes(matrices, quads, shrink, None if panel is None else transform(panel, view))
        shrink *= 0.93
    return None


def _pose(centre: np.ndarray, angle: float) -> np.ndarray:
    """Turn by ``angle`` (radians, clockwise on the screen), then move 0 to ``centre``."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, centre[0]], [s, c, centre[1]], [0, 0, 1.0]])


def _stack(rng, boxes, size, tilt):
    """One block of lines under each other, aligned at the left, centre or right."""
    height, width = size
    n = len(boxes)
    gaps = boxes[:, 1].mean() * rng.uniform(0.12, 0.6, n)
    tops = np.concatenate([[0], np.cumsum(boxes[:, 1] + gaps)])[:n]
    total = np.array([boxes[:, 0].max(), tops[-1] + boxes[-1, 1]])
    align = (-0.5, 0.0, 0.0, 0.5)[rng.integers(4)]
    centres = np.stack([align * (total[0] - boxes[:, 0]), tops + boxes[:, 1] / 2 - total[1] / 2], axis=1)
    angle = tilt * np.deg2rad(rng.normal(0, 5)) if rng.random() < 0.6 else 0.0
    room = np.maximum(np.array([width, height]) * 0.95 - total, 0)
    block = _pose(np.array([width, height]) / 2 + rng.uniform(-0.5, 0.5, 2) * room, angle)
    half = total / 2 + boxes[:, 1].mean() * np.array([0.55, 0.42])
    panel = transform(box_corners((-half[0], -half[1], half[0], half[1])), block)
    return np.stack([block @ _pose(centre, 0) for centre in centres]), panel


def _scatter(rng, boxes, size, tilt):
    """Each line at its own place and angle; None if no free place is found."""
    chosen, quads = [], []
    for w, h in boxes:
        for _ in range(12):
            angle = tilt * np.deg2rad(np.clip(rng.normal(0, 9), -28, 28))
            reach = np.array([w * np.cos(angle) + h * abs(np.sin(angle)), h * np.cos(angle) + w * abs(np.sin(angle))])
            room = np.array([size[1], size[0]]) - reach
            if (room < 0).any():
                continue
            matrix = _pose(reach / 2 + rng.random(2) * room, angle)
            quad = transform(box_corners((-w / 2, -h / 2, w / 2, h / 2)), matrix)
            if not _overlap(np.stack([*quads, quad])):
                chosen.append(matrix)
                quads.append(quad)
                break
        else:
            return None
    return np.stack(chosen), None


def _inside(quads: np.ndarray, size: tuple[int, int]) -> bool:
    border = max(1.0, 0.008 * min(size))
    return bool((quads >= border).all() and (quads <= np.array([size[1], size[0]]) - border).all())


def _overlap(quads: np.ndarray) -> bool:
    """Whether any two quads (n, 4, 2) meet, with a little space around each."""
    import cv2

    centres = quads.mean(axis=1, keepdims=True)
    away = quads - centres
    grown = (centres + away * (1 + 4 / np.maximum(np.linalg.norm(away, axis=2, keepdims=True), 4))).astype(np.float32)
    for i in range(len(grown)):
        for j in range(i):
            area, _ = cv2.intersectConvexConvex(grown[i], grown[j])
            if area > 0:
                return True
    return False
