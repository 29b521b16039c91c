"""The lines of text of a batch, and the corners of a line from its position mask.

The corners are not differentiable and do not depend on the model, so they are computed once, in the data, and never
inside a training step.  Source: AnyText2 ``cldm/recognizer.py`` (``min_bounding_rect``).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from anytext_lib.errors import AnyTextError

ON_BAD_LINE = ("raise", "skip")
_FARTHEST = 1e6  # pixels; OpenCV draws with integers of 32 bits
MASK_THRESHOLD = 127 / 255  # upstream thresholds the 0..255 mask at 127


class BadLineError(AnyTextError, ValueError):
    """A line of text has no area to read: the message names the line, the reason and the remedy."""


class BadLineWarning(UserWarning):
    """Lines were skipped because ``on_bad_line="skip"`` was asked for; the message counts and names them."""


@dataclass(frozen=True)
class TextLines:
    """Positions and texts of the lines of a batch.

    The geometry stays on the CPU whatever the device of the images: crop sizes are needed by the host, and reading
    them back from a GPU would make every training step wait.

    Attributes:
        image_index: (L,) int64, the image of each line.
        quads: (L, 4, 2) float32, pixels, order tl, tr, br, bl.
        texts: L strings.
        languages: L names: 'Latin', 'Chinese', 'Chinese_sim', 'Chinese_tra', 'Japanese', 'Korean', ...
        skipped: reasons of the lines that ``on_bad_line="skip"`` left out when these lines were made.
    """

    image_index: torch.Tensor
    quads: torch.Tensor
    texts: list[str]
    languages: list[str]
    skipped: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self):
        object.__setattr__(self, "image_index", torch.as_tensor(self.image_index, dtype=torch.int64).cpu())
        object.__setattr__(self, "quads", torch.as_tensor(self.quads, dtype=torch.float32).cpu())
        object.__setattr__(self, "texts", list(self.texts))
        object.__setattr__(self, "languages", list(self.languages))
        n = len(self.image_index)
        found = {"image_index": tuple(self.image_index.shape), "quads": tuple(self.quads.shape),
                 "texts": (len(self.texts),), "languages": (len(self.languages),)}
        wanted = {"image_index": (n,), "quads": (n, 4, 2), "texts": (n,), "languages": (n,)}
        if found != wanted:
            raise ValueError(f"lines of text do not agree in number: got {found}, expected {wanted}")

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def empty(cls) -> TextLines:
        """No line at all."""
        return cls(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4, 2), [], [])

    @classmethod
    def cat(cls, parts: Iterable[TextLines]) -> TextLines:
        """Join several sets of lines; the image indices are kept as they are."""
        parts = list(parts)
        if not parts:
            return cls.empty()
        return cls(torch.cat([p.image_index for p in parts]), torch.cat([p.quads for p in parts]),
                   sum((p.texts for p in parts), []), sum((p.languages for p in parts), []),
                   sum((p.skipped for p in parts), ()))

    def select(self, which: torch.Tensor | Sequence[int] | Sequence[bool]) -> TextLines:
        """Keep the lines named by indices (any order) or by a bool mask."""
        which = torch.as_tensor(which)
        rows = which.nonzero().flatten() if which.dtype == torch.bool else which.long()
        return TextLines(self.image_index[rows], self.quads[rows], [self.texts[i] for i in rows],
                         [self.languages[i] for i in rows], self.skipped)

    def for_image(self, image: int) -> TextLines:
        """The lines of one image, with image index 0."""
        kept = self.select(self.image_index == image)
        return TextLines(torch.zeros_like(kept.image_index), kept.quads, kept.texts, kept.languages)

    @classmethod
    def from_masks(cls, masks: Sequence, image_index: Sequence[int], texts: Sequence[str],
                   languages: Sequence[str], on_bad_line: str = "raise") -> TextLines:
        """Lines from one position mask each.

        Args:
            masks: L masks of shape (H, W), see ``line_quad``.
            on_bad_line: "raise" a BadLineError, or "skip" the line, warn with the count and keep the reasons in
                ``skipped``.
        """
        return cls._from_quads(line_quad, masks, image_index, texts, languages, on_bad_line)

    @classmethod
    def from_polygons(cls, polygons: Sequence, image_index: Sequence[int], texts: Sequence[str],
                      languages: Sequence[str], size: tuple[int, int], on_bad_line: str = "raise") -> TextLines:
        """Lines from polygons (P, 2) in pixels of images of ``size`` (H, W): each is drawn, then measured."""
        return cls._from_quads(lambda polygon: line_quad(polygon_mask(polygon, size)), polygons, image_index, texts,
                               languages, on_bad_line)

    @classmethod
    def _from_quads(cls, measure: Callable, shapes, image_index, texts, languages, on_bad_line) -> TextLines:
        check_choice(on_bad_line)
        quads, kept, reasons = [], [], []
        for i, shape in enumerate(shapes):
            try:
                quads.append(measure(shape))
                kept.append(i)
            except BadLineError as error:
                reasons.append(f"line {i} ({texts[i]!r}, image {int(image_index[i])}): {error}")
        report_bad_lines(reasons, len(shapes), on_bad_line)
        return cls(torch.tensor([int(image_index[i]) for i in kept], dtype=torch.int64),
                   torch.stack(quads) if quads else torch.zeros(0, 4, 2),
                   [texts[i] for i in kept], [languages[i] for i in kept], tuple(reasons))


def check_choice(on_bad_line: str) -> None:
    """Raise ValueError unless ``on_bad_line`` is one of the two choices."""
    if on_bad_line not in ON_BAD_LINE:
        raise ValueError(f"on_bad_line is one of {ON_BAD_LINE}, got {on_bad_line!r}")


def report_bad_lines(reasons: Sequence[str], total: int, on_bad_line: str) -> None:
    """Raise BadLineError, or warn with the count, if there are any ``reasons``."""
    if not reasons:
        return
    if on_bad_line == "raise":
        raise BadLineError("; ".join(reasons) + '. Or pass on_bad_line="skip" to leave such lines out')
    message = f"skipped {len(reasons)} of {total} lines of text: " + "; ".join(reasons)
    warnings.warn(message, BadLineWarning, stacklevel=4)


def line_quad(position_mask: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Four corners of the largest blob of a position mask.

    Threshold, largest external contour, minimum-area rectangle, corners truncated to integers (not rounded: that
    is what the upstream weights saw; it makes the box of a mask ``w`` pixels wide ``w - 1`` wide).

    Args:
        position_mask: (H, W) mask of one line, floating point or bool in [0, 1], or uint8 in 0..255.

    Returns:
        (4, 2) float32, pixels (x, y), in the order top-left, top-right, bottom-right, bottom-left.

    Raises:
        BadLineError: the mask is empty, or so thin that the box has no area.
    """
    import cv2

    binary = _binarise(position_mask)
    contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        raise BadLineError(
            f"the position mask of {binary.shape[0]} x {binary.shape[1]} pixels is empty (nothing above one half): "
            "give the line a region, or leave the line out"
        )
    corners = cv2.boxPoints(cv2.minAreaRect(max(contours, key=cv2.contourArea)))
    quad = _in_reading_order(np.trunc(corners).astype(np.float32))
    width, height = quad_size(torch.from_numpy(quad))
    if min(width, height) < 1:
        raise BadLineError(
            f"the position mask spans a box of {width:.0f} x {height:.0f} pixels, which has no area: "
            "a line needs a region of at least 2 x 2 pixels"
        )
    return torch.from_numpy(quad)


