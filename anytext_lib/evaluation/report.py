"""Write the result file with all that its numbers depend on, tables, and a page of the worst lines.

Numbers of different recognisers, crops, line counts or samplers cannot be compared, so no file leaves them out: what is
not known is null, and listed under ``unknown``.  The page shows the crop as the recogniser saw it, what was wanted, and
what it read.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import html
import io
import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein

from anytext_lib.data.batch import to_tensor
from anytext_lib.data.fonts import load_fonts
from anytext_lib.data.lines import BadLineError
from anytext_lib.errors import MissingFileError
from anytext_lib.evaluation.journal import ComparedPictureError, Picture, read_picture
from anytext_lib.evaluation.read import LOSS_RECOGNISER, LineReading, cut_line
from anytext_lib.evaluation.score import ALL, LineScore, ResultError, check_order
from anytext_lib.files import atomic_path, explained_output, file_hash, folder_lock
from anytext_lib.ocr.judge import PPOCRv4Judge, TesseractJudge
from anytext_lib.ocr.onnx_weights import package_file, recognizer_path

CARRIED = ("recogniser", "crops", "lines", "sampler", "checkpoint", "seed")
MOST_VALUES = 8
PACKAGES = ("torch", "onnxruntime", "rapidfuzz", "scipy", "torchmetrics", "transformers")
ASIAN = (0x0590, 0x1DFF), (0x2E80, 0x3FFFF)  # scripts that not every machine has, without the signs between them
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


# the result file


def write_result(path: str | os.PathLike, result: Mapping[str, Any]) -> None:
    """Check a result and write it, whole or not at all.

    Raises:
        ResultError: see ``check_result``.
    """
    check_result(result, str(path))
    with atomic_path(path) as temporary:
        text = json.dumps(result, ensure_ascii=False, indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def check_result(result: Mapping[str, Any], where: str = "the result") -> None:
    """Raise ResultError unless the result carries all of ``CARRIED`` and Sen.Acc <= NED holds everywhere."""
    missing = [name for name in CARRIED if name not in result]
    if missing:
        raise ResultError(f"{where} does not carry {', '.join(missing)}: without them its numbers mean nothing")
    for protocol, groups in result.get("protocols", {}).items():
        for group, scores in groups.items():
            check_order(scores["sentence_accuracy"], scores["ned"], f"{where}: protocol {protocol}, {group}")


@contextlib.contextmanager
def written_folder(output: str | os.PathLike) -> Iterator[None]:
    """Hold the folder of results alone while the block runs.

    Raises:
        FolderBusyError: another program writes into it. OutputError: it cannot be written.
    """
    option = "another folder by --output"
    with folder_lock(output, option), explained_output(output, option):
        yield


def write_table(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file with the keys of the first row as its columns, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def plain_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned text; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def shown(value: float | None, interval: Iterable[float | None] = ()) -> str:
    """A share with four digits, and its interval where there is one."""
    if value is None:
        return "none"
    bounds = list(interval)
    return f"{value:.4f}" + (f" [{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds and None not in bounds else "")


def table(protocols: dict[str, dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of the summaries, for a CSV file."""
    return [{"protocol": name, "lines of": group, **_flat(summary)}
            for name, groups in protocols.items() for group, summary in groups.items()]


def text_table(protocols: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The summaries for the terminal."""
    rows = [("protocol", "lines of", "items", "lines", "Sen.Acc [95%]", "NED [95%]")]
    rows += [(name, group, str(s["items"]), str(s["lines"]),
              shown(s["sentence_accuracy"], s["sentence_accuracy_interval"]), shown(s["ned"], s["ned_interval"]))
             for name, groups in protocols.items() for group, s in groups.items()]
    return plain_table(rows)


def _flat(summary: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for name, value in summary.items():
        if isinstance(value, list):
            flat |= {name.replace("interval", "low"): value[0], name.replace("interval", "high"): value[1]}
        else:
            flat[name] = value
    return flat


# what numbers depend on


def sha256(path: str | os.PathLike) -> str:
    """Of a file; of a folder, over the names and hashes of its files in order of name."""
    path = Path(path)
    if path.is_file():
        return file_hash(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        raise MissingFileError(f"there is no file or folder with files {path}")
    listed = "".join(f"{sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def checkpoint_identity(checkpoint: str | os.PathLike | None) -> dict | None:
    """Name and hash of a checkpoint: a file, a model's folder, or "sha256:..." where the file is elsewhere.

    A model's folder has the hash that `anytext generate` writes into pictures.
    """
    if checkpoint is None:
        return None
    text = str(checkpoint)
    if text.startswith("sha256:"):
        return {"name": None, "sha256": text.removeprefix("sha256:").lower()}
    if (Path(text) / "anytext2.json").is_file():
        from anytext_lib.generation.metadata import model_record

        return {"name": Path(text).resolve().name, "sha256": model_record(text)["sha256"]}
    return {"name": Path(text).resolve().name, "sha256": sha256(text)}


def recogniser_identity(reader: Any, name: str) -> dict:
    """Who read: its name, whether it is independent of the losses, its program, and the hash of its weights."""
    program, weights = _origin(name)
    return {"name": name, "independent": name != LOSS_RECOGNISER, "program": program,
            "weights_sha256": sha256(weights) if weights else None,
            **({"languages": list(reader.languages)} if hasattr(reader, "languages") else {})}


def _origin(name: str) -> tuple[str | None, Path | None]:
    """Program or package with its version, and file of weights, of a recogniser that this library knows."""
    if name == PPOCRv4Judge.name:
        weights = package_file("rapidocr", PPOCRv4Judge.file, "rapidocr>=3.8.3,<3.9")
        return f"rapidocr {metadata.version('rapidocr')}", weights
    if name == LOSS_RECOGNISER:
        return f"rapidocr-onnxruntime {metadata.version('rapidocr-onnxruntime')}", recognizer_path()
    if name == TesseractJudge.name:
        done = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, timeout=60)
        return (done.stdout or done.stderr).strip().partition("\n")[0], None
    return None, None


def common_value(values: Iterable[Any]) -> Any:
    """The one value that all have; a sorted list of at most eight, with the number of all, if they differ."""
    kept: dict[str, Any] = {json.dumps(value, sort_keys=True): value for value in values if value is not None}
    if len(kept) < 2:
        return next(iter(kept.values()), None)
    return {"different": len(kept), "values": [kept[key] for key in sorted(kept)][:MOST_VALUES]}


def generation(given: Mapping[str, Any], settings: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Sampler, checkpoint and seed: as given, else as the pictures say, else None; ``unknown`` lists the latter."""
    found = {name: given.get(name) if given.get(name) is not None
             else common_value((row or {}).get(name) for row in settings) for name in ("sampler", "checkpoint", "seed")}
    return {**found, "unknown": [name for name, value in found.items() if value is None]}


# the page of the worst lines


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
    """Return both texts as HTML: unread parts of ``wanted`` in <del>, added parts of ``read`` in <ins>."""
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
        piece = cut_line(to_tensor(read_picture(picture.path))[0], picture.lines[line.line], crop)
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
    """Those of the course's fonts that Chinese, Arabic, Hindi and other such characters of ``text`` need."""
    try:
        faces = list(load_fonts().values())
    except MissingFileError:  # the package without the course's data
        return ""
    rules, wanted = "", {character for character in text if any(low <= ord(character) <= high for low, high in ASIAN)}
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
