"""A page of the worst lines: the crop as the recogniser saw it, what was wanted, and what it read."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from anytext_lib.data.fonts import load_fonts
from anytext_lib.data.lines import BadLineError
from anytext_lib.errors import MissingFileError
from anytext_lib.evaluation.crops import cut_line, to_tensor
from anytext_lib.evaluation.items import Picture
from anytext_lib.evaluation.measure import ComparedPictureError, read_picture
from anytext_lib.evaluation.protocols import LineScore
from anytext_lib.evaluation.readings import LineReading
from anytext_lib.evaluation.scores import ALL, shown
from anytext_lib.files import atomic_path

FIRST_CHINESE = 0x2E7F
STYLE = """body { font: 16px/1.45 Embedded, system-ui, sans-serif; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem; color: #1c1c1c; background: #fff }
h1 { font-size: 1.4rem } p.note, td, th { font-size: .9rem } p.note { color: #555 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .2rem .8rem .2rem 0; text-align: left;
  vertical-align: top } th { font-weight: 600 }
.line { display: grid; grid-template-columns: 340px 1fr; gap: 1rem; padding: .7rem 0 0; border-top: 1px solid #ddd }
.line img { width: 320px; height: 48px; border: 1px solid #ccc; background: #808080 }
dl { display: grid; grid-template-columns: 4.5rem 1fr; margin: 0 } dt { color: #555 } dd { margin: 0;
  white-space: pre-wrap; overflow-wrap: anywhere } .texts dd { font-size: 1.15rem }
del, ins { text-decoration: none; border-radius: 3px; padding: 0 1px } del { background: #cfe3ff } ins {
  background: #ffd7a8 } .none { color: #777; font-style: italic }"""


def worst_lines(lines: Sequence[LineReading], scores: Sequence[LineScore], count: int) -> list[int]:
    """Indices of at most ``count`` wrong lines: lowest NED first, among equals those read with most confidence."""
    wrong = [i for i, score in enumerate(scores) if not score.correct]
    return sorted(wrong, key=lambda i: (scores[i].ned, -lines[i].confidence, i))[:count]


def write_worst(path: str | os.PathLike, result: Mapping[str, Any], lines: Sequence[LineReading],
                scores: Sequence[LineScore], pictures: Sequence[Picture], crop: str, protocol: str,
                count: int = 60) -> None:
    """Write the page, one file with its pictures inside.

    Args:
        result: what ``result.json`` holds. ``lines``, ``scores``: of ``protocol``, whose crop is ``crop``.
        count: lines to show at most.
    """
    by_name = {picture.name: picture for picture in pictures}
    chosen = worst_lines(lines, scores, count)
    wrong = sum(not score.correct for score in scores)
    cards = "\n".join(_card(lines[i], scores[i], by_name[lines[i].picture], crop) for i in chosen)
    text = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Worst lines: {_text(result["pictures"]["folder"])}</title>
<style>{STYLE}{_fonts("".join(lines[i].wanted + lines[i].read for i in chosen))}</style></head><body>
<h1>Worst lines of {_text(result["pictures"]["folder"])}</h1>
<p>{len(chosen)} of {wrong} wrong lines among {len(lines)}, by protocol <b>{_text(protocol)}</b>: lowest NED first.
{_differences() if chosen else ""}</p>
{_facts(result, protocol)}
{cards}
</body></html>
"""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def marked(read: str, wanted: str) -> tuple[str, str]:
    """Both texts as HTML: of ``wanted`` what is not read is in <del>, of ``read`` what was not wanted in <ins>."""
    shown_read, shown_wanted = "", ""
    for operation in Levenshtein.opcodes(wanted, read):
        old = _text(wanted[operation.src_start : operation.src_end])
        new = _text(read[operation.dest_start : operation.dest_end])
        same = operation.tag == "equal"
        shown_wanted += old if same or not old else f"<del>{old}</del>"
        shown_read += new if same or not new else f"<ins>{new}</ins>"
    return shown_read, shown_wanted


def _card(line: LineReading, score: LineScore, picture: Picture, crop: str) -> str:
    read, wanted = marked(line.read, line.wanted)
    nothing = '<span class="none">nothing</span>'
    return f"""<div class="line">{_image(line, picture, crop)}<div><dl class="texts"><dt>wanted</dt>
<dd>{wanted or nothing}</dd><dt>read</dt><dd>{read or nothing}</dd></dl>
<p class="note">{_text(line.picture)}, line {line.line}, {_text(line.language)}; NED {score.ned:.3f}, confidence
{line.confidence:.2f}</p></div></div>"""


def _image(line: LineReading, picture: Picture, crop: str) -> str:
    try:
        piece = cut_line(to_tensor(read_picture(picture.path)), picture.lines[line.line], crop)
    except (BadLineError, ComparedPictureError, IndexError) as error:  # the file has changed since it was read
        return f'<span class="none">{_text(str(error))}</span>'
    return (f'<img src="data:image/png;base64,{_png(piece)}" width="320" height="48" '
            f'alt="crop of the line {_text(line.wanted)}">')


def _png(crop: torch.Tensor) -> str:
    from PIL import Image

    pixels = ((crop.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _facts(result: Mapping[str, Any], protocol: str) -> str:
    """The numbers, and what they depend on."""
    scores, reader = result["protocols"][protocol][ALL], result["recogniser"]
    rows = {
        "Sen.Acc": shown(scores["sentence_accuracy"], scores["sentence_accuracy_interval"]),
        "NED": shown(scores["ned"], scores["ned_interval"]),
        "lines": f"{scores['lines']} of {scores['items']} items",
        "recogniser": reader["name"] + ("" if reader["independent"] else ", which the losses are computed with: "
                                        "not an independent judge"),
        "crop": ", ".join(name for name, crop in result["crops"].items() if protocol in crop["protocols"]),
        **{name: "unknown" if result[name] is None else _plain(result[name])
           for name in ("sampler", "checkpoint", "seed")},
    }
    cells = "\n".join(f"<tr><th>{name}</th><td>{_text(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{cells}</table>"


def _fonts(text: str) -> str:
    """Those of the course's fonts that Chinese characters of ``text`` need: not every machine has any."""
    try:
        faces = list(load_fonts().values())
    except MissingFileError:  # the package without the course's data
        return ""
    rules, wanted = "", {character for character in text if ord(character) > FIRST_CHINESE}
    while wanted:
        face = max(faces, key=lambda face, wanted=wanted: len(wanted & face.characters))
        found = sorted(wanted & face.characters)
        if not found:
            break
        wanted -= face.characters
        data = base64.b64encode(face.path.read_bytes()).decode("ascii")
        rules += (f"\n@font-face {{ font-family: Embedded; src: url(data:font/{face.path.suffix[1:]};base64,{data}); "
                  f"unicode-range: {', '.join(f'U+{ord(character):X}' for character in found)} }}")
    return rules


def _plain(value: Any) -> str:
    """A setting in words."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    return str(value)


def _differences() -> str:
    return 'Marked are <del>wanted, not read</del> and <ins>read, not wanted</ins>.'


def _text(text: str) -> str:
    return html.escape(text)
