"""Pictures with writing, made from a seed: exact polygons, several fonts and backgrounds, some lines illegible."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from anytext_lib.data.batch import to_tensor
from anytext_lib.data.lines import TextLines, polygon_mask
from anytext_lib.scenes.lettering import draw_ink, finish
from anytext_lib.scenes.painting import PlannedLine, SceneStyle, draw_line, draw_panel, plan_line
from anytext_lib.scenes.palette import BACKGROUNDS
from anytext_lib.scenes.placing import PlacedBoxes, perspective, place
from anytext_lib.scenes.words import draw_caption

ANYTHING = SceneStyle()


@dataclass(frozen=True)
class SceneLine:
    """One line of text on a scene.

    Attributes:
        text, language: what it says; 'Latin' or 'Chinese' (names of AnyWord).
        polygon: (4, 2) float64, pixels (x, y) with the centre of the first pixel at (0, 0), order tl, tr, br, bl: the
            box of the ink plus a margin (``SceneStyle``), through the same homography as the ink.
        font: name of the font, None if unknown (read from a file).
        color: RGB of the letters in 0..255, None if unknown.
        valid: False for a line that is illegible or struck out, to be left out of training.
        style: how it was drawn: 'trouble' (None, 'blurred', 'tiny', 'faint' or 'struck'), 'height' in pixels, ...
    """

    text: str
    language: str
    polygon: np.ndarray
    font: str | None
    color: tuple[int, int, int] | None
    valid: bool = True
    style: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """A picture with writing.

    Attributes:
        image: (H, W, 3) uint8, RGB. ``lines``: its lines. ``caption``: a sentence that quotes the valid ones.
        seed: seed that it was drawn from, None if it was read from a file. ``background``: kind, or None.
        name: file name, if it was read from a file.
    """

    image: np.ndarray
    lines: list[SceneLine]
    caption: str
    seed: int | None = None
    background: str | None = None
    name: str | None = None

    @property
    def valid_lines(self) -> list[SceneLine]:
        """The lines that can be read."""
        return [line for line in self.lines if line.valid]


def render_scene(seed: int, size: int | tuple[int, int] = 512, *, texts: Sequence[str] | None = None,
                 n_lines: int | tuple[int, int] | None = None, languages: Sequence[str] = ("Latin", "Chinese"),
                 max_chars: int = 20, invalid: float = 0.18, background: str | None = None,
                 effects: bool = True, style: SceneStyle = ANYTHING) -> Scene:
    """Draw a scene; equal arguments give equal bytes, whatever was drawn before.

    Args:
        seed: any non-negative integer.
        size: side in pixels, or (H, W); at least 32 each.
        texts: lines to write; by default words are drawn.
        n_lines: number of lines, or (least, most), for drawn words; by default 1 to 5, fewer on small pictures.  Lines
            that find no room are left out, the first one never.
        languages: languages of the drawn words, one is chosen for each line ('Latin' twice as often).
        max_chars: most characters of a drawn word.
        invalid: probability that a line is spoilt (blurred, tiny, faint or struck out) and marked invalid; one line
            of a scene at least stays valid.
        background: a name in ``BACKGROUNDS``; by default one is drawn.
        effects: perspective, tilt, shadows, blur, uneven light and noise; False leaves them all out.
        style: fonts, backgrounds and inks to choose from.

    Raises:
        ValueError: an argument is out of range, or ``texts`` do not fit on the picture. MissingGlyphError: no font
        has a character of ``texts``.
    """
    size, kind = _check_scene(size, invalid, background)
    rng = np.random.default_rng([int(seed), 20_240])
    palette = style.palette(rng)
    kind = kind or style.backgrounds[rng.integers(len(style.backgrounds))]
    canvas = BACKGROUNDS[kind](rng, *size, palette)
    plans = _plan(rng, size, texts, n_lines, languages, max_chars, invalid, style)
    layouts = ("stack", "stack", "sign", "scatter") if style.signs else ("stack", "scatter")
    layout = layouts[rng.integers(len(layouts))]
    view = perspective(rng, size, rng.uniform(0.02, 0.09)) if effects and rng.random() < 0.6 else np.eye(3)
    plans, placed = _fit_lines(rng, plans, size, "stack" if layout == "sign" else layout, view, effects,
                               texts is not None, style)
    if layout == "sign" and placed.panel is not None:
        canvas = draw_panel(rng, canvas, placed.panel, palette)
    lines = []
    for plan, matrix, quad in zip(plans, placed.matrices, placed.quads, strict=True):
        color, details = draw_line(rng, canvas, plan, plan.height * placed.shrink, matrix, quad, palette, effects,
                                   style.contrast)
        lines.append(SceneLine(plan.text, plan.language, quad - 0.5, plan.font, color, plan.trouble is None, details))
    caption = draw_caption(rng, kind, [line.text for line in lines if line.valid])
    return Scene(_photograph(rng, canvas, lines, effects), lines, caption, int(seed), kind)


def scene_batch(scenes: Sequence[Scene]) -> tuple[torch.Tensor, TextLines, torch.Tensor]:
    """Scenes of one size as a batch.

    Returns:
        images (B, 3, H, W) float32 in [-1, 1]; the valid lines, their quads being the exact polygons;
        invalid_mask (B, 1, H, W) float32, 1 inside the polygons of the other lines.

    Raises:
        ValueError: no scene, or scenes of different sizes.
    """
    if not scenes:
        raise ValueError("a batch needs at least one scene")
    images = to_tensor([scene.image for scene in scenes])
    rows = [(i, line) for i, scene in enumerate(scenes) for line in scene.lines if line.valid]
    quads = np.array([line.polygon for _, line in rows], np.float32).reshape(-1, 4, 2)
    lines = TextLines(torch.tensor([i for i, _ in rows], dtype=torch.int64), torch.from_numpy(quads),
                      [line.text for _, line in rows], [line.language for _, line in rows])
    masks = torch.zeros(len(scenes), 1, *images.shape[2:])
    for i, scene in enumerate(scenes):
        for line in scene.lines:
            if not line.valid:
                masks[i, 0] = torch.maximum(masks[i, 0], torch.from_numpy(
                    polygon_mask(line.polygon, scene.image.shape[:2]) / np.float32(255)))
    return images, lines, masks


def render_batch(seeds: Iterable[int], size: int | tuple[int, int],
                 **options) -> tuple[torch.Tensor, TextLines, torch.Tensor]:
    """``scene_batch`` of ``render_scene(seed, size, **options)`` for each seed."""
    return scene_batch([render_scene(seed, size, **options) for seed in seeds])


def _check_scene(size, invalid, background) -> tuple[tuple[int, int], str | None]:
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 32:
        raise ValueError(f"a scene is at least 32 x 32 pixels, got {height} x {width}")
    if not 0 <= invalid <= 1:
        raise ValueError(f"invalid is a probability in [0, 1], got {invalid}")
    if background is not None and background not in BACKGROUNDS:
        raise ValueError(f"there is no background {background!r}; there are {', '.join(BACKGROUNDS)}")
    return (int(height), int(width)), background


def _plan(rng, size, texts, n_lines, languages, max_chars, invalid, style) -> list[PlannedLine]:
    """Texts, fonts, sizes and troubles; a random line is spared trouble."""
    if texts is None:
        low, high = (1, int(np.clip(size[0] // 56, 1, 5))) if n_lines is None else (
            (n_lines, n_lines) if isinstance(n_lines, int) else n_lines)
        if not 1 <= low <= high:
            raise ValueError(f"n_lines is a number of at least 1, or (least, most), got {n_lines}")
        count = int(rng.integers(low, high + 1))
    elif not texts:
        raise ValueError("texts is empty: give at least one line, or None to have words drawn")
    else:
        count = len(texts)
    favourites: dict[str, str] = {}
    spared = int(rng.integers(count))
    plans = []
    for i in range(count):
        spoil = bool(rng.random() < invalid) and i != spared
        plans.append(plan_line(rng, size, None if texts is None else texts[i], languages, max_chars, spoil, favourites,
                               [plan.text for plan in plans], zoom={1: 1.7, 2: 1.3}.get(count, 1.0), style=style))
    first = plans.pop(spared)  # the spared line comes first: it is never left out
    return [first, *plans]


def _fit_lines(rng, plans, size, layout, view, effects, all_of_them, style) -> tuple[list[PlannedLine], PlacedBoxes]:
    while plans:
        order = [int(i) for i in rng.permutation(len(plans))]
        shuffled = [plans[i] for i in order]
        heights = np.array([plan.height for plan in shuffled])
        inks = np.array([draw_ink(plan.text, plan.font, plan.height, spacing=plan.spacing).size for plan in shuffled])
        boxes = style.boxes(inks, heights)
        smallest = np.array([plan.smallest for plan in shuffled])
        placed = place(rng, boxes, heights, smallest, size, layout, view, float(effects))
        if placed is None and (all_of_them or len(plans) == 1):  # the last resort: straight ahead and upright
            placed = place(rng, boxes, heights, smallest, size, "stack", np.eye(3), 0.0)
        if placed is not None:
            return shuffled, placed
        if all_of_them or len(plans) == 1:
            raise ValueError(f"no room for {[plan.text for plan in plans]} on {size[0]} x {size[1]} pixels at a letter "
                             f"height of {min(plan.smallest for plan in plans):.0f}: fewer or shorter texts, or a "
                             "larger size")
        plans = plans[:-1]
    raise AssertionError("unreachable: the last line either fits or raises")


def _photograph(rng, canvas, lines, effects) -> np.ndarray:
    """Uneven light, a little blur and noise, as a camera would add; milder for small letters."""
    if not effects:
        return finish(canvas, 0, 0, rng)
    height, width = canvas.shape[:2]
    if rng.random() < 0.5:
        angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.2)
        y, x = np.mgrid[-1:1:height * 1j, -1:1:width * 1j]
        canvas = canvas * (1 + depth * (x * np.cos(angle) + y * np.sin(angle)) - depth / 2)[..., None]
    smallest = min(line.style["height"] for line in lines if line.valid)
    blur = rng.uniform(0, min(1.1, 0.032 * smallest)) if rng.random() < 0.7 else 0.0
    noise = rng.uniform(1, 8) if rng.random() < 0.7 else 0.0
    return finish(canvas.astype(np.float32), blur if blur > 0.2 else 0.0, noise, rng)
