"""Messages for a command line that cannot be parsed: the fault, the likely intention, where help is."""

from __future__ import annotations

import difflib
import re
from argparse import Action
from collections.abc import Iterable, Sequence

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from anytext_lib.errors import UsageError


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's, with plain names of types: Path, where it has <class 'Path'>."""

    def _get_type_str(self, action: Action) -> str | None:
        told = super()._get_type_str(action)
        return told if told is None else re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", told)


def commands_of(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    """The subcommands of a parser by name; none where it takes none."""
    return {} if parser._subcommands_action is None else dict(parser._subcommands_action._name_parser_map)


def innermost(parser: ArgumentParser, arguments: Sequence[str]) -> tuple[ArgumentParser, list[str], list[str]]:
    """The parser of the command that ``arguments`` begin with, the words of that command, and what follows them."""
    words, rest = [], list(arguments)
    while rest and rest[0] in commands_of(parser):
        parser = commands_of(parser)[rest[0]]
        words.append(rest.pop(0))
    return parser, words, rest


def usage_error(message: str, parser: ArgumentParser, arguments: Sequence[str],
                names: Iterable[str] = ()) -> UsageError:
    """The error to raise where jsonargparse said ``message`` about ``arguments``.

    Args:
        names: options besides those of the parser, with their dashes.
    """
    inner, words, rest = innermost(parser, arguments)
    known = [*names, *(option for action in inner._actions for option in action.option_strings)]
    told = _unknown(message, known) or _wrong_command(message, inner, rest) or _missing(message) \
        or _wrong_value(message) or _squeezed(message)
    end = "" if told.endswith("?") else "."
    return UsageError(f"{told.rstrip('.')}{end} See {' '.join(['anytext', *words])} --help")


def close_to(name: str, known: Iterable[str]) -> str:
    """"; did you mean X?" with the name that resembles ``name`` most, or nothing."""
    found = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _unknown(message: str, known: list[str]) -> str | None:
    """About options that do not exist, on the command line or as keys of a configuration."""
    if said := re.search(r"[Uu]nrecognized arguments: (.*)", message, re.DOTALL):
        given = said[1].split()
        options = [word.partition("=")[0] for word in given if word.startswith("-")]
        if options:
            return f"there is no option {options[0]}{close_to(options[0], known)}"
        return f"{' '.join(given)} cannot be placed: there are more arguments than the command takes"
    if said := re.search(r"(?:Group '([\w.]+)' does|Subcommand '\w+' does|Option|Key) .*?'([\w.]+)'", message):
        key = _plain(f"{said[1]}.{said[2]}" if said[1] else said[2])
        return f"there is no option {key}{close_to(f'--{key}', known).replace('--', '')}"
    return None


def _wrong_command(message: str, parser: ArgumentParser, rest: list[str]) -> str | None:
    commands = list(commands_of(parser))
    if not commands or "subcommand" not in message:
        return None
    given = next((word for word in rest if not word.startswith("-")), None)
    if given is None:
        return f"a command is missing: {', '.join(commands)}"
    return f"there is no command {given}" + (close_to(given, commands) or f"; there are {', '.join(commands)}")


def _missing(message: str) -> str | None:
    said = re.search(r"arguments are required: (.*)", message)
    return f"{', '.join(part.rpartition('.')[2] for part in said[1].split(', '))} is missing" if said else None


def _wrong_value(message: str) -> str | None:
    """About a value of another type than the option's."""
    said = re.search(r'Parser key "([\w.]+)":\s*(.*)', message, re.DOTALL)
    if said is None:
        return None
    key, rest = _plain(said[1]), _squeezed(said[2])
    value = re.search(r"(?:Got value|Given value): (.*?)(?: - |$)", rest)
    wanted = re.search(r"Subtypes: \[(.*?)\] Errors", rest) or re.search(r"Expected an? (.*?)\. Got", rest)
    if value and wanted:
        return f"{key} is {value[1]}, but takes {wanted[1].replace('typing.', '').replace('NoneType', 'null')}"
    if load := re.search(r"Unable to load config '?\"?([^'\"]*)", rest):
        return f"{key} is {load[1]}, but takes a mapping of options to values"
    return f"{key}: {rest}"


def _plain(key: str) -> str:
    """A key as it stands in a configuration, without the command."""
    return re.sub(r"^(fit|validate)\.", "", key)


def _squeezed(message: str) -> str:
    """A message of several lines as one, without Python's names for classes."""
    text = " ".join(re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", message).split())
    return text if len(text) <= 900 else f"{text[:600]} ... {text[-200:]}"
