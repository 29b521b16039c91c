"""The commands `anytext generate` and `anytext edit`."""

from __future__ import annotations

import os
import secrets
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser, Namespace

from anytext_lib.files import (
    TargetExistsError,
    data_folder,
    explained_output,
    print_report,
    require_writable,
    write_json,
)
from anytext_lib.generation.jobs import OWN, REQUEST, SETTINGS, make_job, parse_line, parse_region, read_jobs
from anytext_lib.generation.request import FONT_HINTS, SCHEDULERS, RequestError, RequestWarning, Settings, from_mapping

GENERATE = "Make pictures with words in them, or make a picture again from its own settings (--from)."
EDIT = "Write words into a picture."
EPILOG = "Exit status: 0 all well; 2 the request was wrong; the message names the line and what to do."
LINE = ("a line of text, or a mapping as '{text: Tea, box: [10, 10, 60, 24], color: red, font: OpenSans}' (also "
        "region, angle, style_image, style_region, style_box; blank text erases); may be repeated")
NO_TEXT = ("no text will be written: the prompt has no words in double quotes, and there is no --line. Write --prompt "
           "'a sign that says \"Tea\"' (a shell takes double quotes away unless single ones stand around them), or "
           "--line Tea")
JUDGES = ("ppocrv4", "tesseract")  # see ``ocr.judge``
EVERY = 5.0  # seconds between two lines about the progress


def generate_parser() -> ArgumentParser:
    """The parser of `anytext generate`."""
    parser = ArgumentParser(prog="anytext generate", description=GENERATE, epilog=EPILOG)
    parser.add_argument("--from", type=Path | None, metavar="PNG", help="make this picture again, bit for bit on the "
                        "same device; no other option about the picture counts")
    parser.add_argument("--image", type=Path | None, metavar="FILE",
                        help="with --from: where the picture that was edited lies now")
    parser.add_argument("--width", type=int | None, help="pixels, a multiple of 64 (of 16 for the mini model)")
    parser.add_argument("--height", type=int | None, help="pixels, as width")
    return _add_shared(parser)


def edit_parser() -> ArgumentParser:
    """The parser of `anytext edit`."""
    parser = ArgumentParser(prog="anytext edit", description=EDIT, epilog=EPILOG)
    parser.add_argument("image", type=Path | None, nargs="?",
                        help="the picture (with --jobs: of jobs without their own)")
    parser.add_argument("--composite", action="store_true", help="put the pixels outside of the regions back exactly")
    parser.add_argument("--blend", action="store_true",
                        help="keep the surroundings at every step: for models that were not trained to edit")
    parser.add_argument("--erase", action="append", metavar="REGION", help="erase what stands there: [x, y, width, "
                        "height] or [[x, y], ...] in pixels, or the file of a painted mask; may be repeated")
    parser.add_argument("--report", action="store_true",
                        help="read the lines before and after, and measure the change outside of the regions; also "
                        "written beside the picture, as NAME_report.json and NAME_report.png")
    return _add_shared(parser)


