"""The drawing application without its widgets: run a sketch by a plan, and let a judge read the results."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anytext_lib.adapters.adaptation import Adaptation
from anytext_lib.generation.denoise import Progress, make_scheduler
from anytext_lib.generation.edit_report import EditReport, edit_picture, edit_report, write_report
from anytext_lib.generation.legibility import PictureCheck, best, candidate_table, check_pictures
from anytext_lib.generation.prepare import Prepared, default_size, prepare
from anytext_lib.generation.remarks import notes
from anytext_lib.generation.request import Request, RequestError, RequestWarning, Settings, quoted_words
from anytext_lib.generation.translation import translated
from anytext_lib.studio.saving import save_picture
from anytext_lib.studio.sketch import Sketch

MOST = 24  # pictures of one run of the application
NO_TEXT = ("there is no text in this picture: draw a box and type its words, or put words in double quotes into the "
           "prompt")
NO_CHOICE = "all pictures are kept: there is no judge, or nothing to read"


@dataclass(frozen=True)
class Plan:
    """How a sketch is carried out: every strength with every seed, the rest in ``settings``; ``scheduler`` by name and
    ``adaptation`` (LoRA files, base model), None leaves the pipeline's own; ``best``: how many of all pictures are
    kept, those that the judge reads best, None keeps all."""

    settings: Settings = Settings()
    seeds: tuple[int, ...] = (0,)
    strengths: tuple[float, ...] = (1.0,)
    scheduler: str | None = None
    adaptation: Adaptation | None = None
    best: int | None = None

    def __post_init__(self):
        if self.best is not None and not 1 <= self.best <= len(self.seeds) * len(self.strengths):
            raise RequestError(f"the best {self.best} of {len(self.seeds) * len(self.strengths)} pictures cannot be "
                               "kept: give more seeds, or keep fewer (0 keeps all)")
        if not self.seeds or not self.strengths:
            raise RequestError("give at least one seed and one strength")
        if len(self.seeds) * len(self.strengths) > MOST:
            raise RequestError(f"{len(self.seeds)} seeds times {len(self.strengths)} strengths are more than {MOST} "
                               "pictures: leave some out")

    def each(self) -> list[Settings]:
        """The settings for each strength."""
        return [replace(self.settings, strength=strength) for strength in self.strengths]


class Made(NamedTuple):
    """One result: ``image`` (H, W, 3) uint8, its seed and settings, the request and record that it is made from, what
    the judge made of it (None: there is no judge, or nothing to read), and of an edit that was read, the report."""

    image: np.ndarray
    seed: int
    settings: Settings
    request: Request
    record: dict[str, Any]
    check: PictureCheck | None = None
    report: EditReport | None = None

    def caption(self) -> str:
        """Seed, strength and the reading, in words."""
        found = [] if self.check is None else [_reading(line.read, line.wanted) for line in self.check.lines]
        return "; ".join([f"seed {self.seed}, strength {self.settings.strength:g}", *found])


def _reading(read: str, wanted: str) -> str:
    if not wanted:
        return f"“{read}” is read where something was erased" if read else "nothing is read where something was erased"
    return f"reads “{read}”" if read == wanted else f"reads “{read}” for “{wanted}”"


class Studio:
    """A pipeline and a judge.

    Args:
        pipeline: an ``AnyText2Pipeline``. ``judge``: reads crops, see ``ocr.Judge``; None leaves the results unread.
    """

    def __init__(self, pipeline, judge=None):
        self.pipeline, self.judge = pipeline, judge

    @property
    def has_styles(self) -> bool:
        """Whether the model imitates the font of a line."""
        return bool(self.pipeline.model.text_embedding.config.style)

    def sketch(self) -> Sketch:
        """An empty one at the size that suits the model."""
        height, width = default_size(self.pipeline.model, self.pipeline.defaults)
        return Sketch(width, height)

    def plan(self) -> Plan:
        """The model's own settings; pictures that are edited are blended into their surroundings."""
        return Plan(replace(self.pipeline.default_settings(), blend=True),
                    adaptation=self.pipeline.adapter.adaptation)

    def make(self, sketch: Sketch, plan: Plan, told: Callable[[str, Progress], None] | None = None
             ) -> tuple[list[Made], list[str]]:
        """Carry out a sketch: the results, strength by strength, and what the pipeline and the model's card warn of.

        Args:
            told: is given a line of text and a ``Progress`` after every step.

        Raises:
            RequestError: names the line that is wrong, and what to do.
        """
        _check_drawn(sketch)
        reports = [] if plan.adaptation is None else self.pipeline.adapt(plan.adaptation)
        made, before = [], self.pipeline.scheduler
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            try:
                if plan.scheduler is not None:
                    self.pipeline.scheduler = make_scheduler(plan.scheduler, self.pipeline.model)
                for number, settings in enumerate(plan.each(), 1):
                    def callback(progress: Progress, number=number) -> None:
                        told(_progress_line(progress, number, plan), progress)

                    made += self._run(sketch, settings, plan.seeds, callback if told else None)
            finally:
                self.pipeline.scheduler = before
        ours = [str(warning.message) for warning in caught if issubclass(warning.category, RequestWarning)]
        item = prepare(translated(sketch.request(), self.pipeline.translator), self.pipeline.model,
                       self.pipeline.defaults)
        told_all = list(dict.fromkeys([*self._notes(item, plan.each()[0]), *ours, *reports]))
        made, chosen = self._read(made, item, plan.best)
        return made, [*told_all, *chosen]

    def _notes(self, item: Prepared, settings: Settings) -> list[str]:
        if not item.request.lines:
            return [NO_TEXT]
        return notes(item, settings, self.pipeline.defaults.capabilities, self.has_styles, option="")

    def _run(self, sketch: Sketch, settings: Settings, seeds: Sequence[int], callback) -> list[Made]:
        if sketch.picture is None:  # there is nothing to keep
            settings = replace(settings, blend=False, composite=False)
        request = sketch.request()
        found = self.pipeline.run([request], settings, len(seeds), list(seeds), callback=callback, output_type="np")
        return [Made(image, seed, settings, request, record) for image, seed, record in
                zip(found.images, found.seeds, found.records, strict=True)]

    def _read(self, made: list[Made], item: Prepared, keep: int | None) -> tuple[list[Made], list[str]]:
        """The results with what the judge reads in them, or the best ``keep`` of them and what was read in all."""
        if self.judge is None or not item.request.lines:
            return made, [] if keep is None else [NO_CHOICE]
        checks = check_pictures([one.image for one in made], [one.record for one in made], self.judge)
        made = [one._replace(check=check) for one, check in zip(made, checks, strict=True)]
        told = []
        if keep is not None:
            kept = best(checks, keep)
            told = ["what the judge reads:\n" + candidate_table([one.seed for one in made], checks, kept)]
            made = [made[i] for i in kept]
        if item.original is not None:
            made = [one._replace(report=edit_report(item.original, one.image, item.inside, one.record, self.judge))
                    for one in made]
        return made, told

    def save(self, made: Made, folder: str | os.PathLike) -> list[Path]:
        """Write a result with its settings, and the report of an edit, into ``folder``; see ``saving``."""
        written = save_picture(made.image, made.record, made.request, Path(folder), self.pipeline.folder)
        if made.report is not None:
            written += write_report(made.report, self.judge.name, self.change(made), written[0])
        return written

    def change(self, made: Made) -> np.ndarray:
        """What an edit did, (H, 3 W + 16, 3) uint8: before, after, and the difference; see ``edit_picture``."""
        item = prepare(made.request, self.pipeline.model, self.pipeline.defaults)
        return edit_picture(item.original, made.image, item.inside)


