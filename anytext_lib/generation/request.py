"""What a picture shows and says, how it is sampled, and what suits a model: plain data, and the captions of them.

    Line, Request            a picture                     Settings             of the sampler
    Defaults, Capabilities   a model's card, its file      captions             for the UNet and for WriteNet

Words in quotes are lines of text, and each line is a ``*`` in the captions of the model.  Regions, fonts and colours
are checked in ``place``; ``jobs`` reads requests from files.  Source of the captions: AnyText2 ``ms_wrapper.py``
(``modify_prompt``).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from anytext_lib.data.hints import PLACEHOLDER
from anytext_lib.data.texts import normal_text
from anytext_lib.errors import AnyTextError
from anytext_lib.files import atomic_path

SCHEDULERS = ("ddim", "dpmsolver++", "unipc")  # see ``denoise.make_scheduler``
FONT_HINTS = ("filled", "hollow", "outline")
DEFAULTS_FILE = "generation.json"
COLORS = ("all", "brightness", "none")
PHRASE = "Texts are "  # one of those that the model is trained with
QUOTED = re.compile('"([^"]*)"|\u201c([^\u201d]*)\u201d|\u300c([^\u300d]*)\u300d|\u300e([^\u300f]*)\u300f')


class RequestError(AnyTextError, ValueError):
    """A picture was asked for that cannot be made; the message names the line and what to do."""


class RequestWarning(UserWarning):
    """A picture can be made, but perhaps not as it is meant; the commands show the message as one plain line."""


class CapabilityError(AnyTextError, ValueError):
    """The capabilities in a model's card are none; the message names the entry."""


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

    @property
    def imitates(self) -> bool:
        """Whether a font, or letters in a picture, are to be imitated."""
        return self.font is not None or self.style_image is not None or self.style_region is not None


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


# the model's card


def _are(values, kind: type) -> bool:
    return values is None or isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0 \
        and all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def _is_count(value) -> bool:
    return value is None or isinstance(value, int) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True)
class Capabilities:
    """What a model was trained for; None: the card does not say.

    Attributes:
        languages: of the lines, AnyWord's names ("Latin", "Chinese", "Japanese", ...; "Chinese" stands for both forms).
        prompts: languages of the prompts, as "English".
        max_chars, max_lines: of a line, and of a picture.
        sizes: (width, height) in pixels of the pictures.
        colors: "all"; "brightness": light and dark are followed, hues hardly; "none": colours change nothing.
        fonts: whether the font or style image of a line is imitated. ``editing``: whether it was trained to edit.
    """

    languages: Sequence[str] | None = None
    prompts: Sequence[str] | None = None
    max_chars: int | None = None
    max_lines: int | None = None
    sizes: Sequence[Sequence[int]] | None = None
    colors: Literal["all", "brightness", "none"] | None = None
    fonts: bool | None = None
    editing: bool | None = None

    def __post_init__(self):
        """Check the entries, and make tuples of their lists."""
        wrong = [name for name in ("languages", "prompts") if not _are(getattr(self, name), str)]
        wrong += [name for name in ("max_chars", "max_lines") if not _is_count(getattr(self, name))]
        wrong += [name for name in ("fonts", "editing") if getattr(self, name) not in (None, True, False)]
        if not all(_are(size, int) and len(size) == 2 for size in self.sizes or ()):
            wrong.append("sizes")
        if self.colors not in (None, *COLORS):
            wrong.append("colors")
        if wrong:
            raise CapabilityError(f"capabilities: {wrong[0]} cannot be {getattr(self, wrong[0])!r} (see "
                                  "anytext_lib.generation.request.Capabilities)")
        for name in ("languages", "prompts"):
            object.__setattr__(self, name, getattr(self, name) and tuple(getattr(self, name)))
        object.__setattr__(self, "sizes", self.sizes and tuple(map(tuple, self.sizes)))