def quad_size(quad: torch.Tensor) -> tuple[float, float]:
    """Width and height in pixels of a (4, 2) quad: the longer of each pair of opposite sides."""
    tl, tr, br, bl = quad.double()
    width = max((tr - tl).norm().item(), (br - bl).norm().item())
    height = max((bl - tl).norm().item(), (br - tr).norm().item())
    return width, height


def polygon_mask(polygon, size: tuple[int, int]) -> np.ndarray:
    """Fill a polygon: ``polygon`` (P, 2) in pixels, ``size`` (H, W); returns (H, W) uint8 of 0 and 255."""
    import cv2

    points = np.asarray(polygon, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise BadLineError(f"a polygon needs at least three (x, y) points, got shape {points.shape}")
    if not (np.abs(points) <= _FARTHEST).all():  # nor NaN
        raise BadLineError(f"the polygon has a coordinate that is not finite, or more than {_FARTHEST:.0f} pixels away")
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255)
    return mask


def _binarise(mask: torch.Tensor | np.ndarray) -> np.ndarray:
    array = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    if array.ndim != 2:
        raise ValueError(f"a position mask has shape (H, W), got {tuple(array.shape)}")
    if array.dtype == np.uint8 and array.max(initial=0) > 1:
        return (array > 127).astype(np.uint8)
    return (array.astype(np.float32) > MASK_THRESHOLD).astype(np.uint8)


def _in_reading_order(corners: np.ndarray) -> np.ndarray:
    """Two leftmost corners are tl and bl, two rightmost tr and br; the upper of each pair comes first."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left = by_x[:2][np.argsort(by_x[:2, 1], kind="stable")]
    right = by_x[2:][np.argsort(by_x[2:, 1], kind="stable")]
    return np.stack([left[0], right[0], right[1], left[1]])
