"""The command `anytext evaluate`: ocr, fid, clip, lpips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from anytext_lib.device import cpu_count

ABOUT = """How good generated pictures are: can their text be read (ocr), do they look real (fid), do they show what
the caption says (clip), how far are they from the originals (lpips)."""
EPILOG = """Exit status: 0 all well; 2 the request was wrong, or weights or pictures are missing; 130 interrupted: the
same command goes on from there."""


def evaluate_parser() -> ArgumentParser:
    """The parser of `anytext evaluate`, on its own."""
    parser = ArgumentParser(prog="anytext evaluate", description=ABOUT, epilog=EPILOG)
    add_evaluate_commands(parser)
    return parser


def add_evaluate_commands(parser: ArgumentParser) -> None:
    """Give ``parser`` the subcommands.  A parser that is itself a subcommand must have been added to its own before."""
    parts = parser.add_subcommands(required=True)
    parts.add_subcommand("ocr", _ocr_parser(), help="Sen.Acc and NED of the text, by an independent recogniser")
    parts.add_subcommand("fid", _fid_parser(), help="FID of a folder against real pictures")
    parts.add_subcommand("clip", _clip_parser(), help="CLIPScore of pictures and captions")
    parts.add_subcommand("lpips", _lpips_parser(), help="LPIPS of edited pictures and their originals")


def run_evaluate(options: Namespace) -> int:
    """Do what ``options`` (of ``evaluate_parser``) ask; returns the exit status."""
    print(COMMANDS[options.subcommand](options[options.subcommand]))
    return 0


def ocr(options: Namespace) -> str:
    """`anytext evaluate ocr`."""
    from anytext_lib.evaluation.ocr import PROTOCOLS, evaluate_ocr
    from anytext_lib.evaluation.report import text_table

    result = evaluate_ocr(
        options.annotations, options.images, options.output, options.recogniser, options.protocol or PROTOCOLS,
        options.crop, options.per_item, options.max_lines, options.skip_missing, _given(options), options.batch,
        options.threads or cpu_count(), options.worst, options.restart)
    told = [text_table(result["protocols"]), "", *_remarks(result)]
    skipped = sum(len(reasons) for reasons in result["lines"]["skipped"].values())
    if skipped:
        told.append(f"{skipped} lines could not be cut out and do not count; result.json says why")
    if not result["recogniser"]["independent"]:
        told.append(f"{options.recogniser} is the recogniser of the losses: a model trained with it may please it "
                    "without being legible. Judge by another one")
    return "\n".join([*told, f"wrote {options.output}: result.json, table.csv, lines.csv, worst.html"])


def fid(options: Namespace) -> str:
    """`anytext evaluate fid`."""
    from anytext_lib.evaluation.image_metrics import evaluate_fid

    result = evaluate_fid(options.real, options.fake, options.output, options.weights, sizes=options.size or (),
                          given=_given(options), batch=options.batch, device=_device(options.device),
                          restart=options.restart)
    counts = result["pictures"]
    told = [f"FID {result['fid']:.3f} of {counts['fake']['count']} pictures against {counts['real']['count']}"]
    told += [f"FID {min(values):.3f} to {max(values):.3f} of {size} of them, {len(values)} draws"
             for size, values in result["fid_by_size"].items()]
    return _told(told, result, options)


def clip(options: Namespace) -> str:
    """`anytext evaluate clip`."""
    from anytext_lib.evaluation.image_metrics import evaluate_clip
    from anytext_lib.evaluation.report import shown

    result = evaluate_clip(options.annotations, options.images, options.output, options.weights,
                           per_item=options.per_item, skip_missing=options.skip_missing, given=_given(options),
                           batch=options.batch, device=_device(options.device), restart=options.restart)
    return _told([f"CLIPScore {shown(result['clip_score'], result['clip_score_interval'])} (w = {result['weight']}) of "
                  f"{result['pictures']['read']} pictures"], result, options)


def lpips(options: Namespace) -> str:
    """`anytext evaluate lpips`."""
    from anytext_lib.evaluation.image_metrics import evaluate_lpips
    from anytext_lib.evaluation.report import shown

    result = evaluate_lpips(options.real, options.fake, options.output, options.weights, given=_given(options),
                            batch=options.batch, device=_device(options.device), restart=options.restart)
    return _told([f"LPIPS {shown(result['lpips'], result['lpips_interval'])} of {result['pictures']['pairs']} pairs"],
                 result, options)


def _ocr_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Sen.Acc and NED of the lines of text in generated pictures.", epilog=EPILOG)
    _add_annotated(parser)
    parser.add_argument("--recogniser", type=str, default="ppocrv4",
                        help="ppocrv4, tesseract; ppocrv3 is the one of the losses and no judge")
    parser.add_argument("--protocol", action="append", metavar="NAME",
                        help="anytext, anytext-english, strict, udifftext; may be repeated (default: anytext, strict)")
    parser.add_argument("--crop", type=str | None, help="upright or box (default: each protocol's own)")
    parser.add_argument("--max-lines", type=int, default=20, help="lines of an entry that count, the first ones")
    parser.add_argument("--threads", type=int | None, help="of the recogniser (default: all cores)")
    parser.add_argument("--worst", type=int, default=60, help="lines on the page of worst cases")
    _add_common(parser)
    return parser


def _fid_parser() -> ArgumentParser:
    parser = ArgumentParser(description="FID of two folders of pictures.", epilog=EPILOG)
    _add_folders(parser, "pt_inception-2015-12-05-6726825d.pth")
    parser.add_argument("--size", type=int, nargs="+", metavar="N",
                        help="also FID of random subsets of so many generated pictures")
    _add_common(parser, device=True)
    return parser


def _clip_parser() -> ArgumentParser:
    parser = ArgumentParser(description="CLIPScore of generated pictures with their captions.", epilog=EPILOG)
    _add_annotated(parser)
    parser.add_argument("--weights", type=Path | None, metavar="FOLDER", help="CLIP ViT-B/32, in transformers' files")
    _add_common(parser, device=True)
    return parser


def _lpips_parser() -> ArgumentParser:
    parser = ArgumentParser(description="LPIPS of the pictures of two folders, paired by name.", epilog=EPILOG)
    _add_folders(parser, "alexnet-owt-7be5be79.pth")
    _add_common(parser, device=True)
    return parser


def _add_annotated(parser: ArgumentParser) -> None:
    parser.add_argument("annotations", type=Path, help="annotation file (JSON in the AnyWord form, as test1k.json)")
    parser.add_argument("images", type=Path | None, nargs="?",
                        help="folder of the generated pictures (default: data_root of the annotation file)")
    parser.add_argument("--per-item", type=int | None,
                        help="pictures of an entry, NAME_0, NAME_1, ... (default: as many as the first entry has)")
    parser.add_argument("--skip-missing", action="store_true", help="leave out pictures that are not there")


def _add_folders(parser: ArgumentParser, weights: str) -> None:
    parser.add_argument("real", type=Path, help="folder of real pictures")
    parser.add_argument("fake", type=Path, help="folder of generated pictures")
    parser.add_argument("--weights", type=Path | None, metavar="FILE",
                        help=f"{weights} (default: in the folder that ANYTEXT_WEIGHTS names)")


def _add_common(parser: ArgumentParser, device: bool = False) -> None:
    parser.add_argument("--output", type=Path, default=Path("evaluation"), help="folder for the results")
    parser.add_argument("--sampler", type=str | None, help="how the pictures were sampled, as "
                        "'DDIM 20, cfg 7.5'; taken from the pictures themselves where they hold it, as are "
                        "--checkpoint and --seed")
    parser.add_argument("--checkpoint", type=str | None, metavar="PATH",
                        help="of the model: a file or folder, whose hash is noted, or sha256:...")
    parser.add_argument("--seed", type=int | None, help="of the pictures")
    parser.add_argument("--batch", type=int, default=16, help="pictures at a time")
    parser.add_argument("--restart", action="store_true", help="measure everything anew")
    if device:
        parser.add_argument("--device", type=str | None, help="cpu, cuda, mps or auto")


def _given(options: Namespace) -> dict[str, Any]:
    return {"sampler": options.sampler, "checkpoint": options.checkpoint, "seed": options.seed}


def _device(name: str | None) -> Any:
    from anytext_lib.device import pick_device

    return pick_device(name)


def _told(lines: list[str], result: dict, options: Namespace) -> str:
    return "\n".join([*lines, *_remarks(result), f"wrote {options.output / 'result.json'}"])


def _remarks(result: dict) -> list[str]:
    if not result["unknown"]:
        return []
    names = ", ".join(result["unknown"])
    return [f"not known: {names}. Numbers without them cannot be compared: say "
            + " ".join(f"--{name}" for name in result["unknown"])]


COMMANDS = {"ocr": ocr, "fid": fid, "clip": clip, "lpips": lpips}
