"""The command `anytext db`: train the small detector, compare it with PP-OCRv3, find the texts of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from anytext_lib.errors import OptionError

UNCLIP = {"boxes": 1.5, "polygons": 2.0, "PP-OCRv3": 1.6}
EPILOG = "Exit status: 0 all well; 2 the request was wrong, or a file is missing or damaged."


def db_parser() -> ArgumentParser:
    """The parser of the command, on its own."""
    parser = ArgumentParser(prog="anytext db", description="Text detection by differentiable binarisation.",
                            epilog=EPILOG)
    add_db_commands(parser)
    return parser


def add_db_commands(parser: ArgumentParser) -> None:
    """Give ``parser`` the subcommands.  A parser that is itself a subcommand must have been added to its own before."""
    parts = parser.add_subcommands(required=True)
    parts.add_subcommand("train", _train_parser(), help="train the small detector, on scenes or on your own pictures")
    parts.add_subcommand("compare", _compare_parser(), help="score it and PP-OCRv3 on the same pictures")
    parts.add_subcommand("detect", _detect_parser(), help="find the texts of pictures")


def run_db(options: Namespace) -> int:
    """Do what ``options`` (of ``db_parser``) ask; returns the exit status."""
    return COMMANDS[options.subcommand](options[options.subcommand])


def train(options: Namespace) -> int:
    """`train`."""
    from anytext_lib.db.augmentation import Augmentation, labelled_batches
    from anytext_lib.db.dbnet import MULTIPLE, load_network, save_network
    from anytext_lib.db.detector_training import train_detector
    from anytext_lib.db.label_file import LabelledPictures
    from anytext_lib.files import explained_output, require_writable

    require_writable(options.output.absolute().parent, "another file for the weights")
    batches = None
    if options.data is not None:
        if options.side % MULTIPLE or options.side <= 0:
            raise OptionError(f"--side is a multiple of {MULTIPLE}, got {options.side}")
        pictures = LabelledPictures.read(options.data, options.root)
        batches = labelled_batches(pictures, options.steps, options.batch_size, options.side, options.seed,
                                   Augmentation() if options.augment else None)
        print(f"{len(pictures)} pictures of {options.data}", flush=True)
    elif options.augment:
        raise OptionError("--augment goes with --data: rendered scenes are new in every step")
    network = None if options.start is None else load_network(options.start)
    record = train_detector(options.steps, options.batch_size, options.side, options.learning_rate, options.preset,
                            options.seed, batches=batches, network=network,
                            log=lambda text: print(text, flush=True))
    with explained_output(options.output, "another file for the weights"):
        save_network(record.network, options.output)
    print(f"wrote {options.output}; {record.cpu_seconds:.0f} CPU seconds, {record.rendering_seconds:.0f} of them for "
          f"the {'scenes' if options.data is None else 'pictures'}")
    return 0


def compare(options: Namespace) -> int:
    """`compare`."""
    from anytext_lib.db.box_score import compare_detectors
    from anytext_lib.db.dbnet import DBDetector, load_network
    from anytext_lib.db.detector_training import held_out_scenes
    from anytext_lib.db.label_file import LabelledPictures
    from anytext_lib.ocr import TextDetector

    network = load_network(options.weights)
    detectors = {"small DB": DBDetector(network),
                 "small DB, exact unclip": DBDetector(network, unclip_ratio=None),
                 "PP-OCRv3": TextDetector.from_pretrained()}
    scenes = (held_out_scenes(options.scenes, options.side) if options.data is None else
              LabelledPictures.read(options.data, options.root))
    for name, score in compare_detectors(detectors, scenes, options.iou).items():
        print(f"{name:<24}{score}")
    return 0


def detect(options: Namespace) -> int:
    """`detect`."""
    from PIL import Image

    from anytext_lib.data.pictures import PictureError, read_picture
    from anytext_lib.db.dbnet import DBDetector, load_network
    from anytext_lib.db.label_file import label_row, relative_name
    from anytext_lib.db.picture_texts import Search, as_rows, draw
    from anytext_lib.files import atomic_path, explained_output, write_json
    from anytext_lib.ocr import TextDetector

    packaged = options.weights is None
    unclip = UNCLIP["polygons" if options.polygons else "PP-OCRv3" if packaged else "boxes"]
    search = Search(options.threshold, options.box_threshold, unclip if options.unclip is None else options.unclip,
                    options.polygons, packaged, options.side)
    targets = [options.out / f"{path.stem}_texts" for path in options.pictures]
    if len(set(targets)) < len(targets):
        raise OptionError("two pictures have one name, and their results too: name them in two calls with two --out")
    detector, rows = TextDetector.from_pretrained() if packaged else DBDetector(load_network(options.weights)), []
    for path, target in zip(options.pictures, targets, strict=True):
        try:
            picture = read_picture(path)
        except PictureError as error:
            raise PictureError(f"{path}: {error}") from error
        texts = search(detector, picture)
        if options.labels is not None:
            rows.append(label_row(relative_name(path, options.labels), [text.points for text in texts],
                                  [""] * len(texts)))
        with explained_output(options.out, "another --out"):
            write_json(target.with_suffix(".json"), {
                "picture": str(path), "width": picture.shape[1], "height": picture.shape[0],
                "detector": "PP-OCRv3" if packaged else str(options.weights), "texts": as_rows(texts)})
            with atomic_path(target.with_suffix(".png")) as temporary:
                Image.fromarray(draw(picture, texts)).save(temporary, format="PNG")
        print(f"{path}: {len(texts)} texts; wrote {target}.json and .png", flush=True)
    if options.labels is not None:
        with explained_output(options.labels, "another --labels"), atomic_path(options.labels) as temporary:
            temporary.write_text("\n".join(rows) + "\n", encoding="utf-8", newline="\n")
        print(f"wrote {options.labels}")
    return 0


def _train_parser() -> ArgumentParser:
    from anytext_lib.db.detector_training import DEFAULTS
    from anytext_lib.db.loss import PRESETS

    parser = ArgumentParser(description="Train the small detector.", epilog=EPILOG)
    parser.add_argument("output", type=Path, help="file for the weights (safetensors)")
    parser.add_argument("--steps", type=int, default=DEFAULTS["steps"], help="training steps")
    parser.add_argument("--batch-size", type=int, default=DEFAULTS["batch_size"], help="scenes of a step")
    parser.add_argument("--side", type=int, default=DEFAULTS["side"], help="of the scenes, pixels, a multiple of 32")
    parser.add_argument("--learning-rate", type=float, default=DEFAULTS["learning_rate"], help="its highest value")
    parser.add_argument("--preset", type=Literal[tuple(PRESETS)], default=DEFAULTS["preset"], help="of the loss")
    _add_data(parser, "your own pictures in the place of scenes")
    parser.add_argument("--augment", action="store_true",
                        help="mirror, turn, resize and crop your own pictures at random")
    parser.add_argument("--start", type=Path | None, metavar="WEIGHTS", help="go on from these weights")
    parser.add_argument("--seed", type=int, default=DEFAULTS["seed"], help="of the weights and the scenes")
    return parser


def _compare_parser() -> ArgumentParser:
    from anytext_lib.db.detector_training import DEFAULTS

    parser = ArgumentParser(description="Score detectors on held-out scenes.", epilog=EPILOG)
    parser.add_argument("weights", type=Path, help="file that train wrote")
    parser.add_argument("--scenes", type=int, default=100, help="number of scenes")
    parser.add_argument("--side", type=int, default=DEFAULTS["side"], help="of the scenes, pixels")
    parser.add_argument("--iou", type=float, default=0.5, help="intersection over union of a match")
    _add_data(parser, "your own pictures in the place of scenes")
    return parser


def _detect_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Find the texts of pictures: NAME_texts.json with their points in pixels and "
                            "their scores, NAME_texts.png with them drawn.", epilog=EPILOG)
    add = parser.add_argument
    add("pictures", type=Path, nargs="+", metavar="PICTURE", help="one or several")
    add("--out", type=Path, default=Path("."), metavar="FOLDER", help="folder of the results")
    add("--labels", type=Path | None, metavar="FILE",
        help="also write a label file of PaddleOCR of all pictures, to be corrected and trained on")
    add("--weights", type=Path | None, metavar="FILE", help="file that train wrote (default: PP-OCRv3's detector)")
    add("--polygons", action="store_true", help="outlines, for bent texts, in the place of turned boxes")
    add("--threshold", type=float, default=0.3, help="of the probability, for a pixel of a kernel")
    add("--box-threshold", type=float, default=0.5, help="least mean probability inside a kernel")
    add("--unclip", type=float | None, help="how far kernels are grown (default: 1.6 for PP-OCRv3, else 1.5; 2 for "
        "polygons)")
    add("--side", type=int, default=0, help="resize the picture's longer side to it first, pixels; 0 leaves it")
    return parser


def _add_data(parser: ArgumentParser, about: str) -> None:
    parser.add_argument("--data", type=Path | None, metavar="FILE",
                        help=f"{about}: a label file of PaddleOCR, or AnyWord annotations (.json)")
    parser.add_argument("--root", type=Path | None, metavar="FOLDER",
                        help="where a label file's paths begin (default: its own folder)")


COMMANDS = {"train": train, "compare": compare, "detect": detect}
