"""Colours: palettes that go together, and text colours that stand out from what lies behind them."""

from __future__ import annotations

import colorsys

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
