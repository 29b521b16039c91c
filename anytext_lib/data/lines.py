"""The lines of text of a batch, flat: one entry a line, with the index of the image that it stands in."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch

from anytext_lib.data.quads import BadLineError, BadLineWarning, line_quad, polygon_mask

ON_BAD_LINE = ("raise", "skip")


@dataclass(frozen=True)
class TextLines:
    """Where the lines of a batch are and what they say.

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
