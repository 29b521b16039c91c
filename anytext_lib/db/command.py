"""The command `anytext db`: train the small detector, compare it with PP-OCRv3."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

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
    parts.add_subcommand("train", _train_parser(), help="train the small detector on rendered scenes")
    parts.add_subcommand("compare", _compare_parser(), help="score it and PP-OCRv3 on the same held-out scenes")


def run_db(options: Namespace) -> int:
    """Do what ``options`` (of ``db_parser``) ask; returns the exit status."""
    return COMMANDS[options.subcommand](options[options.subcommand])


def train(options: Namespace) -> int:
    """`train`."""
    from anytext_lib.db.dbnet import save_network
    from anytext_lib.db.detector_training import train_detector
    from anytext_lib.files import explained_output, require_writable

    require_writable(options.output.absolute().parent, "another file for the weights")
    record = train_detector(options.steps, options.batch_size, options.side, options.learning_rate, options.preset,
                            options.seed, log=lambda text: print(text, flush=True))
    with explained_output(options.output, "another file for the weights"):
        save_network(record.network, options.output)
    print(f"wrote {options.output}; {record.cpu_seconds:.0f} CPU seconds, {record.rendering_seconds:.0f} of them for "
          "the scenes")
    return 0


def compare(options: Namespace) -> int:
    """`compare`."""
    from anytext_lib.db.box_score import compare_detectors
    from anytext_lib.db.dbnet import DBDetector, load_network
    from anytext_lib.db.detector_training import held_out_scenes
    from anytext_lib.ocr import TextDetector

    network = load_network(options.weights)
    detectors = {"small DB": DBDetector(network),
                 "small DB, exact unclip": DBDetector(network, unclip_ratio=None),
                 "PP-OCRv3": TextDetector.from_pretrained()}
    scenes = held_out_scenes(options.scenes, options.side)
    for name, score in compare_detectors(detectors, scenes, options.iou).items():
        print(f"{name:<24}{score}")
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
    parser.add_argument("--seed", type=int, default=DEFAULTS["seed"], help="of the weights and the scenes")
    return parser


def _compare_parser() -> ArgumentParser:
    from anytext_lib.db.detector_training import DEFAULTS

    parser = ArgumentParser(description="Score detectors on held-out scenes.", epilog=EPILOG)
    parser.add_argument("weights", type=Path, help="file that train wrote")
    parser.add_argument("--scenes", type=int, default=100, help="number of scenes")
    parser.add_argument("--side", type=int, default=DEFAULTS["side"], help="of the scenes, pixels")
    parser.add_argument("--iou", type=float, default=0.5, help="intersection over union of a match")
    return parser


COMMANDS = {"train": train, "compare": compare}
