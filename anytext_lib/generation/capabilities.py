"""What a model was trained for: the part of its card that a program can read, and what is said where more is asked for.

Kept as ``capabilities`` in ``generation.json`` beside the weights.  What a card does not mention is not warned about.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from anytext_lib.errors import AnyTextError

COLORS = ("all", "brightness", "none")
HUE = 40  # of 255: how far the channels of a colour must be apart for it to have a hue
NO_TEXT = ("no text will be written: the prompt has no words in double quotes, and there is no --line. Write --prompt "
           "'a sign that says \"Tea\"' (a shell takes double quotes away unless single ones stand around them), or "
           "--line Tea")


class CapabilityError(AnyTextError, ValueError):
    """The capabilities in a model's card are none; the message names the entry."""


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
                                  "anytext_lib.generation.capabilities.Capabilities)")
        for name in ("languages", "prompts"):
            object.__setattr__(self, name, getattr(self, name) and tuple(getattr(self, name)))
        object.__setattr__(self, "sizes", self.sizes and tuple(map(tuple, self.sizes)))


def notes(item, settings, capabilities: Capabilities, styles: bool = True, option: str = "--") -> list[str]:
    """What a model was not trained for among the things that are asked of it: a sentence each, none if all is well.

    Args:
        item: a ``Prepared`` request. ``settings``: how it is sampled.
        styles: False for a model that was built without styles; the pipeline warns of that itself.
        option: what stands before the name of a setting where one can choose it.
    """
    found = [*_line_notes(item, capabilities, styles), *_picture_notes(item, capabilities)]
    if capabilities.editing is False and item.original is not None:
        found.append("this model was not trained to edit: " + _editing_words(settings, option))
    return found


def _line_notes(item, can: Capabilities, styles: bool) -> Iterator[str]:
    request, sample = item.request, item.sample
    named = [f"line {i + 1} ({line.text!r})" for i, line in enumerate(request.lines)]
    lines = list(zip(named, request.lines, sample.languages, sample.colors, strict=True))
    if can.languages is not None:
        odd = [who for who, line, language, _ in lines if not _knows(can.languages, language, line.text)]
        if odd:
            yield f"{_listed(odd)}: this model was trained on {_listed(can.languages)} only, and will not write that"
    if can.max_chars is not None and (long := [who for who, line, *_ in lines if len(line.text) > can.max_chars]):
        yield f"{_listed(long)}: this model was trained on lines of at most {can.max_chars} characters; longer ones " \
              "are often misspelt"
    if can.colors in ("none", "brightness"):
        asked = [who for who, line, _, color in lines
                 if line.color is not None and (can.colors == "none" or max(color) - min(color) > HUE)]
        told = "colours change nothing" if can.colors == "none" else \
            "it follows how light a colour is, and its hue hardly"
        if asked:
            yield f"the colour of {_listed(asked)}: this model was not trained for it: {told}"
    if can.fonts is False and styles:
        asked = [who for who, line, *_ in lines if line.font is not None or line.style_image is not None]
        if asked:
            yield f"the font of {_listed(asked)}: this model was not trained to imitate fonts"


def _picture_notes(item, can: Capabilities) -> Iterator[str]:
    request, (height, width) = item.request, item.sample.image.shape[:2]
    if can.max_lines is not None and len(request.lines) > can.max_lines:
        yield f"{len(request.lines)} lines: this model was trained on pictures with at most {can.max_lines}"
    if can.sizes is not None and (width, height) not in can.sizes:
        trained = _listed([f"{w} x {h}" for w, h in can.sizes])
        yield f"the picture has {width} x {height} pixels: this model was trained on {trained}"
    if can.prompts is not None and "English" in can.prompts and _other_script(_unquoted(request.prompt)):
        yield f"the prompt: this model was trained on prompts in {_listed(can.prompts)} only; say it so"


def _editing_words(settings, option: str) -> str:
    blend = f"{option}blend keeps the surroundings at every step"
    composite = f"{option}composite puts the pixels outside of the regions back exactly"
    if settings.blend:
        return "letters and ground may not fit their surroundings" + ("" if settings.composite else f"; {composite}")
    if settings.composite:
        return f"what is inside the regions will hardly fit; {blend}"
    return f"it paints the whole picture anew; {blend}, {composite}"


def _knows(languages: Sequence[str], language: str, text: str) -> bool:
    if language == "Latin" and _other_script(text):  # Cyrillic, Arabic, ...: AnyWord has no name that we can guess
        return False
    return language in languages or language.startswith("Chinese") and "Chinese" in languages


def _other_script(text: str) -> bool:
    """Whether a text has letters of another script than Latin."""
    return any(char.isalpha() and not unicodedata.name(char, "").startswith(("LATIN", "FULLWIDTH LATIN"))
               for char in text)


def _unquoted(prompt: str) -> str:
    from anytext_lib.generation.prompts import image_caption

    return image_caption(prompt)


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _are(values, kind: type) -> bool:
    return values is None or isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0 \
        and all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def _is_count(value) -> bool:
    return value is None or isinstance(value, int) and not isinstance(value, bool) and value > 0
