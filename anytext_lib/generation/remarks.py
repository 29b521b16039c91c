"""What a model was not trained for among the things that are asked of it, in sentences (see ``Capabilities``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from anytext_lib.data.texts import other_script
from anytext_lib.generation.prepare import Prepared
from anytext_lib.generation.request import Capabilities, Settings
from anytext_lib.generation.translation import foreign_prompts
from anytext_lib.ocr.unreadable import unreadable, unreadable_note

HUE = 40  # of 255: how far the channels of a colour must be apart for it to have a hue


def notes(item: Prepared, settings: Settings, capabilities: Capabilities, styles: bool = True,
          option: str = "--") -> list[str]:
    """What a model was not trained for among the things that are asked of it: a sentence each, none if all is well.

    Args:
        styles: False for a model that was built without styles; the pipeline warns of that itself.
        option: what stands before the name of a setting where one can choose it.
    """
    found = [*_line_notes(item, capabilities, styles), *_picture_notes(item, capabilities, option)]
    if capabilities.editing is False and item.original is not None:
        found.append("this model was not trained to edit: " + _editing_words(settings, option))
    return found


def _line_notes(item: Prepared, can: Capabilities, styles: bool) -> Iterator[str]:
    request, sample = item.request, item.sample
    named = [f"line {i + 1} ({line.text!r})" for i, line in enumerate(request.lines)]
    lines = list(zip(named, request.lines, sample.languages, sample.colors, strict=True))
    if can.languages is not None:
        odd = [who for who, line, language, _ in lines if not _knows(can.languages, language, line.text)]
        if odd:
            yield f"{_listed(odd)}: this model was trained on {_listed(can.languages)} only, and will not write that"
    for who, line in zip(named, request.lines, strict=True):
        if found := unreadable([line.text]):
            yield unreadable_note(who, found)
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
        asked = [who for who, line, *_ in lines if line.imitates]
        if asked:
            yield f"the font of {_listed(asked)}: this model was not trained to imitate fonts"


def _picture_notes(item: Prepared, can: Capabilities, option: str) -> Iterator[str]:
    request, (height, width) = item.request, item.sample.image.shape[:2]
    if can.max_lines is not None and len(request.lines) > can.max_lines:
        yield f"{len(request.lines)} lines: this model was trained on pictures with at most {can.max_lines}"
    if can.sizes is not None and (width, height) not in can.sizes:
        trained = _listed([f"{w} x {h}" for w, h in can.sizes])
        yield f"the picture has {width} x {height} pixels: this model was trained on {trained}"
    if (odd := foreign_prompts(request)) and (can.prompts is None or "English" in can.prompts):
        known = "the caption encoder (CLIP) knows English only" if can.prompts is None else \
            f"this model was trained on prompts in {_listed(can.prompts)} only"
        yield (f"{_listed(odd)}: {known}, and takes other scripts for noise. Write it in English, or name a translator "
               f"({option}translator)")


def _editing_words(settings: Settings, option: str) -> str:
    blend = f"{option}blend keeps the surroundings at every step"
    composite = f"{option}composite puts the pixels outside of the regions back exactly"
    if settings.blend:
        return "letters and ground may not fit their surroundings" + ("" if settings.composite else f"; {composite}")
    if settings.composite:
        return f"what is inside the regions will hardly fit; {blend}"
    return f"it paints the whole picture anew; {blend}, {composite}"


def _knows(languages: Sequence[str], language: str, text: str) -> bool:
    if language == "Latin" and other_script(text):  # Cyrillic, Arabic, ...: AnyWord has no name that we can guess
        return False
    return language in languages or language.startswith("Chinese") and "Chinese" in languages


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
