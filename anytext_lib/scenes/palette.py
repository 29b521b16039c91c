"""Colours of a scene: palettes that go together, inks that stand out, and procedural backgrounds.

A background is a function ``BACKGROUNDS[kind](rng, height, width, palette)`` -> (H, W, 3) float32 in 0..255.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB (3,) float32 in 0..255 of a colour given in [0, 1] (the hue wraps around)."""
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32) * 255


def luminance(rgb: np.ndarray) -> np.ndarray:
    """Relative luminance in [0, 1] of (..., 3) sRGB in 0..255 (WCAG 2.1)."""
    c = np.asarray(rgb, np.float64) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def contrast(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Contrast ratio, 1 (none) to 21 (black on white), of two colours (..., 3) in 0..255 (WCAG 2.1)."""
    la, lb = luminance(a), luminance(b)
    return (np.maximum(la, lb) + 0.05) / (np.minimum(la, lb) + 0.05)


def worst_contrast(colour: np.ndarray, behind: np.ndarray) -> float:
    """Contrast of ``colour`` (3,) with the least favourable tenth of the pixels ``behind`` (N, 3)."""
    return float(np.percentile(contrast(colour[None], behind), 10))


class Palette:
    """A few hues that go together, drawn once for a scene."""

    def __init__(self, rng: np.random.Generator):
        base = rng.random()
        step = (0.08, 0.33, 0.5, 0.42)[rng.integers(4)]
        self.hues = (base, base + step, base - step)
        self.dark = bool(rng.random() < 0.42)

    def ground(self, rng: np.random.Generator) -> np.ndarray:
        """A background colour: light and soft, or dark and full."""
        hue = self.hues[rng.integers(2)] + rng.normal(0, 0.02)
        if self.dark:
            return hsv(hue, rng.uniform(0.25, 0.85), rng.uniform(0.12, 0.42))
        return hsv(hue, rng.uniform(0.05, 0.5), rng.uniform(0.78, 1.0))

    def ink(self, rng: np.random.Generator) -> np.ndarray:
        """A text colour of any lightness: three of four are coloured, the rest nearly grey."""
        saturation = rng.uniform(0.45, 1) if rng.random() < 0.75 else rng.uniform(0, 0.12)
        return hsv(self.hues[rng.integers(3)] + rng.normal(0, 0.03), saturation, rng.uniform(0.05, 1))


class FreePalette(Palette):
    """Grounds of a palette under text of any colour: half of the inks from the whole of RGB, half of a full hue or
    nearly grey."""

    def ink(self, rng: np.random.Generator) -> np.ndarray:
        """A text colour that has nothing to do with the ground."""
        if rng.random() < 0.5:
            return rng.uniform(0, 255, 3).astype(np.float32)
        saturation = rng.uniform(0.6, 1) if rng.random() < 0.75 else rng.uniform(0, 0.1)
        return hsv(rng.random(), saturation, rng.uniform(0.1, 1))


def readable_ink(rng: np.random.Generator, palette: Palette, behind: np.ndarray,
                 wanted: float = 4.0) -> tuple[np.ndarray, float]:
    """A text colour with a contrast of ``wanted`` against the pixels ``behind`` (N, 3), or the best of 40.

    Returns:
        (colour (3,) float32 in 0..255, its worst contrast).
    """
    best, best_score = None, 0.0
    for trial in range(40):
        colour = palette.ink(rng) if trial < 38 else np.full(3, (12, 246)[trial - 38], np.float32)
        score = worst_contrast(colour, behind)
        if score >= wanted:
            return colour, score
        if score > best_score:
            best, best_score = colour, score
    return best, best_score


def value_noise(rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 4,
                stretch: float = 1.0) -> np.ndarray:
    """Smooth noise (H, W) float32 in [0, 1]: random grids of ``cells`` cells a side and finer, enlarged and summed.

    ``stretch`` > 1 draws it out along x.
    """
    import cv2

    total, weight = np.zeros((height, width), np.float32), 1.0
    for octave in range(octaves):
        n = cells * 2**octave
        grid = rng.random((max(2, int(n * height / max(height, width)) + 2),
                           max(2, int(n * width / max(height, width) / stretch) + 2)), dtype=np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        weight *= 0.5
    return (total - total.min()) / max(float(np.ptp(total)), 1e-6)


def mix(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Blend the colours ``a`` and ``b`` by a map ``t`` (H, W) in [0, 1]."""
    return (a + (b - a) * np.clip(t, 0, 1)[..., None]).astype(np.float32)


def _axes(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return x / max(width, height), y / max(width, height)


def flat(rng, height, width, palette):
    """One colour."""
    return np.broadcast_to(palette.ground(rng), (height, width, 3)).astype(np.float32)


def gradient(rng, height, width, palette):
    """Two or three colours along a direction."""
    x, y = _axes(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    t = x * np.cos(angle) + y * np.sin(angle)
    t = (t - t.min()) / max(float(np.ptp(t)), 1e-6)
    a, b, c = (palette.ground(rng) for _ in range(3))
    return mix(a, b, t) if rng.random() < 0.5 else mix(mix(a, b, 2 * t), c, 2 * t - 1)


def radial(rng, height, width, palette):
    """A glow around a point."""
    x, y = _axes(height, width)
    r = np.hypot(x - rng.uniform(0.2, 0.8) * x.max(), y - rng.uniform(0.2, 0.8) * y.max())
    return mix(palette.ground(rng), palette.ground(rng), r / rng.uniform(0.5, 0.9))


def clouds(rng, height, width, palette):
    """Soft blotches of two colours."""
    return mix(palette.ground(rng), palette.ground(rng), value_noise(rng, height, width, rng.uniform(2, 5)))


def stripes(rng, height, width, palette):
    """Slanted stripes with a soft edge."""
    x, y = _axes(height, width)
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(0.05, 0.16)
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / pitch)
    a = palette.ground(rng)
    return mix(a, _neighbour(rng, palette, a), 0.5 + 0.5 * np.clip(wave * pitch * 60, -1, 1))


def dots(rng, height, width, palette):
    """A slanted lattice of dots."""
    x, y = _axes(height, width)
    angle, pitch, size = rng.uniform(0.2, 1.2), rng.uniform(0.05, 0.11), rng.uniform(0.18, 0.34)
    u = (x * np.cos(angle) + y * np.sin(angle)) / pitch
    v = (-x * np.sin(angle) + y * np.cos(angle)) / pitch
    r = np.hypot(u - np.round(u), v - np.round(v))
    a = palette.ground(rng)
    return mix(a, _neighbour(rng, palette, a), (size - r) * pitch * 300 + 0.5)


def _neighbour(rng, palette: Palette, colour: np.ndarray) -> np.ndarray:
    """A colour near ``colour``, so that a pattern stays behind the text."""
    other = palette.ground(rng)
    return colour + (other - colour) * min(1.0, rng.uniform(35, 60) / max(float(np.abs(other - colour).max()), 1))


def bokeh(rng, height, width, palette):
    """Lights out of focus before the dark."""
    import cv2

    base = mix(hsv(palette.hues[0], 0.7, 0.10), hsv(palette.hues[1], 0.6, 0.22), value_noise(rng, height, width, 2, 2))
    scale = min(height, width)
    for _ in range(int(rng.integers(14, 30))):
        light = np.zeros((height, width), np.float32)
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        radius = max(2, int(scale * rng.uniform(0.02, 0.09)))
        cv2.circle(light, centre, radius, 1.0, -1, cv2.LINE_AA)
        light = cv2.GaussianBlur(light, (0, 0), max(0.6, radius * rng.uniform(0.08, 0.3)))
        hue = palette.hues[rng.integers(3)] + rng.normal(0, 0.04)
        base += light[..., None] * hsv(hue, rng.uniform(0.3, 0.8), 1) * rng.uniform(0.12, 0.5)
    return np.clip(base, 0, 255)


def shapes(rng, height, width, palette):
    """Large blurred discs and polygons."""
    import cv2

    image = np.ascontiguousarray(flat(rng, height, width, palette))
    scale = max(height, width)
    for _ in range(int(rng.integers(3, 8))):
        colour = [float(c) for c in palette.ground(rng)]
        centre = rng.uniform(0, 1, 2) * (width, height)
        if rng.random() < 0.5:
            cv2.circle(image, [int(v) for v in centre], int(scale * rng.uniform(0.1, 0.35)), colour, -1, cv2.LINE_AA)
        else:
            points = centre + rng.normal(0, scale * 0.25, (int(rng.integers(3, 6)), 2))
            cv2.fillConvexPoly(image, cv2.convexHull(points.astype(np.int32)), colour, cv2.LINE_AA)
    return cv2.GaussianBlur(image, (0, 0), scale * rng.choice([0.002, 0.01, 0.04]))


def bricks(rng, height, width, palette):
    """Courses of bricks with mortar, each brick its own tone."""
    rows = rng.uniform(9, 15) * height / max(height, width)
    hue = palette.hues[0] if rng.random() < 0.15 else rng.uniform(0.01, 0.08)
    value = rng.uniform(0.25, 0.45) if palette.dark else rng.uniform(0.6, 0.8)
    return _masonry(rng, height, width, height / rows, 2.4, hsv(hue, rng.uniform(0.3, 0.6), value), offset=0.5)


def tiles(rng, height, width, palette):
    """Square tiles with thin joints."""
    return _masonry(rng, height, width, max(height, width) / rng.uniform(5, 9), 1.0, palette.ground(rng), offset=0.0)


def _masonry(rng, height, width, pitch, ratio, colour, offset):
    """Blocks ``pitch`` pixels high and ``ratio`` times as wide; odd courses are shifted by ``offset`` blocks."""
    import cv2

    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    shift = rng.uniform(0, pitch, 2)
    row = np.floor((y + shift[1]) / pitch).astype(int)
    u = (x + shift[0]) / (pitch * ratio) + offset * (row % 2)
    column = np.floor(u).astype(int)
    tones = rng.normal(0, 7, (row.max() + 2, column.max() + 2)).astype(np.float32)
    tone = tones[row, column] + 18 * (value_noise(rng, height, width, 24, 3) - 0.5)
    fy, fx = (y + shift[1]) / pitch - row, u - column
    edge = np.minimum(np.minimum(fy, 1 - fy), np.minimum(fx, 1 - fx) * ratio)
    joint = np.clip(1.5 - edge * pitch / max(1.0, pitch * 0.05), 0, 1)
    joint = cv2.GaussianBlur(joint, (0, 0), max(0.5, pitch * 0.02))
    grout = colour * 0.55 + 0.45 * float(colour.mean()) + (28 if colour.mean() < 150 else -34)
    return np.clip(mix(colour, grout, joint) + tone[..., None] * (1 - joint[..., None]), 0, 255)


def wood(rng, height, width, palette):
    """Boards with a grain along x."""
    grain = value_noise(rng, height, width, 5, 4, stretch=8)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * grain * rng.uniform(4, 9))
    value = rng.uniform(0.22, 0.38) if palette.dark else rng.uniform(0.7, 0.92)
    hue, saturation = rng.uniform(0.05, 0.11), rng.uniform(0.3, 0.6)
    image = mix(hsv(hue, saturation, value), hsv(hue - 0.01, saturation + 0.08, value * 0.8), rings * 0.6 + grain * 0.4)
    pitch = height / rng.integers(3, 7) if height > 96 else height * 2.0
    y = (np.arange(height, dtype=np.float32) + rng.uniform(0, pitch)) / pitch
    board = rng.normal(1, 0.05, int(y.max()) + 2).astype(np.float32)[y.astype(int)]
    seam = np.minimum(y % 1, 1 - y % 1) * pitch < max(1.0, height / 340)
    return np.clip(image * (board * np.where(seam, 0.6, 1))[:, None, None], 0, 255).astype(np.float32)


def paper(rng, height, width, palette):
    """Old paper: fibres, stains, darker edges."""
    tint = hsv(rng.uniform(0.08, 0.14), rng.uniform(0.08, 0.28), rng.uniform(0.85, 0.97))
    stains = value_noise(rng, height, width, 3, 5)
    fibres = value_noise(rng, height, width, 60, 2, stretch=3)
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    edge = 1 - 0.16 * np.maximum(np.abs(x)[None, :] ** 6, np.abs(y)[:, None] ** 6)
    return np.clip(tint * (edge * (0.9 + 0.1 * stains))[..., None] + 14 * (fibres - 0.5)[..., None], 0, 255)


BACKGROUNDS: dict[str, Callable] = {
    "flat": flat, "gradient": gradient, "radial": radial, "clouds": clouds, "stripes": stripes, "dots": dots,
    "bokeh": bokeh, "shapes": shapes, "bricks": bricks, "wood": wood, "paper": paper, "tiles": tiles,
}
