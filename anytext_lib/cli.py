"""The command `anytext`: finds the command that is named, and says in one line what went wrong.

Nothing is imported here but what every command needs, so that it starts at once and can be interrupted at any moment.
"""

from __future__ import annotations

import sys
from importlib import import_module

from anytext_lib.errors import AnyTextError, UsageError
from anytext_lib.extras import not_installed

EPILOG = (
    "Exit status: 0 all well; 1 a notebook failed, ran out of its budget, recorded nothing or drifted, or a check "
    "found something, or training failed; 2 the request was wrong; 130 interrupted, 143 stopped; both after saving."
)
LIBRARY = {
    "course": ("anytext_lib.publishing.command", "the notebooks: run, list, check, exercises, grade, lab, experiment"),
    "doctor": ("anytext_lib.doctor", "what is here and what is missing"),
    "data": ("anytext_lib.datatools.command", "label photographs; check, convert and index annotated pictures"),
    "convert": ("anytext_lib.upstream.command", "upstream's checkpoints to this library's and back"),
    "generate": ("anytext_lib.generation.command", "new pictures with the words that you ask for"),
    "edit": ("anytext_lib.generation.command", "write words into a picture"),
    "explain": ("anytext_lib.explain.command", "what the reading losses make of your own photograph"),
    "evaluate": ("anytext_lib.evaluation.command", "score pictures: ocr, fid, clip, lpips"),
    "benchmark": ("anytext_lib.benchmark.command", "AnyText's benchmark: pictures, scores, published figures"),
    "udifftext": ("anytext_lib.udifftext.command", "UDiffText: write a word into a picture, read its checkpoints"),
    "db": ("anytext_lib.db.command", "text detection: train on own pictures, compare, find texts"),
}
"""Name: module with NAME_parser or add_NAME_commands and with run_NAME, and what the command does."""
TRAINING = {"fit": "train or fine-tune a model", "validate": "measure a trained model on held-out data"}
INTERRUPTED = 130
AFTER_CTRL_C = {"course": "the notebooks that were running have been stopped",
                "evaluate": "the same command goes on from there",
                "benchmark": "the same command goes on from there"}
"""What the message of an interrupted command adds."""
PRESSED: list[int] = []
"""Presses of Ctrl-C that this process received; another one ends it at once."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line ``arguments`` (default: those of the process) and return the exit status.

    This is the one place where errors of the commands are caught: ``AnyTextError``, and what Ctrl-C raises.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        _listen()
    try:
        return _run(given)
    except BaseException as error:
        if _came_of_interrupt(error):
            return _interrupted(given, last=arguments is None)
        if isinstance(error, ModuleNotFoundError):
            error = not_installed(error.name) or error
        if not isinstance(error, AnyTextError):
            raise
        name = _name(given[:1] if isinstance(error, UsageError) else given)
        print("\n".join([f"{name}: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr, flush=True)
        return error.exit_status


def _interrupted(arguments: list[str], last: bool) -> int:
    """Report the interruption in one line; ``last``: end the process as well.

    Python itself would take seconds to end, and, where Ctrl-C came in the midst of code that is run from a text (as
    named tuples are), die of the signal in the place of returning a status.
    """
    after = AFTER_CTRL_C.get(arguments[0]) if arguments else None
    line_end = "\n" if sys.stderr.isatty() else ""  # behind the terminal's ^C
    print(f"{line_end}{_name(arguments)}: interrupted" + (f"; {after}" if after else ""), file=sys.stderr, flush=True)
    if last:
        import atexit
        import os

        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(INTERRUPTED)
    return INTERRUPTED


def build_parser(first: list[str] | tuple[str, ...] = ()):
    """The parser of all commands (jsonargparse's); the options of those in ``LIBRARY`` only if ``first`` names them.

    Their libraries would otherwise be imported by every command.
    """
    from jsonargparse import ArgumentParser

    from anytext_lib import __version__
    from anytext_lib.usage import HelpFormatter

    parser = ArgumentParser(prog="anytext", description="AnyText2's objectives, taken apart.", epilog=EPILOG,
                            exit_on_error=False, formatter_class=HelpFormatter)
    parser.add_argument("--version", action="version", version=f"anytext {__version__}")
    commands = parser.add_subcommands(required=True)
    for name, about in TRAINING.items():
        commands.add_subcommand(name, ArgumentParser(description=f"See anytext {name} --help."), help=about)
    for name, (module, about) in LIBRARY.items():
        found = import_module(module) if name in first else None
        add_parts = getattr(found, f"add_{name}_commands", None)
        make = getattr(found, f"{name}_parser", ArgumentParser)
        part = ArgumentParser(description=about, epilog=getattr(found, "EPILOG", None)) if add_parts else make()
        commands.add_subcommand(name, part, help=about)
        if add_parts:
            add_parts(part)
    return parser


def _run(arguments: list[str]) -> int:
    if arguments[:1] and arguments[0] in TRAINING:  # LightningCLI reads these arguments itself
        from anytext_lib.training.cli import run

        return run(arguments[0], arguments[1:])
    options = _parse(arguments)
    if options is None:
        return 0
    module, _ = LIBRARY[options.subcommand]
    return getattr(import_module(module), f"run_{options.subcommand}")(options[options.subcommand])


def _parse(arguments: list[str]):
    """The options; None where no command is named, after its help was printed."""
    from argparse import ArgumentError

    from anytext_lib.usage import commands_of, innermost, usage_error

    parser = build_parser(arguments[:1])
    inner, _, rest = innermost(parser, arguments)
    if commands_of(inner) and not rest:
        inner.print_help()
        return None
    try:
        return parser.parse_args(arguments)
    except ArgumentError as error:
        raise usage_error(str(error), parser, arguments) from error


def _name(arguments: list[str]) -> str:
    """Head of a message: the command and its subcommand."""
    if not arguments or arguments[0] not in TRAINING | LIBRARY:
        return "anytext"
    nested = ("course", "data", "evaluate", "udifftext", "db")
    parts = [word for word in arguments[1:2] if arguments[0] in nested and word.isalpha()]
    return " ".join(["anytext", arguments[0], *parts])


def _listen() -> None:
    """Remember Ctrl-C: a library that is interrupted while it is imported may end in any error, much later."""
    import signal

    def press(number: int, frame) -> None:
        if PRESSED:
            import os

            os._exit(INTERRUPTED)
        PRESSED.append(number)
        raise KeyboardInterrupt

    def swallowed(event) -> None:
        """Python drops what is raised in a destructor: Ctrl-C is raised once more, a moment later."""
        if event.exc_type is KeyboardInterrupt:
            import threading

            PRESSED.clear()
            main_thread = threading.main_thread().ident
            threading.Timer(0.1, signal.pthread_kill, [main_thread, signal.SIGINT]).start()
        else:
            sys.__unraisablehook__(event)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, press)
        sys.unraisablehook = swallowed


def _came_of_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C is the reason: imports of C++ and Lightning turn KeyboardInterrupt into errors of their own."""
    if PRESSED:
        return True
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        if isinstance(link, KeyboardInterrupt):
            return True
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return False


if __name__ == "__main__":
    sys.exit(main())