def _add_shared(parser: ArgumentParser) -> ArgumentParser:
    add = parser.add_argument
    add("--prompt", type=str | None, help="what the picture shows; words in double quotes become lines of text")
    add("--line", action="append", metavar="LINE", help=LINE)
    add("--mask", type=Path | None, help="painted regions, white on black, for lines without a region")
    add("--order", type=Literal["rows", "columns"] | None, help="in which the regions of the mask are read")
    add("--translator", type=str | None, metavar="FILE.py:FUNCTION", help="translates prompts that have letters of "
        "another script than Latin into English; a text to a text, every * is kept")
    add("--negative-prompt", type=str | None, help="what the picture should not be")
    add("--added-prompt", type=str | None, help="is appended to the prompt")
    add("--glyph-font", type=str | None, help="font in which the model is shown the text")
    add("--font-hint", type=Literal[FONT_HINTS] | None, help="how the font of a line is shown to the model (default: "
        "the model's, or filled)")
    add("--revise-positions", action="store_true", help="shrink the position of each line to its letters")
    add("--ddim-steps", type=int | None, help="steps of the scheduler (default: the model's, or 20)")
    add("--cfg-scale", type=float | None, help="guidance; 1 is none (default: the model's, or 7.5)")
    add("--attnx-scale", type=float | None, help="factor on the extra attentions (default: 1)")
    add("--strength", type=float | None, help="factor on the control branch (default: 1)")
    add("--eta", type=float | None, help="0 deterministic to 1 as DDPM (default: 0)")
    add("--scheduler", type=Literal[SCHEDULERS] | None, help="default: the model's, or ddim")
    add("--images", type=int | None, help="how many (default: 1)")
    add("--seed", type=int | None, help="of the first image; the others follow (default: drawn at random)")
    add("--best-of", type=int | None, metavar="N", help="draw N candidates, let an independent reader read them, and "
        "write the best (with --images: that many); what was read is told, and written as NAME_candidates.json")
    add("--judge", type=Literal[*JUDGES], default="ppocrv4",
        help="who reads for --best-of and --report; never the recogniser of the losses")
    add("--jobs", type=Path | None, metavar="YAML", help="many pictures; options given here hold where a job says "
        "nothing")
    add("--model", type=Path | None, help="folder of the model (default: the course's mini model)")
    add("--lora", action="append", metavar="FILE:RATIO", help="low-rank updates for Stable Diffusion 1.5 (kohya, "
        "diffusers, peft) or of `anytext fit`; may be repeated")
    add("--base", type=Path | None, metavar="PATH", help="a model derived from Stable Diffusion 1.5, whose UNet and "
        "CLIP stand beneath AnyText2's own layers: one file or a folder of diffusers")
    add("--base-vae", action="store_true", help="take the auto-encoder of --base as well")
    add("--out", type=Path, default=Path("."), help="folder for the pictures")
    add("--force", action="store_true", help="replace pictures that are there")
    add("--batch-size", type=int, default=4, help="images sampled together")
    add("--device", type=str | None, help="cpu, cuda, cuda:0, mps (default: chosen automatically)")
    add("--dtype", type=Literal["float32", "float16", "bfloat16"] | None, help="of the networks (default: float32)")
    add("--offload", action="store_true", help="keep parts on the CPU while they do not compute: less GPU memory")
    return parser


def run_generate(options: Namespace) -> int:
    """Carry out `anytext generate`; returns the exit status."""
    return _carry_out("generate", options, lambda: _again(options) if options["from"] else _make(options, None))


def run_edit(options: Namespace) -> int:
    """Carry out `anytext edit`; returns the exit status."""
    return _carry_out("edit", options, lambda: _make(options, options.image))


def _carry_out(command: str, options: Namespace, action) -> int:
    with plain_warnings(f"anytext {command}"), explained_output(options.out, "another folder by --out"):
        for path in action():
            print(f"wrote {path}", flush=True)
    return 0


def _make(options: Namespace, image: Path | None):
    """Make the pictures of all jobs; every job is checked before the first one starts."""
    from anytext_lib.adapters.adaptation import Adaptation
    from anytext_lib.generation.metadata import model_record, write_png
    from anytext_lib.generation.translation import load_translator, translated

    jobs = _jobs(options, image)
    pipeline = _load(options, options.model or _mini_model(), options.dtype or "float32")
    _adapt(pipeline, Adaptation.of(options.base, options.base_vae, options.lora or ()))
    if options.translator is not None:
        pipeline.translator = load_translator(options.translator)
        jobs = [replace(job, request=translated(job.request, pipeline.translator)) for job in jobs]
    for job in jobs:
        _check(pipeline, job, f"{job.name}: " if options.jobs else "", options.best_of)
    jobs = [_with_seed(job) for job in jobs]
    targets = [_targets(options, job) for job in jobs]
    judge = _judge(options)
    require_writable(options.out, "another folder by --out")
    model = model_record(pipeline.folder)
    for number, (job, paths) in enumerate(zip(jobs, targets, strict=True), 1):
        drawn = replace(job, images=options.best_of or job.images)
        found = _run(pipeline, drawn, options.batch_size, f"{job.name} ({number} of {len(jobs)})")
        for i in _best(options, job, found, judge) if options.best_of else range(len(found.images)):
            made, record, path = found.images[i], found.records[i], paths[i]
            _check_free([path], options.force)  # another program may have made it in the meantime
            write_png(made, record | {"model": model}, path)
            yield path
            if options.get("report"):
                yield from _report(pipeline, job, made, record, path, judge)


