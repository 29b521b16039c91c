"""The command `anytext data`: label, check, convert, index."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from anytext_lib.errors import AnyTextError

ABOUT = "Annotated pictures in the AnyWord form: label, check, convert, prepare."
EPILOG = "Exit status: 0 all well; 1 problems were found in the data; 2 the request was wrong."


def data_parser() -> ArgumentParser:
    """The parser of `anytext data`, on its own."""
    parser = ArgumentParser(prog="anytext data", description=ABOUT, epilog=EPILOG)
    add_data_commands(parser)
    return parser


def add_data_commands(parser: ArgumentParser) -> None:
    """Give ``parser`` the subcommands.  A parser that is itself a subcommand must have been added to its own before."""
    parts = parser.add_subcommands(required=False)
    parts.add_subcommand("check", _check_parser(), help="hold a data set to its schema, with a remedy for each problem")
    parts.add_subcommand("convert", _convert_parser(), help="make one of a plain folder (CSV, JSONL, ICDAR 2015)")
    parts.add_subcommand("label", _label_parser(), help="draft the annotations of photographs, for a person to correct")
    parts.add_subcommand("index", _index_parser(), help="build the memory-mapped index of a large annotation file")


def _check_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="anytext data check", epilog=EPILOG,
                            description="Check an annotation file and its pictures.")
    parser.add_argument("path", type=Path | None, nargs="?",
                        help="annotation file (JSON), or a folder with an annotations.json")
    parser.add_argument("--images", type=Literal["decode", "open", "none"], default="decode",
                        help="decode every picture; open it for its size only (faster); or leave pictures alone")
    parser.add_argument("--max-chars", type=int, default=20, help="longest text that is drawn and read")
    parser.add_argument("--percent", type=float, default=1.0, help="share of the entries to check, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the share and of the contact sheet")
    parser.add_argument("--font", action="append", metavar="FILE",
                        help="font file that can write texts as well; may be repeated")
    parser.add_argument("--ignore", action="append", metavar="KIND",
                        help="kind of problem that does not count, as text_too_long; may be repeated")
    parser.add_argument("--show", type=int, default=5, help="problems of each kind to print")
    parser.add_argument("--sheet", type=Path | None, metavar="FILE", help="draw samples with their polygons")
    parser.add_argument("--sheet-count", type=int, default=12, help="samples on the sheet")
    parser.add_argument("--json", type=Path | None, metavar="FILE", help="write the report as JSON as well")
    return parser


def _convert_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="anytext data convert", description="Turn a folder of pictures into a data set.",
                            epilog=EPILOG)
    parser.add_argument("folder", type=Path | None, nargs="?", help="folder of the pictures")
    parser.add_argument("--output", type=Path | None, help="annotation file (default: annotations.json in the folder)")
    parser.add_argument("--form", type=Literal["auto", "csv", "jsonl", "icdar"], default="auto",
                        help="of the annotations (default: by what is there)")
    parser.add_argument("--annotations", type=Path | None, help="the CSV or JSONL, or the folder of the gt_*.txt")
    parser.add_argument("--language", type=str, default="auto", help="of lines that do not say theirs")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    return parser


def _index_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="anytext data index", epilog=EPILOG,
                            description="Build the index of an annotation file, unless it is up to date.")
    parser.add_argument("path", type=Path | None, nargs="?", help="annotation file (JSON)")
    parser.add_argument("--cache", type=Path | None, help="folder for the index (default: beside the JSON)")
    parser.add_argument("--rebuild", action="store_true", help="build it in any case")
    return parser


def _label_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="anytext data label", epilog=EPILOG,
                            description="Draft the annotations of photographs: a detector finds the lines, an "
                            "independent reader reads them. What a person has to look at is marked: valid is false, "
                            "and look says why. Correct it, set valid to true, then run anytext data check.")
    parser.add_argument("path", type=Path | None, nargs="?", help="folder of photographs, or one photograph")
    parser.add_argument("--output", type=Path | None, help="annotation file (default: annotations.json in the folder)")
    parser.add_argument("--sheet", type=Path | None, metavar="FILE",
                        help="draw the photographs with the lines, their texts and scores")
    parser.add_argument("--sheet-count", type=int, default=60, help="photographs on the sheet")
    parser.add_argument("--min-score", type=float, default=0.8,
                        help="lines of which detector or reader are less sure are marked, 0 to 1")
    parser.add_argument("--judge", type=Literal["ppocrv4", "tesseract"], default="ppocrv4", help="who reads")
    parser.add_argument("--language", type=str, default="auto", help="of all lines (default: by their script)")
    parser.add_argument("--max-chars", type=int, default=20, help="longer lines are marked: to be split")
    parser.add_argument("--font", action="append", metavar="FILE",
                        help="font file that can write texts as well; may be repeated")
    parser.add_argument("--threads", type=int | None, help="of detector and reader (default: all cores)")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    return parser


def run_data(options: Namespace) -> int:
    """Do what ``options`` (of ``data_parser``) ask; 0 all well, 1 problems in the data, 2 a wrong request."""
    command = options.subcommand
    if command is None or (options[command].get("path", options[command].get("folder"))) is None:
        (PARSERS[command]() if command else data_parser()).print_help(sys.stderr)
        return AnyTextError.exit_status
    try:
        return COMMANDS[command](options[command])
    except AnyTextError as error:
        print(f"anytext data {command}: {error}", file=sys.stderr)
        return error.exit_status


def check(options: Namespace) -> int:
    """`anytext data check`."""
    from anytext_lib.datatools.check import check_data, readable_entries
    from anytext_lib.datatools.contact_sheet import contact_sheet
    from anytext_lib.files import atomic_path

    report = check_data(options.path, images=options.images, max_chars=options.max_chars, percent=options.percent,
                        seed=options.seed, ignore=tuple(options.ignore or ()), limit=max(100, options.show),
                        fonts=tuple(options.font or ()), progress=_Progress())
    print(report.summary(options.show))
    if options.json is not None:
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps(report.to_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        print(f"wrote {options.json}")
    if options.sheet is not None:
        samples = readable_entries(options.path, options.sheet_count, options.seed)
        if samples:
            contact_sheet(samples, path=options.sheet)
            print(f"wrote {options.sheet}: {len(samples)} samples")
        else:
            print("no contact sheet: there is no entry that can be read", file=sys.stderr)
    return 0 if report.ok else 1


def convert(options: Namespace) -> int:
    """`anytext data convert`."""
    from anytext_lib.datatools.convert_folder import convert_folder

    made = convert_folder(options.folder, options.output, form=options.form, annotations=options.annotations,
                          language=options.language, force=options.force)
    print(f"wrote {made.output} from {made.form}: {made.images} pictures, {made.lines} lines, {made.invalid} of them "
          "marked invalid")
    if made.unannotated:
        print(f"{len(made.unannotated)} pictures have no annotation and were left out, "
              f"{made.unannotated[0].name} among them")
    print(f"Now check it: anytext data check {made.output}")
    return 0


def label(options: Namespace) -> int:
    """`anytext data label`."""
    from anytext_lib.datatools.label_photos import label_photos
    from anytext_lib.device import cpu_count

    made = label_photos(options.path, options.output, judge=options.judge, min_score=options.min_score,
                        language=options.language, max_chars=options.max_chars, fonts=tuple(options.font or ()),
                        threads=options.threads or cpu_count(), force=options.force)
    print(f"wrote {made.output}: {len(made.images)} photographs, {made.lines} lines, {made.marked} of them to be "
          "looked at (valid is false; look says why)")
    for names, what in ((made.empty, "hold no text that was found"), (made.unread, "could not be read")):
        if names:
            print(f"{len(names)} photographs {what}, {names[0]} among them")
    if options.sheet is not None:
        print(f"wrote {options.sheet}: {made.sheet(options.sheet, options.sheet_count)} photographs")
    print(f"Now correct it, then: anytext data check {made.output}")
    return 0


def index(options: Namespace) -> int:
    """`anytext data index`."""
    from anytext_lib.data.index import AnyWordIndex

    made = AnyWordIndex.open(options.path, cache=options.cache, rebuild=options.rebuild)
    print(f"{made.path}: {len(made)} pictures, {made.stamp.lines} lines")
    return 0


class _Progress:
    """Print the progress of a long check on standard error, every ten seconds."""

    def __init__(self):
        self.told = time.monotonic()

    def __call__(self, done: int) -> None:
        if time.monotonic() - self.told > 10:
            self.told = time.monotonic()
            print(f"anytext: {done} pictures checked", file=sys.stderr, flush=True)


PARSERS = {"check": _check_parser, "convert": _convert_parser, "index": _index_parser, "label": _label_parser}
COMMANDS = {"check": check, "convert": convert, "index": index, "label": label}
