"""Arguments of fit and validate before LightningCLI sees them: packaged configurations, options by bare names."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from anytext_lib.errors import AnyTextError, MissingFileError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


class ConfigError(AnyTextError, ValueError):
    """A configuration file cannot be read, or is none; the message says which and where."""


def find_config(name: str) -> Path:
    """A configuration: an existing file, or the name of one in the package, with or without .yaml.

    Raises:
        MissingFileError: neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    packaged = CONFIGS / (path.name if path.suffix else f"{path.name}.yaml")
    if len(path.parts) == 1 and packaged.is_file():
        return packaged
    known = ", ".join(sorted(file.name for file in CONFIGS.glob("*.yaml")))
    raise MissingFileError(f"no configuration {name}: give a YAML file, or one of the package: {known}")


def read_config(name: str) -> dict:
    """What a configuration says.

    Raises:
        MissingFileError: see ``find_config``. ConfigError: no YAML, empty, or no mapping of options to values.
    """
    import yaml

    path = find_config(name)
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {path} cannot be read: {getattr(error, 'strerror', None) or error}. "
                          "Give a text file in YAML") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"the configuration {path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        holds = "is empty" if found is None else f"holds a {type(found).__name__}"
        raise ConfigError(f"the configuration {path} {holds}: it needs options with values, as in "
                          f"{CONFIGS / 'mini.yaml'}")
    return found


def configs_in(arguments: Sequence[str]) -> Iterator[str]:
    """The values of --config and -c."""
    for i, argument in enumerate(arguments):
        if argument.startswith("--config="):
            yield argument.partition("=")[2]
        elif argument in ("--config", "-c") and i + 1 < len(arguments):
            yield arguments[i + 1]


def expand(arguments: Sequence[str], sections: dict[str, Iterable[str]]) -> list[str]:
    """Arguments with packaged configurations as paths, and ``--loss_alpha 1`` as ``--model.loss_alpha 1``.

    Args:
        sections: names of options by section; a bare name that two sections have, or that none has, is left alone.
    """
    owner: dict[str, list[str]] = {}
    for section, names in sections.items():
        for name in names:
            owner.setdefault(name, []).append(section)
    done, after_config = [], False
    for argument in arguments:
        if after_config:
            done.append(str(find_config(argument)))
            after_config = False
            continue
        name, equals, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name == "config" and equals:
            done.append(f"--config={find_config(value)}")
        elif argument.startswith("--") and len(owner.get(name, [])) == 1:
            done.append(f"--{owner[name][0]}.{name}{equals}{value}")
        else:
            done.append(argument)
            after_config = argument in ("--config", "-c")
    return done


def option_names(cls: type, but: Iterable[str] = ()) -> list[str]:
    """Names of the arguments of a class, without ``self`` and those in ``but``."""
    return [name for name in inspect.signature(cls.__init__).parameters if name not in {"self", "kwargs", *but}]