def _judge(options: Namespace):
    """The independent reader, where one is asked for."""
    if not options.best_of and not options.get("report"):
        return None
    from anytext_lib.device import cpu_count
    from anytext_lib.ocr.judge import Judge

    return Judge.from_name(options.judge, threads=cpu_count())


def _best(options: Namespace, job, found, judge) -> list[int]:
    """Which candidates are kept, the best one first; what was read of each is told and written."""
    from anytext_lib.generation.legibility import best, candidate_table, check_pictures

    checks = check_pictures(found.images, found.records, judge)
    kept = best(checks, job.images)
    print(f"{job.name}: {len(checks)} candidates, read by {options.judge}\n"
          + candidate_table(found.seeds, checks, kept), flush=True)
    told = [{"seed": seed, **check.to_dict()} for seed, check in zip(found.seeds, checks, strict=True)]
    write_json(_candidates(options, job), {"judge": options.judge, "kept": [found.seeds[i] for i in kept],
                                           "candidates": told})
    return kept


def _candidates(options: Namespace, job) -> Path:
    return options.out / f"{job.name}_candidates.json"


def _report(pipeline, job, made, record: dict, path: Path, judge) -> Iterator[Path]:
    """Tell what an edit did, and write it beside the picture."""
    from anytext_lib.generation.edit_report import edit_picture, edit_report, write_report
    from anytext_lib.generation.prepare import prepare

    item = prepare(job.request, pipeline.model, pipeline.defaults)
    found = edit_report(item.original, made, item.inside, record, judge)
    print(found.text(), flush=True)
    yield from write_report(found, judge.name, edit_picture(item.original, made, item.inside), path)


def _check(pipeline, job, where: str, best_of: int | None = None) -> None:
    """Raise RequestError where a job cannot be carried out, and warn of what the model was not trained for."""
    from anytext_lib.generation.prepare import prepare
    from anytext_lib.generation.remarks import notes

    try:
        item = prepare(job.request, pipeline.model, pipeline.defaults)
    except RequestError as error:
        raise RequestError(f"{where}{error}") from error
    if best_of is not None and not job.images <= best_of:
        raise RequestError(f"{where}--best-of draws at least as many candidates as --images are kept, got {best_of} "
                           f"for {job.images}")
    if best_of is not None and not item.request.lines:
        raise RequestError(f"{where}--best-of has nothing to read: quote a word in the prompt, or give a --line")
    settings = pipeline.default_settings().changed(**job.settings)
    found = notes(item, settings, pipeline.defaults.capabilities, pipeline.model.text_embedding.config.style)
    for note in found if item.request.lines else [NO_TEXT]:
        warnings.warn(f"{where}{note}", RequestWarning, stacklevel=2)


def _again(options: Namespace):
    """Make a picture again from its own settings."""
    from anytext_lib.adapters.adaptation import Adaptation
    from anytext_lib.generation.denoise import restore
    from anytext_lib.generation.metadata import differences, model_record, read_record, restore_request, write_png

    source = options["from"]
    record = read_record(source)
    if "model" not in record and options.model is None:
        raise RequestError(f"{source} does not say which model made it: name its folder by --model")
    target = options.out / f"{source.stem}_again.png"
    _check_free([target], options.force)
    if None in record["seeds"]:
        raise RequestError(f"{source} was made with a generator and not from a seed: it cannot be made again")
    folder = options.model or Path(record["model"]["folder"])
    pipeline = _load(options, folder, options.dtype or record["computed"]["dtype"])
    if model_record(folder)["sha256"] != record.get("model", model_record(folder))["sha256"]:
        raise RequestError(f"the model in {folder} is not the one that made {source}: name its folder by --model")
    _adapt(pipeline, Adaptation.restore(record["adaptation"]) if "adaptation" in record else Adaptation())
    for difference in differences(record, pipeline):
        print(f"anytext generate: {difference}: the bits may differ", file=sys.stderr)
    pipeline.scheduler = restore(record["scheduler"])
    found = pipeline.run([restore_request(record["request"], options.image)],
                         from_mapping(Settings, record["settings"], str(source)), len(record["seeds"]),
                         record["seeds"], batch_size=len(record["seeds"]), callback=_progress_printer(source.name))
    again = found.records[record["place"]] | {"model": model_record(folder)}
    write_png(found.images[record["place"]], again, target)
    yield target


