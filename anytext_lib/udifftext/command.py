"""The command `anytext udifftext`: a word into a picture, and upstream's checkpoints to folders of this library."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from anytext_lib.errors import OptionError

EPILOG = "Exit status: 0 all well; 2 the request was wrong, or a file is missing or damaged."
JUDGES = ("ppocrv4", "tesseract")  # see ``ocr.judge``


def udifftext_parser() -> ArgumentParser:
    """The parser of the command, on its own."""
    parser = ArgumentParser(prog="anytext udifftext", description="UDiffText: words written character by character.",
                            epilog=EPILOG)
    add_udifftext_commands(parser)
    return parser


def add_udifftext_commands(parser: ArgumentParser) -> None:
    """Give ``parser`` the subcommands.  A parser that is itself a subcommand must have been added to its own before."""
    parts = parser.add_subcommands(required=True)
    parts.add_subcommand("write", _write_parser(), help="write a word into a picture")
    parts.add_subcommand("convert", _convert_parser(), help="upstream's checkpoints to a folder of this library")


def run_udifftext(options: Namespace) -> int:
    """Do what ``options`` (of ``udifftext_parser``) ask; returns the exit status."""
    return COMMANDS[options.subcommand](options[options.subcommand])


def write(options: Namespace) -> int:
    """`write`."""
    import numpy as np
    from PIL import Image

    from anytext_lib.device import pick_device
    from anytext_lib.files import TargetExistsError, atomic_path, explained_output
    from anytext_lib.generation.input_images import read_mask, read_picture
    from anytext_lib.udifftext.euler import Sampling
    from anytext_lib.udifftext.model import UDiffTextModel
    from anytext_lib.udifftext.word_picture import write_word

    target = options.output or Path(f"{options.picture.stem}_written.png")
    if target.suffix.lower() != ".png":
        raise OptionError(f"the picture is written as PNG: name it something.png, not {target.name}")
    if target.exists() and not options.force:
        raise TargetExistsError(f"{target} exists already: name another --output, or give --force")
    if (options.mask is None) == (options.box is None):
        raise OptionError("say where the word goes: by --mask FILE or by --box X Y WIDTH HEIGHT, one of the two")
    picture = read_picture(options.picture, "the picture")
    if options.mask is not None:
        mask = read_mask(options.mask, "the mask")
    else:
        mask = np.zeros(picture.shape[:2], bool)
        left, top, width, height = options.box
        mask[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
    model = UDiffTextModel.load(str(options.model)).to(pick_device(options.device)).eval()
    sampling = Sampling(options.steps, options.guidance, options.candidates, options.refine)
    size = None if options.size is None else (options.size[1], options.size[0])
    found = write_word(model, picture, mask, options.word, sampling, options.seed, size, options.composite)
    with explained_output(target, "another --output"), atomic_path(target) as temporary:
        Image.fromarray(found.image).save(temporary, format="PNG")
    height, width = found.sample.shape[-2:]
    print(f"wrote {target}: {options.word!r} at {width} x {height} pixels, noise {found.noise + 1} of "
          f"{options.candidates}, attention of the weakest character {-found.focus:.2f}")
    if options.read:
        from anytext_lib.ocr.judge import Judge
        from anytext_lib.udifftext.word_losses import measure_sequence_accuracy

        right, read = measure_sequence_accuracy(found.sample, found.lines, Judge.from_name(options.read, threads=1))
        print(f"{options.read} reads {read[0]!r}: {'the word' if right else 'not the word'}")
    return 0


def convert(options: Namespace) -> int:
    """`convert`."""
    from anytext_lib.files import TargetExistsError, explained_output, require_writable
    from anytext_lib.udifftext.original_checkpoint import read_label_encoder, read_original, read_start

    if options.target.exists() and not options.force:
        raise TargetExistsError(f"{options.target} exists already: name another folder, or give --force")
    require_writable(options.target.absolute().parent, "another folder")
    if not options.start:
        if options.label_encoder is not None:
            raise OptionError("--label-encoder goes with --start: a checkpoint of UDiffText has its own")
        model, read = read_original(options.source, options.config)
    elif options.label_encoder is None:
        raise OptionError("--start needs --label-encoder: a file of upstream's pre-training, or one of "
                          "`python -m anytext_lib.recipes.udifftext_label_encoder`")
    else:
        encoder = read_label_encoder(options.label_encoder, options.config)
        model, read = read_start(options.source, encoder, options.config, options.seed)
    with explained_output(options.target, "another folder"):
        (model.half() if options.dtype == "float16" else model).save_pretrained(options.target)
    print(f"{read}\nwrote {options.target}")
    return 0


def _write_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Write a word into a picture.", epilog=EPILOG)
    add = parser.add_argument
    add("picture", type=Path, help="the picture")
    add("word", type=str, help="the word: up to 12 of the 94 printable characters")
    add("--mask", type=Path | None, metavar="FILE", help="where it goes: painted white on black, of the picture's size")
    add("--box", type=int, nargs=4, metavar=("X", "Y", "WIDTH", "HEIGHT"), help="where it goes, in pixels")
    add("--output", type=Path | None, metavar="PNG", help="default: NAME_written.png in this folder")
    add("--force", action="store_true", help="replace an existing file")
    add("--model", type=Path, default=Path("data_samples/udifftext_mini"),
        help="folder of a model; that of the course spells capitals on a plain ground, in pictures of 112 x 32 pixels")
    add("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"),
        help="what the picture is resized to for writing (default: what the model was made for, else the picture's)")
    add("--composite", action="store_true", help="put the pixels outside of the mask back exactly")
    add("--steps", type=int, default=50, help="of Euler's method")
    add("--guidance", type=float, default=5.0, help="weight of the word")
    add("--candidates", type=int, default=10, help="noises to choose among, by two steps each; 1 chooses nothing")
    add("--refine", action="store_true", help="move the latents so that attention falls into the mask")
    add("--seed", type=int, default=100, help="of the noises")
    add("--read", type=Literal[JUDGES] | None, help="a judge reads what was written")
    add("--device", type=str | None, help="cpu, cuda, cuda:0, mps (default: chosen automatically)")
    return parser


def _convert_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Read a checkpoint of UDiffText, or make the model that its training starts "
                            "from.", epilog=EPILOG)
    add = parser.add_argument
    add("source", type=Path, help="a checkpoint of UDiffText (.ckpt, .safetensors); with --start, Stable Diffusion 2's "
        "inpainting model as one file (512-inpainting-ema)")
    add("target", type=Path, help="folder to write")
    add("--start", action="store_true", help="make a model to train: new text cross-attention, all else of SOURCE")
    add("--label-encoder", type=Path | None, metavar="FILE", help="with --start: a pre-trained label encoder")
    add("--config", type=str, default="sd2", help="size of the model: sd2, mini, tiny or a JSON file")
    add("--dtype", type=Literal["float32", "float16"], default="float32", help="of the stored weights")
    add("--seed", type=int, default=0, help="of the new cross-attention")
    add("--force", action="store_true", help="write into an existing folder")
    return parser


COMMANDS = {"write": write, "convert": convert}
