"""Plan and paint the lines of a scene: panels, letters, outlines, shadows, and spoilt lines that nobody can read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anytext_lib.data.fonts import fonts_for, load_fonts
from anytext_lib.data.lines import polygon_mask
from anytext_lib.data.texts import normal_text
from anytext_lib.scenes.lettering import Ink, box_corners, draw_ink, place_mask
from anytext_lib.scenes.palette import BACKGROUNDS, FreePalette, Palette, contrast, luminance, readable_ink
from anytext_lib.scenes.words import draw_text

TROUBLES = {"blurred": 0.27, "tiny": 0.18, "faint": 0.25, "struck": 0.3}  # with their shares
CONNECTED = ("Merienda", "Caveat")  # scripts whose letters touch: never spaced out
MARGIN = 0.1  # of the letter height: space between the ink and the polygon, as annotators leave it


@dataclass(frozen=True)
class SceneStyle:
    """Choices for rendering scenes; the default allows all fonts, backgrounds and signs.

    Attributes:
        fonts: names of the fonts to choose from; where none of them can write a text, or with None, all are.
        backgrounds: names in ``BACKGROUNDS`` to choose from.
        signs: whether one scene of four has a sign behind its lines.
        spaced: probability that a short line's letters are spaced out.
        margin: space between the ink and the polygon, left and right, and above and below, in letter heights.
        any_ink: letters of any colour, in place of one that goes with the ground.
        contrast: of letters and ground that is sought, as a ratio (WCAG 2.1); below 3.2 letters get a rim.
    """

    fonts: tuple[str, ...] | None = None
    backgrounds: tuple[str, ...] = tuple(BACKGROUNDS)
    signs: bool = True
    spaced: float = 0.15
    margin: tuple[float, float] = (MARGIN, MARGIN)
    any_ink: bool = False
    contrast: float = 4.0

    def palette(self, rng: np.random.Generator) -> Palette:
        """The colours of one scene."""
        return FreePalette(rng) if self.any_ink else Palette(rng)

    def fonts_for(self, text: str) -> list[str]:
        """Names of the style's fonts that can write ``text``; ValueError if a font of the style is unknown."""
        unknown = [name for name in self.fonts or () if name not in load_fonts()]
        if unknown:
            raise ValueError(f"there is no font {', '.join(unknown)}: choose among {', '.join(load_fonts())}")
        names = fonts_for(text)
        return [name for name in names if self.fonts is None or name in self.fonts] or names

    def boxes(self, inks: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """Sizes (n, 2) of the boxes around inks (n, 2) of letters ``heights`` (n,) high.

        A wide margin above and below is cut so that a short word's box still lies: it is at most 3/4 as high as wide.
        """
        boxes = inks + 2 * heights[:, None] * self.margin
        least = inks[:, 1] + 2 * min(MARGIN, self.margin[1]) * heights
        boxes[:, 1] = np.minimum(boxes[:, 1], np.maximum(least, 0.75 * boxes[:, 0]))
        return boxes


@dataclass(frozen=True)
class PlannedLine:
    """A line before it has a place: ``height`` and ``smallest`` letter height in pixels, ``trouble`` or None."""

    text: str
    language: str
    font: str
    height: float
    smallest: float
    spacing: float
    trouble: str | None


def plan_line(rng: np.random.Generator, size: tuple[int, int], text: str | None, languages, max_chars: int,
              spoil: bool, favourites: dict[str, str], taken: list[str], zoom: float, style: SceneStyle) -> PlannedLine:
    """Draw (or take) a text and choose font, size and trouble; ``favourites`` keeps a scene to few fonts.

    ``zoom`` enlarges the letters, for scenes of few lines; ``taken`` are texts not to repeat.
    """
    if text is None:
        text, language = _choose_text(rng, size[1], _least_height(size), languages, max_chars, taken)
    else:
        text = normal_text(text)
        language = load_fonts()[fonts_for(text)[0]].languages[0]
    names = style.fonts_for(text)
    font = favourites.get(language)
    if font not in names or rng.random() < 0.4:
        font = names[rng.integers(len(names))]
    favourites.setdefault(language, font)
    least = _least_height(size) * (1.15 if language == "Chinese" else 1.0)
    most = max(least, min(0.45 * size[0], 24 + 0.13 * size[0], 0.22 * size[1]))
    height = min(most, (least + (most - least) * rng.beta(1.6, 2.2)) * zoom)
    spaced = font not in CONNECTED and len(text) < 10 and rng.random() < style.spaced
    spacing = rng.uniform(0.05, 0.2) if spaced else 0.0
    trouble = str(rng.choice(list(TROUBLES), p=list(TROUBLES.values()))) if spoil else None
    if trouble == "tiny":
        height = least = max(3.0, 0.0085 * min(size))
    return PlannedLine(text, language, font, float(height), float(least), float(spacing), trouble)


def _least_height(size: tuple[int, int]) -> float:
    """Letter height in pixels below which a line would be hard to read; Chinese needs 15% more."""
    return max(12.0, 0.042 * min(size))


def _choose_text(rng, width: int, least: float, languages, max_chars: int, taken: list[str]) -> tuple[str, str]:
    """A language and a word of it that fits across ``width`` pixels at the ``least`` height, new if possible."""
    weights = np.array([2.0 if language == "Latin" else 1.0 for language in languages])
    language = languages[rng.choice(len(languages), p=weights / weights.sum())]
    room = max(2, int(0.6 * width / least)) if language == "Chinese" else max(4, int(0.8 * width / least))
    for _ in range(5):
        text = draw_text(rng, language, min(max_chars, room))
        if text.lower() not in (t.lower() for t in taken):
            break
    return text, language


def draw_panel(rng: np.random.Generator, canvas: np.ndarray, corners: np.ndarray, palette: Palette) -> np.ndarray:
    """A sign behind the lines: (4, 2) corners in edge coordinates; with a shadow and perhaps a border."""
    import cv2

    side = 256
    lay = cv2.getPerspectiveTransform(box_corners((0, 0, side, side)).astype(np.float32), corners.astype(np.float32))
    # drawn with a clear frame, so that its edge is smoothed as well
    board = np.zeros((side, side), np.float32)
    board[1:-1, 1:-1] = 1
    size = canvas.shape[:2]
    alpha = place_mask(board, lay.astype(np.float64), size)
    shade = cv2.GaussianBlur(np.roll(alpha, (max(1, size[0] // 90), max(1, size[1] // 130)), (0, 1)), (0, 0),
                             max(1.0, min(size) / 70))
    canvas = canvas * (1 - 0.45 * shade[..., None])
    face = palette.ground(rng) if rng.random() < 0.6 else palette.ink(rng)
    canvas = canvas + (face - canvas) * alpha[..., None]
    if rng.random() < 0.6:
        extent = np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[3] - corners[0])
        rim = np.maximum(2, np.rint(side * 0.012 * min(size) / np.array(extent))).astype(int)
        border = np.zeros_like(board)
        a, b = 2 * rim
        border[b:-b, a:-a] = 1
        border[b + rim[1] : -b - rim[1], a + rim[0] : -a - rim[0]] = 0
        tone = 250.0 if contrast(face, np.full(3, 250.0)) > contrast(face, np.full(3, 20.0)) else 20.0
        canvas = canvas + (tone - canvas) * 0.8 * place_mask(border, lay.astype(np.float64), size)[..., None]
    return canvas.astype(np.float32)


def draw_line(rng: np.random.Generator, canvas: np.ndarray, plan: PlannedLine, height: float, matrix: np.ndarray,
              quad: np.ndarray, palette: Palette, effects: bool,
              wanted: float = 4.0) -> tuple[tuple[int, int, int], dict]:
    """Paint a line on ``canvas`` (H, W, 3) float32, in place.

    Args:
        matrix: (3, 3) from the box of the line centred on 0 to edge coordinates of the picture; ``quad``: that box.
        wanted: contrast with what lies behind.

    Returns:
        colour of the letters, and how they were drawn.
    """
    size = canvas.shape[:2]
    behind = canvas[polygon_mask(quad - 0.5, size) > 0][::3]
    color, score = readable_ink(rng, palette, behind, wanted)
    rim, large = 0.0, 0.085 * min(size) if plan.language == "Chinese" else 0.06 * min(size)
    if plan.trouble is None and (score < 3.2 or (effects and height > large and rng.random() < 0.2)):
        rim = max(1.0, 0.07 * height)
    ink = draw_ink(plan.text, plan.font, height, outline=rim, spacing=plan.spacing)
    matrix = matrix @ _centre(ink)
    bright = luminance(color) > luminance(behind.mean(axis=0))  # a dark shadow of dark letters would blot them
    shadow = bool(effects and bright and plan.trouble is None and rng.random() < 0.4)
    if shadow:
        _blend(canvas, _shadow(ink, matrix, size, height), np.zeros(3), 0.55)
    if rim:
        edge = max((np.full(3, 15.0), np.full(3, 245.0)), key=lambda tone: float(contrast(tone, color)))
        _blend(canvas, place_mask(ink.outline, matrix, size), edge, 1.0)
    fill = place_mask(ink.fill, matrix, size)
    opacity = 1.0
    if plan.trouble == "faint":  # a trace of ink, a few grey levels off whatever lies behind it
        opacity = rng.uniform(2, 4) / max(float(np.abs(color - behind.mean(axis=0)).max()), 1.0)
    _blend(canvas, _spoil(fill, plan.trouble, height), color, opacity)
    if plan.trouble == "struck":
        other = color if rng.random() < 0.6 else np.array([200.0, 30, 30])
        _blend(canvas, place_mask(_strokes(rng, ink), matrix, size), other, 0.95)
    details = {"trouble": plan.trouble, "height": height, "outline": rim, "shadow": shadow, "contrast": score,
               "opacity": opacity}
    return tuple(int(c) for c in np.rint(color)), details


def _centre(ink: Ink) -> np.ndarray:
    """From pixels of the mask to pixels of the picture with the middle of the ink at 0."""
    left, top, right, bottom = ink.box
    k = 1 / ink.scale
    return np.array([[k, 0, -k * (left + right) / 2], [0, k, -k * (top + bottom) / 2], [0, 0, 1.0]])


def _blend(canvas: np.ndarray, alpha: np.ndarray, color: np.ndarray, opacity: float) -> None:
    canvas += (np.asarray(color, np.float32) - canvas) * (opacity * alpha)[..., None]


def _shadow(ink: Ink, matrix: np.ndarray, size: tuple[int, int], height: float) -> np.ndarray:
    import cv2

    step = 0.07 * height
    shift = np.array([[1, 0, step], [0, 1, step], [0, 0, 1.0]])
    return cv2.GaussianBlur(place_mask(ink.outline, shift @ matrix, size), (0, 0), max(0.6, 0.04 * height))


def _spoil(fill: np.ndarray, trouble: str | None, height: float) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(fill, (0, 0), 0.36 * height) if trouble == "blurred" else fill


def _strokes(rng: np.random.Generator, ink: Ink) -> np.ndarray:
    """Two or three rough strokes across the letters, as a mask like ``ink.fill``."""
    import cv2

    mask = np.zeros_like(ink.fill)
    left, top, right, bottom = ink.box
    thick = max(1, int(0.13 * (bottom - top)))
    for level in np.linspace(0.32, 0.68, int(rng.integers(2, 4))):
        ends = top + (bottom - top) * np.clip(level + rng.normal(0, 0.1, 2), 0.1, 0.9)
        cv2.line(mask, (int(left), int(ends[0])), (int(right), int(ends[1])), 1.0, thick, cv2.LINE_AA)
    return mask