def _jobs(options: Namespace, image: Path | None) -> list:

    given: dict[str, Any] = {key: options.get(key) for key in (*OWN, *REQUEST, *SETTINGS) if key not in
                             ("name", "lines", "image", "composite", "blend")}
    given = {key: str(value.resolve()) if isinstance(value, Path) else value for key, value in given.items()}
    given |= {key: options.get(key) or None for key in ("composite", "blend", "revise_positions")}
    given["erase"] = [parse_region(region) for region in options.get("erase") or []] or None
    given["image"] = None if image is None else str(image.resolve())
    given["lines"] = [parse_line(line) for line in options.line or []] or None
    if options.jobs is None:
        if all(given[key] is None for key in ("prompt", "lines", "erase")):
            raise RequestError("nothing is asked for: give --prompt, --line, --jobs or --from")
        jobs = [make_job(given, "the command line", Path("."), "picture" if image is None else image.stem)]
    else:
        jobs = read_jobs(options.jobs, given)
    if "composite" in options and any(job.request.image is None for job in jobs):
        raise RequestError("nothing to edit: name the picture")
    return jobs


def _load(options: Namespace, folder: Path, dtype: str):
    import torch

    from anytext_lib.device import pick_device
    from anytext_lib.generation.pipeline import AnyText2Pipeline

    if (folder / "udifftext.json").is_file():
        raise RequestError(f"{folder} holds a UDiffText model, and this command takes AnyText2 models: see "
                           "UDiffTextModel.from_pretrained and notebook 13")
    device = pick_device(options.device)
    pipeline = AnyText2Pipeline.from_pretrained(folder, "cpu" if options.offload else device, getattr(torch, dtype))
    if options.offload:
        pipeline.enable_model_cpu_offload(device=device)
    return pipeline


def _adapt(pipeline, adaptation) -> None:
    """Change the weights, and tell on standard error what each file did."""
    for report in pipeline.adapt(adaptation):
        print_report(report)


def _run(pipeline, job, batch_size: int, title: str):
    import torch

    from anytext_lib.generation.denoise import make_scheduler

    before = pipeline.scheduler
    if job.scheduler is not None:
        pipeline.scheduler = make_scheduler(job.scheduler, pipeline.model)
    try:
        settings = pipeline.default_settings().changed(**job.settings)
        return pipeline.run([job.request], settings, job.images, job.seed, batch_size=batch_size,
                            callback=_progress_printer(title))
    except torch.OutOfMemoryError as error:
        raise RequestError(f"{title}: the device has too little memory: give --offload, --dtype float16 or a smaller "
                           "--batch-size") from error
    finally:
        pipeline.scheduler = before


def _with_seed(job):
    return job if job.seed is not None else replace(job, seed=secrets.randbelow(2**31))


def _targets(options: Namespace, job) -> list[Path]:
    paths = [options.out / f"{job.name}_{job.seed + i}.png" for i in range(options.best_of or job.images)]
    _check_free([*paths, _candidates(options, job)] if options.best_of else paths, options.force)
    return paths


def _check_free(paths: list[Path], force: bool) -> None:
    there = [str(path) for path in paths if path.exists()]
    if there and not force:
        raise TargetExistsError(f"{', '.join(there[:3])} exists already: choose another --out, or replace it by "
                                "--force")


def _mini_model() -> Path:

    folder = data_folder() / "mini" / "after"
    if not folder.is_dir():
        raise RequestError(f"there is no mini model in {os.path.relpath(folder)}: name a model's folder by --model")
    return folder


@contextmanager
def plain_warnings(program: str) -> Iterator[None]:
    """Show each RequestWarning once, as one line without the place in the code that it came from."""
    told = set()

    def show(message, category, *place) -> None:
        if not issubclass(category, RequestWarning):
            return before(message, category, *place)
        if str(message) not in told:
            told.add(str(message))
            print(f"{program}: warning: {message}", file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RequestWarning)
        before, warnings.showwarning = warnings.showwarning, show
        yield


def _progress_printer(title: str) -> Callable:
    """A callback of the pipeline that tells on standard error, every few seconds, how far a job is."""
    last = time.monotonic()

    def tell(progress) -> None:
        nonlocal last
        if time.monotonic() - last > EVERY:
            last = time.monotonic()
            print(f"anytext: {title}: step {progress.step} of {progress.steps}", file=sys.stderr, flush=True)

    return tell