def _check_drawn(sketch: Sketch) -> None:
    """Raise RequestError, in the words of the application, where something is missing in the drawing."""
    blank = [f"line {i}" for i, place in enumerate(sketch.filled().places, 1)
             if not place.text.strip() and not place.erase]
    if blank:
        erase = "" if sketch.picture is None else ", tick “erase”"
        raise RequestError(f"{', '.join(blank)}: type the words{erase}, or remove the box")
    if sketch.picture is None and any(place.erase for place in sketch.places):
        raise RequestError("there is nothing to erase on empty paper: untick “erase”, or edit a picture")
    if sketch.picture is not None and not sketch.places and not quoted_words(sketch.prompt):
        raise RequestError("draw a box where the picture is to be changed, and type its words")


def numbers(text: str, kind: type, what: str) -> tuple:
    """Numbers of a field, apart by commas or spaces.

    Raises:
        RequestError: names the field ``what``.
    """
    try:
        return tuple(kind(part) for part in text.replace(",", " ").split())
    except ValueError:
        example = "0, 1, 2" if kind is int else "0.5, 1, 1.5"
        raise RequestError(f"{what}: {text!r} is no list of numbers: write them as {example}") from None


def _progress_line(progress: Progress, number: int, plan: Plan) -> str:
    which = f"strength {number} of {len(plan.strengths)}, " if len(plan.strengths) > 1 else ""
    return f"{which}step {progress.step} of {progress.steps}"
