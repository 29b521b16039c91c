"""The command `anytext benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from anytext_lib.benchmark.published import SETTINGS, published_settings
from anytext_lib.errors import OptionError
from anytext_lib.generation.request import FONT_HINTS

ABOUT = """From AnyText's benchmark files to pictures, to Sen.Acc, NED, FID and CLIPScore with intervals, beside the
published figures. A run that was stopped goes on with the same command."""
EPILOG = """Exit status: 0 all well; 2 the request was wrong; 130 interrupted: the same command goes on from there."""


def benchmark_parser() -> ArgumentParser:
    """The parser of `anytext benchmark`."""
    parser = ArgumentParser(prog="anytext benchmark", description=ABOUT, epilog=EPILOG)
    add = parser.add_argument
    add("annotations", type=Path, nargs="+",
        help="benchmark files in the AnyWord form, as laion_word/test1k.json wukong_word/test1k.json; a set is called "
        "as its file, or as its folder where the file is called test1k.json")
    add("--model", type=Path | None, help="folder of the model (default: the course's mini model)")
    add("--out", type=Path, default=Path("benchmark"), help="folder for pictures, scores and report")
    add("--settings", type=Literal[tuple(SETTINGS)], default="anytext2",
        help="anytext2 or anytext: 20 steps of DDIM, guidance 7.5 or 9, seed 100, upstream's prompts, 4 pictures an "
        "item; own: the model's own steps, guidance and prompts")
    add("--limit", type=int | None, help="only the first so many items of each set, for a trial")
    add("--glyph-font", type=str | None, help="font in which the model is shown the lines (upstream: Arial Unicode)")
    add("--font-hint", type=Literal["none", *FONT_HINTS], default="none",
        help="show the font of --glyph-font as the one to imitate, too, in this form (upstream's modes: Arial is "
        "filled, Hollow is outline)")
    add("--device", type=str | None, help="cpu, cuda, cuda:0, mps (default: chosen automatically)")
    add("--devices", type=str, nargs="+", metavar="DEVICE",
        help="one process for each, as cuda:0 cuda:1, or cpu cpu; they share the items")
    add("--shard", type=str | None, metavar="I/N",
        help="only make the pictures of the I-th of N parts, as on the I-th of N machines with one folder; the command "
        "without it scores them all")
    add("--dtype", type=Literal["float32", "float16", "bfloat16"], default="float32", help="of the networks")
    add("--offload", action="store_true", help="keep parts on the CPU while they do not compute: less GPU memory")
    add("--judge", type=Literal["ppocrv4", "tesseract"], default="ppocrv4", help="who reads the lines")
    add("--real", action="append", metavar="FOLDER",
        help="real pictures to compare with (FID), once for each set, in their order")
    add("--inception", type=Path | None, metavar="FILE",
        help="pt_inception-2015-12-05-6726825d.pth (FID; default: in the folder that ANYTEXT_WEIGHTS names)")
    add("--clip", type=Path | None, metavar="FOLDER", help="CLIP ViT-B/32, in transformers' files (CLIPScore)")
    add("--threads", type=int | None, help="of the judge (default: all cores)")
    add("--remeasure", action="store_true", help="measure all pictures anew")
    return parser


def run_benchmark(options: Namespace) -> int:
    """Carry out `anytext benchmark`; returns the exit status."""
    from anytext_lib.benchmark.scoring import score
    from anytext_lib.benchmark.shards import begin, make_pictures, make_side_by_side, parse_shard
    from anytext_lib.benchmark.summary import write_summary
    from anytext_lib.device import pick_device
    from anytext_lib.files import require_writable

    shard = None if options.shard is None else parse_shard(options.shard)
    _check(options)
    plans = _plans(options)
    device = pick_device(options.device)
    require_writable(options.out, "another folder by --out")
    for plan in plans:
        plan.entries()  # every file is read before the first picture
        begin(plan)
    for plan in plans:
        if options.devices:
            for name in options.devices:
                pick_device(name)
            make_side_by_side(plan, options.devices, options.offload)
        else:
            made = make_pictures(plan, device, shard or (1, 1), options.offload)
            print(f"{plan.folder}: {made} items made, {len(plan.missing(plan.entries()))} still to be made", flush=True)
    if shard is not None:
        print("the command without --shard scores the pictures, once all are there")
        return 0
    sets = [score(plan, _measures(options, i, device)) for i, plan in enumerate(plans)]
    name = "/".join(plans[0].model.resolve().parts[-2:])
    print(write_summary(options.out, name, sets, plans[0].settings))
    for plan in plans:
        _sheet(plan)
    print(f"wrote {options.out}: report.md, benchmark.csv, benchmark.json; of each set pictures/, look.png, ocr/, "
          "fid/, clip/")
    return 0


def _check(options: Namespace) -> None:
    if options.real and len(options.real) != len(options.annotations):
        raise OptionError(f"--real is given once for each set: {len(options.real)} folders, "
                          f"{len(options.annotations)} sets")
    if options.shard and options.devices:
        raise OptionError("--shard makes one part with one process, --devices all parts with several: give one of them")
    if options.font_hint != "none" and not options.glyph_font:
        raise OptionError("--font-hint shows the font of --glyph-font: name one")


def _plans(options: Namespace) -> list:
    from anytext_lib.benchmark.shards import SetPlan
    from anytext_lib.files import data_folder

    model = options.model or data_folder() / "mini" / "after"
    names = [path.resolve().parent.name if path.stem == "test1k" else path.stem for path in options.annotations]
    if len(set(names)) < len(names):
        raise OptionError(f"the sets are called {', '.join(names)}: rename a file, so that each has a name of its own")
    return [SetPlan(path, options.out / name, model, published_settings(options.settings), options.glyph_font,
                 options.font_hint, options.dtype, options.limit)
            for path, name in zip(options.annotations, names, strict=True)]


def _measures(options: Namespace, number: int, device):
    from anytext_lib.benchmark.scoring import Measures
    from anytext_lib.device import cpu_count

    real = Path(options.real[number]) if options.real else None
    return Measures(options.judge, real, options.inception, options.clip,
                    device, options.threads or cpu_count(), restart=options.remeasure)


def _sheet(plan) -> None:
    """The first picture of the first items, with the regions that were asked for."""
    from dataclasses import replace

    from anytext_lib.benchmark.items import picture_names
    from anytext_lib.datatools.contact_sheet import contact_sheet

    shown = [replace(entry, path=plan.pictures / name, name=name) for entry in plan.entries()[:12]
             for name in picture_names(entry, 1)]
    contact_sheet(shown, path=plan.folder / "look.png")
