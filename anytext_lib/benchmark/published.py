"""How the papers sampled and judged their benchmark, and the figures that they print.

Sources: AnyText ``eval/anytext_singleGPU.py`` (prompts, steps, seed, lines), AnyText2 ``eval/anytext2_singleGPU.py``
(guidance), the tables of both repositories (figures).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from anytext_lib.data.anyword import AnnotatedImage
from anytext_lib.errors import OptionError

ADDED = "best quality, extremely detailed"
NEGATIVE = ("longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, cropped, worst "
            "quality, low quality, watermark")
JUDGE = "DuGuang (convnextTiny, ModelScope)"  # who read for the published figures; it comes in no Python package
MAX_CHARS, MAX_LINES = 20, 20


@dataclass(frozen=True)
class PublishedSettings:
    """How the pictures are sampled; None leaves a value to the model's own defaults.

    Attributes:
        name: of ``--settings``. ``per_item``: pictures of an entry, with the seeds ``seed``, ``seed`` + 1, ...
        ddim_steps, cfg_scale, strength, eta: see ``generation.request.Settings``.
        added_prompt, negative_prompt: see ``generation.request.Request``.
    """

    name: str
    per_item: int = 4
    seed: int = 100
    ddim_steps: int | None = 20
    cfg_scale: float | None = 7.5
    strength: float = 1.0
    eta: float = 0.0
    added_prompt: str | None = ADDED
    negative_prompt: str | None = NEGATIVE


SETTINGS = {settings.name: settings for settings in (
    PublishedSettings("anytext2"),
    PublishedSettings("anytext", cfg_scale=9.0),
    PublishedSettings("own", ddim_steps=None, cfg_scale=None, added_prompt=None, negative_prompt=None),
)}


def published_settings(name: str) -> PublishedSettings:
    """Settings by name; OptionError lists the names."""
    if name not in SETTINGS:
        raise OptionError(f"there are no settings {name!r}: choose one of {', '.join(SETTINGS)}")
    return SETTINGS[name]


class Figures(NamedTuple):
    """A row of a published table: Sen.Acc and NED in [0, 1], FID."""

    sentence_accuracy: float
    ned: float
    fid: float


FIGURES = {
    "English": {
        "ControlNet": Figures(0.5837, 0.8015, 45.41), "TextDiffuser": Figures(0.5921, 0.7951, 41.31),
        "AnyText v1.0": Figures(0.6588, 0.8568, 35.87), "AnyText v1.1": Figures(0.7239, 0.8760, 33.54),
        "AnyText2": Figures(0.8175, 0.9193, 27.87), "AnyText2XL": Figures(0.8506, 0.9406, 28.99)},
    "Chinese": {
        "ControlNet": Figures(0.3620, 0.6227, 41.86), "TextDiffuser": Figures(0.0605, 0.1262, 53.37),
        "AnyText v1.0": Figures(0.6634, 0.8264, 28.46), "AnyText v1.1": Figures(0.6923, 0.8396, 31.58),
        "AnyText2": Figures(0.7250, 0.8529, 24.32), "AnyText2XL": Figures(0.7716, 0.8767, 27.31)},
}
LINES = {"English": 16724, "Chinese": 8368}  # in the pictures of the published sets
PROTOCOLS = {"English": "anytext-english", "Chinese": "anytext"}  # dictionaries of NED, see ``evaluation.score``


def language_of(entries: Sequence[AnnotatedImage]) -> str:
    """"English" or "Chinese", whichever most lines are in: which of the published tables a set belongs to."""
    lines = (line for entry in entries for line in entry.annotations if line.valid)
    counts = Counter(line.language.startswith("Chinese") for line in lines)
    return "Chinese" if counts[True] > counts[False] else "English"
