"""A model's card, ``generation.json`` beside its weights: what suits the model, and what it was trained for."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from anytext_lib.errors import AnyTextError
from anytext_lib.files import atomic_path
from anytext_lib.generation.request import Request, RequestError, check_hint, check_quoted, from_mapping

DEFAULTS_FILE = "generation.json"
COLORS = ("all", "brightness", "none")


class CapabilityError(AnyTextError, ValueError):
    """The capabilities in a model's card are none; the message names the entry."""


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
                                  "anytext_lib.generation.card.Capabilities)")
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
            line, as upstream samples, or "literal", the words themselves.
        font_hint: see ``Request``.
        capabilities: what the model was trained for, see ``Capabilities``; plain data are converted.
    """

    width: int | None = None
    height: int | None = None
    ddim_steps: int = 20
    cfg_scale: float = 7.5
    added_prompt: str = ""
    negative_prompt: str = ""
    quoted_words: Literal["placeholder", "literal"] = "placeholder"
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
