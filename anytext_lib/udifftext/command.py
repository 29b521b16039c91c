"""`fit` and `validate` of UDiffText: the command line of AnyText2's training around another module.

    python -m anytext_lib.udifftext.command fit --config udifftext_mini.yaml

A configuration says by ``system: udifftext`` that it is meant for this one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

SYSTEM = "udifftext"
FAILED, WRONG = 1, 2


def names_udifftext(arguments: Sequence[str]) -> bool:
    """Whether one of the configurations in the arguments of `anytext fit` is UDiffText's."""
    import yaml

    from anytext_lib.training.arguments import find_config

    paths = [argument.partition("=")[2] for argument in arguments if argument.startswith("--config=")]
    paths += [after for name, after in zip(arguments, arguments[1:], strict=False) if name in ("--config", "-c")]
    for path in paths:
        try:
            found = yaml.safe_load(find_config(path).read_text(encoding="utf-8"))
        except (FileNotFoundError, yaml.YAMLError):  # told where the configuration is used
            continue
        if isinstance(found, dict) and found.get("system") == SYSTEM:
            return True
    return False


def run(command: str, arguments: Sequence[str]) -> int:
    """Train or measure, and return the exit status as `anytext fit` does.

    Args:
        command: "fit" or "validate". ``arguments``: as of `anytext fit`.
    """
    from anytext_lib.losses import NonFiniteError
    from anytext_lib.models import StorageError
    from anytext_lib.training.callbacks import Interrupted
    from anytext_lib.training.storage import CheckpointError
    from anytext_lib.udifftext.characters import UnknownCharacterError
    from anytext_lib.udifftext.label_encoder import LabelEncoderError
    from anytext_lib.udifftext.segments import ManyWordsError

    try:
        _run(command, arguments)
    except Interrupted as stop:
        print(f"anytext: {stop}", file=sys.stderr)
        return 128 + stop.number
    except (FileNotFoundError, CheckpointError, StorageError, LabelEncoderError, ManyWordsError,
            UnknownCharacterError) as error:
        return _complain(error, WRONG)
    except NonFiniteError as error:
        return _complain(error, FAILED)
    return 0


def _run(command: str, arguments: Sequence[str]) -> None:
    from anytext_lib.training.arguments import expand, option_names
    from anytext_lib.training.callbacks import ImageLogger, TextJudge
    from anytext_lib.training.cli import SECTIONS, AnyTextCLI, quiet
    from anytext_lib.training.datamodule import AnyTextData
    from anytext_lib.udifftext.training import UDiffTextTraining
    from anytext_lib.udifftext.word_judge import WordJudge

    class UDiffTextCLI(AnyTextCLI):
        def add_arguments_to_parser(self, parser) -> None:
            super().add_arguments_to_parser(parser)
            parser.add_argument("--system", type=str, default=SYSTEM, help="what is trained")
            parser.add_lightning_class_args(WordJudge, "words")

        def _callbacks(self, config) -> list:
            """Those of AnyText2, with the one that writes words in the place of the two that sample AnyText2."""
            others = [part for part in super()._callbacks(config) if not isinstance(part, (ImageLogger, TextJudge))]
            return [config.words, *others]

    quiet()
    sections = {name: cls for name, cls in SECTIONS.items() if name not in ("images", "judge")}
    sections |= {"model": UDiffTextTraining, "words": WordJudge}
    names = {name: option_names(cls, ("seed",)) for name, cls in sections.items()}
    UDiffTextCLI(UDiffTextTraining, AnyTextData, save_config_callback=None, seed_everything_default=0,
                 parser_kwargs={"prog": "anytext"}, args=[command, *expand(arguments, names)],
                 auto_configure_optimizers=False, load_from_checkpoint_support=False)


def _complain(error: Exception, status: int) -> int:
    print("\n".join([f"anytext: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] not in ("fit", "validate"):
        print("usage: python -m anytext_lib.udifftext.command fit|validate --config FILE ...", file=sys.stderr)
        return WRONG
    return run(arguments[0], arguments[1:])


if __name__ == "__main__":
    raise SystemExit(main())