@dataclass(frozen=True)
class Defaults:
    """What suits a model, kept beside its weights in ``generation.json``.

    Attributes:
        width, height: pixels; None takes the size of the latents in the UNet's configuration.
        ddim_steps, cfg_scale: see ``Settings``. ``added_prompt``, ``negative_prompt``: see ``Request``.
        quoted_words: what the image caption holds in place of the quoted words: "placeholder", the embedding of the
            line, as upstream samples, or "literal", the words themselves. "plain": quote marks belong to the prompt
            and make no lines, as in the captions of a benchmark.
        font_hint: see ``Request``.
        capabilities: what the model was trained for, see ``Capabilities``; plain data are converted.
    """

    width: int | None = None
    height: int | None = None
    ddim_steps: int = 20
    cfg_scale: float = 7.5
    added_prompt: str = ""
    negative_prompt: str = ""
    quoted_words: Literal["placeholder", "literal", "plain"] = "placeholder"
    font_hint: Literal["filled", "hollow", "outline"] = "filled"
    capabilities: Capabilities = Capabilities()

    def __post_init__(self):
        check_quoted(self.quoted_words)
        check_hint(self.font_hint)
        if not isinstance(self.capabilities, Capabilities):
            object.__setattr__(self, "capabilities", from_mapping(Capabilities, self.capabilities, "capabilities"))

    def completed(self, request: Request) -> Request:
        """Return a copy of a request with these in place of None; the size stays."""
        names = ("negative_prompt", "added_prompt", "quoted_words", "font_hint")
        return replace(request, **{name: getattr(self, name) for name in names if getattr(request, name) is None})

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Defaults:
        """Those of a model's folder; the plain ones above if it has none. RequestError if the file is damaged."""
        path = Path(folder) / DEFAULTS_FILE
        if not path.is_file():
            return cls()
        try:
            return from_mapping(cls, json.loads(path.read_text(encoding="utf-8")), str(path))
        except (OSError, ValueError) as error:
            raise RequestError(f"cannot read {path}: {error}") from error

    def write(self, folder: str | os.PathLike) -> None:
        """Write ``generation.json`` into a model's folder, with the capabilities that are set."""
        known = {name: value for name, value in asdict(self.capabilities).items() if value is not None}
        with atomic_path(Path(folder) / DEFAULTS_FILE) as temporary:
            temporary.write_text(json.dumps(asdict(self) | {"capabilities": known}, indent=2) + "\n",
                                 encoding="utf-8")


# captions


def quoted_words(prompt: str) -> list[str]:
    """The texts between double quotes ("...", or typographic ones), in order; a quote without a partner is none.

    Blanks between quotes are the empty text, which erases; nothing between them is no line.
    """
    return [text.strip() for text in map(_within, QUOTED.finditer(prompt)) if text]


def _within(match: re.Match) -> str:
    return "".join(group or "" for group in match.groups())


def lines_asked(request: Request) -> list[Line]:
    """All lines of a picture, see ``join_lines``; with ``quoted_words`` "plain" a prompt makes none."""
    return join_lines("" if request.quoted_words == "plain" else request.prompt, request.lines)


def join_lines(prompt: str, lines: Sequence[Line]) -> list[Line]:
    """All lines of a picture, those quoted in the prompt first.

    A quoted word that is the text of a line stands for that line; any other is a new line.  Texts are brought into
    their normal form (``normal_text``).
    """
    rest, found = [replace(line, text=_normal(line.text)) for line in lines], []
    for text in map(_normal, quoted_words(prompt)):
        match = next((i for i, line in enumerate(rest) if line.text == text), None)
        found.append(Line(text) if match is None else rest.pop(match))
    return found + rest


def _normal(text):
    """Return the normal form of a text, "" for blanks; no text, or control characters, are left for the check."""
    if not isinstance(text, str) or any(ord(char) < 32 for char in text):
        return text
    return normal_text(text) if text.strip() else ""


def image_caption(prompt: str, added: str = "", literal: bool = False) -> str:
    """Caption of the UNet: the prompt with a ``*`` for each quoted word (``literal`` keeps them), and ``added``; in its
    normal form."""
    caption = normal_text(prompt).replace(PLACEHOLDER, " ")
    if literal:
        caption = QUOTED.sub(lambda match: match[0] if _within(match).strip() else " ", caption)
    else:
        caption = QUOTED.sub(lambda match: f" {PLACEHOLDER} " if _within(match) else " ", caption)
        caption = re.sub(r"  +", " ", caption)
    return ", ".join(part for part in (caption.strip(), normal_text(added).replace(PLACEHOLDER, " ").strip())
                     if part)


def text_caption(lines: int) -> str:
    """Caption of WriteNet: a ``*`` for each line; the empty string without lines."""
    return PHRASE + " , ".join([PLACEHOLDER] * lines) + " . " if lines else ""


# plain data


def check_quoted(value: str | None) -> None:
    """Raise RequestError unless ``value`` says what stands for quoted words, or is None."""
    if value not in (None, "placeholder", "literal", "plain"):
        raise RequestError(f"quoted_words is 'placeholder', 'literal' or 'plain', got {value!r}")


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
