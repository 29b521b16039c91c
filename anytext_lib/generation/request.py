"""What a picture shows and says (``Line``, ``Request``), and how it is sampled (``Settings``), as plain data.

Regions, fonts and colours are checked in ``place``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from anytext_lib.errors import AnyTextError

SCHEDULERS = ("ddim", "dpmsolver++", "unipc")  # see ``denoise.make_scheduler``
FONT_HINTS = ("filled", "hollow", "outline")


class RequestError(AnyTextError, ValueError):
    """A picture was asked for that cannot be made; the message names the line and what to do."""


class RequestWarning(UserWarning):
    """A picture can be made, but perhaps not as it is meant; the commands show the message as one plain line."""


@dataclass(frozen=True)
class Line:
    """One line of text.

    Attributes:
        text: 1 to 20 characters; blank where a picture is edited: what stands in the region is erased, in all areas of
            a mask.
        region: where it stands, in pixels of the picture (of the image that is edited): a quad (4, 2) or polygon
            (P, 2) of (x, y); a painted mask, white where the line goes, (H, W) or a picture or its file; or None: it
            is laid out automatically, or takes the next region of ``Request.mask``.
        font: name or file of the font whose letters are imitated; None leaves the choice to the model.
        style_image: a picture, or its file, whose letters are imitated, darker than their ground; not together with
            ``font``. Upstream advises as many characters as ``text`` has.
        style_region: where these letters stand, a quad, polygon or mask as of ``region``; None: they fill the picture.
            Without a ``style_image`` it lies on the picture that is edited.
        color: RGB in 0..255, "#rrggbb" or a name as "darkred"; None leaves the choice to the model.
    """

    text: str
    region: Any = None
    font: str | None = None
    style_image: Any = None
    style_region: Any = None
    color: Any = None


@dataclass(frozen=True)
class Request:
    """One picture.

    Attributes:
        prompt: what the picture shows. Words in double quotes become lines of text; one that is the text of a line in
            ``lines`` stands for that line.
        lines: further lines, with regions, fonts and colours.
        mask: one painted mask for all lines that have no region: each connected white area is a region, in reading
            order (see ``order``).
        order: "rows" reads the regions of ``mask`` from top to bottom, "columns" from left to right.
        image: the picture to edit, (H, W, 3) uint8 RGB, a ``PIL.Image`` or a file; None generates a new one.
        negative_prompt: caption of the unconditional pass. ``added_prompt``: is appended to ``prompt``.
        width, height: pixels of a generated picture. Like the last two, None takes the pipeline's defaults.
        glyph_font: name or file of the font in which the model is shown what to write; None takes the first font of
            the course that has the characters.
        quoted_words: see ``Defaults``.
        font_hint: how the font of a line is shown: "filled", "hollow" (upstream's application) or "outline" (upstream's
            evaluation), see ``hints.hollow_hint``; None takes the pipeline's default.
        revise_positions: shrink the position of each line to the rectangle around its letters; what is hidden of a
            picture to edit stays the whole region.
    """

    prompt: str = ""
    lines: Sequence[Line] = ()
    mask: Any = None
    order: Literal["rows", "columns"] = "rows"
    image: Any = None
    negative_prompt: str | None = None
    added_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    glyph_font: str | None = None
    quoted_words: str | None = None
    font_hint: Literal["filled", "hollow", "outline"] | None = None
    revise_positions: bool = False

    def __post_init__(self):
        lines = (self.lines,) if isinstance(self.lines, str | Line) else self.lines
        object.__setattr__(self, "lines", tuple(Line(line) if isinstance(line, str) else line for line in lines))
        if wrong := [line for line in self.lines if not isinstance(line, Line)]:
            raise RequestError(f"a line is a text or a Line(text, region, ...), got {wrong[0]!r}")
        if self.order not in ("rows", "columns"):
            raise RequestError(f"order is 'rows' or 'columns', got {self.order!r}")
        check_quoted(self.quoted_words)
        check_hint(self.font_hint)


@dataclass(frozen=True)
class Settings:
    """How a picture is sampled.

    Attributes:
        ddim_steps: steps of the scheduler, whichever it is.
        cfg_scale: guidance u + s (c - u); 1 leaves out the unconditional pass.
        attnx_scale: factor on the extra attentions. ``strength``: factor on WriteNet's output, usually 0 to 2.
        eta: 0 is deterministic, 1 adds the noise of DDPM (schedulers that know eta only).
        composite: editing: put the pixels outside of the regions back exactly.
        blend: editing: at every step, put the noised latents of the image back outside of the regions. For models
            that were not trained to edit.
    """

    ddim_steps: int = 20
    cfg_scale: float = 7.5
    attnx_scale: float = 1.0
    strength: float = 1.0
    eta: float = 0.0
    composite: bool = False
    blend: bool = False

    def __post_init__(self):
        if not isinstance(self.ddim_steps, int) or not 1 <= self.ddim_steps <= 1000:
            raise RequestError(f"ddim_steps is a whole number in 1..1000, got {self.ddim_steps!r}")
        for name in ("cfg_scale", "attnx_scale", "strength", "eta"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise RequestError(f"{name} is a number of at least 0, got {value!r}")
        if self.eta > 1:
            raise RequestError(f"eta lies in [0, 1], got {self.eta}")

    def changed(self, **values) -> Settings:
        """Return a copy with other values; a value of None changes nothing."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})


# plain data


def check_quoted(value: str | None) -> None:
    """Raise RequestError unless ``value`` says what stands for quoted words, or is None."""
    if value not in (None, "placeholder", "literal"):
        raise RequestError(f"quoted_words is 'placeholder' or 'literal', got {value!r}")


def check_hint(value: str | None) -> None:
    """Raise RequestError unless ``value`` is one of ``FONT_HINTS``, or None."""
    if value not in (None, *FONT_HINTS):
        raise RequestError(f"font_hint is {', '.join(map(repr, FONT_HINTS))}, got {value!r}")


def from_mapping(kind: type, values: Any, where: str):
    """An instance of the dataclass ``kind`` from a mapping; RequestError names unknown entries and ``where``."""
    known = [field.name for field in fields(kind)]
    if not isinstance(values, dict):
        raise RequestError(f"{where}: expected entries among {known}, got {values!r}")
    unknown = sorted(set(map(str, values)) - set(known))
    if unknown:
        raise RequestError(f"{where}: unknown entries {unknown}; known are {known}")
    try:
        return kind(**values)
    except TypeError as error:
        raise RequestError(f"{where}: {error}") from error
