"""From the entries of a benchmark file to what the model is asked for, as upstream asks it.

A caption is taken as it stands: quote marks in it make no lines, and a ``*`` becomes a space.  Valid lines are asked
for, the first 20, cut to 20 characters, at their polygons.  What upstream draws is drawn, small and overlapping
regions, too; a line that cannot be drawn at all (no font has its letters, its polygon has no area) is left out of the
picture, and is judged there all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anytext_lib.benchmark.published import MAX_CHARS, MAX_LINES, PublishedSettings
from anytext_lib.data.anyword import AnnotatedImage, entry_row, read_anyword, write_rows
from anytext_lib.data.texts import cut, normal_text
from anytext_lib.errors import OptionError
from anytext_lib.evaluation.read import picture_stem
from anytext_lib.generation.prepare import Prepared, prepare
from anytext_lib.generation.request import Defaults, Line, Request, RequestError


def read_items(annotations: Path, limit: int | None = None) -> list[AnnotatedImage]:
    """The entries of a benchmark file, the first ``limit``.

    Raises:
        OptionError: two entries would give pictures of one name, there are none, or ``limit`` is below 1.
        MissingFileError, AnyWordError: as ``read_anyword``.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"limit is at least 1, got {limit}")
    entries = read_anyword(annotations)[:limit]
    if not entries:
        raise OptionError(f"{annotations} describes no picture")
    seen: dict[str, str] = {}
    for entry in entries:
        if (other := seen.setdefault(picture_stem(entry), entry.name)) != entry.name:
            raise OptionError(f"{annotations}: {other!r} and {entry.name!r} would have pictures of one name: "
                              "rename one")
    if len(seen) < len(entries):
        raise OptionError(f"{annotations}: an entry is there twice")
    return entries


def write_items(path: Path, entries: Sequence[AnnotatedImage]) -> None:
    """The entries as a file of their own, for the measurements."""
    write_rows(path, [entry_row(entry) for entry in entries])


def picture_names(entry: AnnotatedImage, count: int) -> list[str]:
    """Names of the pictures of an entry: its name up to the first dot, and a number."""
    return [f"{picture_stem(entry)}_{number}.png" for number in range(count)]


def prepare_item(entry: AnnotatedImage, model, defaults: Defaults, settings: PublishedSettings,
                 glyph_font: str | None = None, font_hint: str = "none") -> tuple[Prepared, list[str]]:
    """What the model is asked for, and the lines that are left out, each with the reason.

    Args:
        glyph_font: font in which the model is shown the lines.
        font_hint: in which form it is also shown as the font to imitate, see ``Request``; "none": not at all.
    """
    lines = [Line(cut(normal_text(line.text), MAX_CHARS).strip(), line.polygon.tolist(),
                  font=None if font_hint == "none" else glyph_font)
             for line in entry.annotations if line.valid][:MAX_LINES]

    def prepared(kept: list[Line]) -> Prepared:
        request = Request(entry.caption, kept, negative_prompt=settings.negative_prompt,
                          added_prompt=settings.added_prompt, glyph_font=glyph_font, quoted_words="plain",
                          font_hint=None if font_hint == "none" else font_hint)
        return prepare(request, model, defaults, tolerant=True)

    try:
        return prepared(lines), []
    except RequestError:
        kept, left_out = [], []
        for line in lines:
            try:
                prepared([line])
                kept.append(line)
            except RequestError as error:
                left_out.append(str(error).replace("line 1 ", ""))
        return prepared(kept), left_out
