"""The command `anytext convert`."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from anytext_lib.errors import OptionError

ABOUT = """Upstream's checkpoint (.ckpt, .safetensors) to a folder of this library, or such a folder to upstream's
checkpoint: bit for bit, with an account of every tensor. Or, with --init-from-sd15, the model from which AnyText2's
training starts."""
EPILOG = "Exit status: 0 all well; 2 the request was wrong, or a file is damaged or does not fit."


def convert_parser() -> ArgumentParser:
    """The parser of `anytext convert`."""
    parser = ArgumentParser(prog="anytext convert", description=ABOUT, epilog=EPILOG)
    parser.add_argument("paths", type=Path, nargs="*", metavar="PATH",
                        help="SOURCE TARGET: checkpoint and folder, or folder and checkpoint; only TARGET with "
                             "--init-from-sd15; only SOURCE with --dry-run")
    parser.add_argument("--config", type=str, default="sd15",
                        help="size of the model: sd15, mini, tiny or a JSON file (a folder knows its own)")
    parser.add_argument("--tokenizer", type=Path | None, metavar="FOLDER",
                        help="CLIP's tokenizer, which upstream's checkpoint lacks (Stable Diffusion 1.5: tokenizer/)")
    parser.add_argument("--init-from-sd15", type=Path | None, metavar="PATH",
                        help="Stable Diffusion 1.5: its folder in diffusers' layout, or one file")
    parser.add_argument("--dry-run", action="store_true", help="account for every tensor, write nothing")
    parser.add_argument("--force", action="store_true", help="replace an existing target")
    return parser


def run_convert(options: Namespace) -> int:
    """Carry out `anytext convert`; returns the exit status."""
    from anytext_lib.files import explained_output

    with explained_output(options.paths[-1] if options.paths else Path("."), "another target"):
        print(_carry_out(options))
    return 0


def _carry_out(options: Namespace) -> str:
    from anytext_lib.upstream import convert

    paths = list(options.paths or [])
    if options.init_from_sd15 is not None:
        return _scratch(options, paths)
    if options.dry_run and len(paths) == 1:
        return str(convert.account(paths[0], options.config))
    if len(paths) != 2 or options.dry_run:
        raise OptionError(f"got {len(paths)} paths: write SOURCE TARGET, or only SOURCE with --dry-run")
    source, target = paths
    if source.is_dir():
        return f"{convert.to_upstream(source, target, options.force)}\nwrote {target}"
    account = convert.from_upstream(source, target, options.config, options.tokenizer, options.force)
    return f"{account}\nwrote {target}{_about_tokenizer(target)}"


def _scratch(options: Namespace, paths: list[Path]) -> str:
    from anytext_lib.upstream import scratch

    if len(paths) != 1 or options.dry_run:
        raise OptionError(f"got {len(paths)} paths: --init-from-sd15 takes only TARGET, the folder to write, and no "
                         "--dry-run")
    report = scratch.write(options.init_from_sd15, paths[0], options.config, options.tokenizer, options.force)
    return f"{report}\nwrote {paths[0]}{_about_tokenizer(paths[0])}"


def _about_tokenizer(folder: Path) -> str:
    if (folder / "tokenizer").is_dir():
        return ""
    return (f"\nIt has no tokenizer yet: copy CLIP's tokenizer files (of Stable Diffusion 1.5) to {folder}/tokenizer, "
            "or name their folder by --tokenizer")
