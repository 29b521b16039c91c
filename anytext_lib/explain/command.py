"""The command `anytext explain`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from anytext_lib.errors import AnyTextError, OptionError

ABOUT = """What AnyText2's reading losses make of your own photograph: the lines that are found, their crops, what is
read on them, and where the gradients of the OCR and CTC losses fall, as one figure."""
EPILOG = """Exit status: 0 all well; 1 no text was found; 2 the request was wrong."""


class NoTextError(AnyTextError, ValueError):
    """No line of text was found on a photograph."""

    exit_status = 1


def explain_parser() -> ArgumentParser:
    """The parser of `anytext explain`."""
    parser = ArgumentParser(prog="anytext explain", description=ABOUT, epilog=EPILOG)
    add = parser.add_argument
    add("photo", type=Path, help="a photograph with text on it")
    add("--text", action="append", metavar="TEXT",
        help="what a line says, in the order of the numbers in the figure; may be repeated (default: what the judge "
        "reads)")
    add("--blur", type=float, default=4.0,
        help="how soft the estimate is that stands for an early step: pixels of a crop 48 pixels high")
    add("--judge", type=Literal["ppocrv4", "tesseract"], default="ppocrv4", help="who reads beside PP-OCRv3")
    add("--output", type=Path | None, metavar="FILE", help="the figure (default: NAME_explained.png in this folder)")
    add("--threads", type=int | None, help="of detector and judge (default: all cores)")
    return parser


def run_explain(options: Namespace) -> int:
    """Carry out `anytext explain`; returns the exit status."""
    from anytext_lib.data.pictures import PictureError, read_picture
    from anytext_lib.device import cpu_count
    from anytext_lib.ocr.detector import TextDetector
    from anytext_lib.ocr.judge import Judge
    from anytext_lib.ocr.recogniser import PPOCRv3Recognizer
    from anytext_lib.ocr.spotting import spot_lines

    if options.output is not None and options.output.suffix.lower() != ".png":
        raise OptionError(f"the figure is a PNG file: name it something.png, not {options.output.name}")
    threads = options.threads or cpu_count()
    try:
        photo = read_picture(options.photo)
    except PictureError as error:
        raise PictureError(f"{options.photo}: {error}") from error
    spotted = spot_lines(photo, TextDetector.from_pretrained(threads), Judge.from_name(options.judge, threads=threads))
    if not spotted:
        raise NoTextError(f"no text was found on {options.photo}: take a larger or clearer picture of it")
    _show(options, photo, spotted, PPOCRv3Recognizer.from_pretrained())
    return 0


def _show(options: Namespace, photo, spotted, recogniser) -> None:
    """Compute, print a row for each line, and write the figure."""
    import matplotlib.pyplot as plt

    from anytext_lib.course.style import PIXELS_PER_INCH
    from anytext_lib.evaluation.report import plain_table
    from anytext_lib.explain.pull_figure import draw
    from anytext_lib.explain.pulls import explain
    from anytext_lib.files import atomic_path

    found = explain(photo, spotted, recogniser, options.text or (), options.blur)
    table = [("line", options.judge, "PP-OCRv3", "PP-OCRv3, soft", "text of the loss", "ocr", "ctc")]
    table += [(str(i), line.spotted.text, line.reading.text, line.soft_reading.text, line.wanted, f"{line.ocr:.3f}",
               f"{line.ctc:.3f}" if line.fits else "too long") for i, line in enumerate(found.lines, 1)]
    print(plain_table(table))
    target = options.output or Path(f"{options.photo.stem}_explained.png")
    with atomic_path(target) as temporary:
        with warnings.catch_warnings():  # what the course's fonts cannot write is a box in the figure; the table has it
            warnings.filterwarnings("ignore", "Glyph .* missing")
            figure = draw(found, options.judge)
            figure.savefig(temporary, format="png", dpi=PIXELS_PER_INCH)
        plt.close(figure)
    print(f"wrote {target}")
